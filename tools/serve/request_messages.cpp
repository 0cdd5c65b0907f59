#include <fmt/format.h>

#include "kernels/error.h"
#include "models/json.h"
#include "tools/serve/request_parts.h"

namespace stamp {
namespace {

using Json = nlohmann::ordered_json;
constexpr size_t kMaxMessages = 16384, kMaxTools = 128;

/// Null, a string, or text parts, which become one string with a line each.
Json read_content(RequestFields& message) {
  const Json* content = message.find("content");
  if (content == nullptr || content->is_string()) return content == nullptr ? Json() : *content;
  if (!content->is_array()) message.fail("content", "must be a string or a list of parts");
  std::string text;
  size_t index = 0;
  for (const Json& item : *content) {
    RequestFields part(item, message.path(fmt::format("content[{}].", index)));
    const std::string type = part.required_string("type");
    if (type == "image_url" || type == "input_audio" || type == "file" || type == "video_url")
      part.fail("type", "is " + type + ", which this model cannot read; only text is supported");
    const char* field = type == "refusal" ? "refusal" : "text";
    if (type != "text" && type != "refusal") part.fail("type", "must be text");
    if (index++ > 0) text += '\n';
    text += part.required_string(field);
    part.finish();
  }
  return text;
}

/// The arguments are JSON in a string on the wire and a value in templates.
Json read_arguments(RequestFields& function) {
  const std::string text = function.required_string("arguments");
  if (text.empty()) return Json::object();
  try {
    Json arguments = parse_ordered_json(text, function.path("arguments"));
    if (!arguments.is_object()) function.fail("arguments", "must be a JSON object");
    return arguments;
  } catch (const InputError& e) {
    throw ApiError(400, e.what(), function.path("arguments"));
  }
}

Json read_tool_calls(RequestFields& message) {
  const Json* calls = message.find("tool_calls");
  if (calls == nullptr) return nullptr;
  if (!calls->is_array()) message.fail("tool_calls", "must be a list");
  Json out = Json::array();
  for (const Json& item : *calls) {
    RequestFields call(item, message.path(fmt::format("tool_calls[{}].", out.size())));
    const std::string id = call.required_string("id");
    if (call.string("type").value_or("function") != "function") call.fail("type", "must be function");
    call.ignore({"index"});
    const Json* body = call.find("function");
    if (body == nullptr) call.fail("function", "is missing");
    RequestFields function(*body, call.path("function."));
    Json name = function.required_string("name");
    Json arguments = read_arguments(function);
    function.finish();
    call.finish();
    out.push_back({{"id", id},
                   {"type", "function"},
                   {"function", {{"name", std::move(name)}, {"arguments", std::move(arguments)}}}});
  }
  return out.empty() ? Json() : out;
}

Json read_message(const Json& item, size_t index) {
  RequestFields message(item, fmt::format("messages[{}].", index));
  std::string role = message.required_string("role");
  if (role == "developer") role = "system";  // the name that templates know
  Json out = {{"role", role}, {"content", read_content(message)}};
  if (role == "assistant") {
    if (Json calls = read_tool_calls(message); !calls.is_null()) out["tool_calls"] = std::move(calls);
    if (auto reasoning = message.string("reasoning_content"))
      out["reasoning_content"] = *std::move(reasoning);
    message.refuse("audio");
    message.refuse("function_call");
    message.ignore({"refusal", "annotations"});
    if (out["content"].is_null() && !out.contains("tool_calls")) message.fail("content", "is missing");
  } else if (role == "tool") {
    out["tool_call_id"] = message.required_string("tool_call_id");
  } else if (role != "system" && role != "user") {
    message.fail("role", "must be system, developer, user, assistant or tool");
  }
  if (role != "assistant" && out["content"].is_null()) message.fail("content", "is missing");
  if (auto name = message.string("name")) out["name"] = *std::move(name);
  message.finish();
  return out;
}

}  // namespace

Json read_messages(RequestFields& fields) {
  const Json* list = fields.find("messages");
  if (list == nullptr) return nullptr;
  if (!list->is_array() || list->empty()) fields.fail("messages", "must be a list of at least one message");
  if (list->size() > kMaxMessages)
    fields.fail("messages",
                fmt::format("has {} messages, at most {} are allowed", list->size(), kMaxMessages));
  Json messages = Json::array();
  for (const Json& item : *list) messages.push_back(read_message(item, messages.size()));
  return messages;
}

Json read_tools(RequestFields& fields) {
  const Json* list = fields.find("tools");
  if (list == nullptr) return nullptr;
  if (!list->is_array()) fields.fail("tools", "must be a list");
  if (list->size() > kMaxTools)
    fields.fail("tools", fmt::format("has {} tools, at most {} are allowed", list->size(), kMaxTools));
  Json tools = Json::array();
  for (const Json& item : *list) {
    RequestFields tool(item, fmt::format("tools[{}].", tools.size()));
    if (tool.required_string("type") != "function") tool.fail("type", "must be function");
    const Json* body = tool.find("function");
    if (body == nullptr) tool.fail("function", "is missing");
    RequestFields function(*body, tool.path("function."));
    function.required_string("name");
    function.string("description");
    function.boolean("strict");
    const Json* parameters = function.find("parameters");
    if (parameters != nullptr && !parameters->is_object())
      function.fail("parameters", "must be a JSON schema, an object");
    function.finish();
    tool.finish();
    tools.push_back(item);
  }
  return tools.empty() ? Json() : tools;
}

Json read_template_variables(RequestFields& fields) {
  const Json* variables = fields.find("chat_template_kwargs");
  if (variables == nullptr) return nullptr;
  if (!variables->is_object()) fields.fail("chat_template_kwargs", "must be an object");
  for (const char* name : {"messages", "tools", "add_generation_prompt"})
    if (variables->contains(name))
      fields.fail("chat_template_kwargs",
                  std::string("may not set ") + name + "; the request has a field for it");
  return *variables;
}

}  // namespace stamp

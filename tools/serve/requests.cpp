#include "tools/serve/requests.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/serve/request_parts.h"

namespace stamp {
namespace {

using Json = nlohmann::ordered_json;

ToolChoice read_tool_choice(RequestFields& fields, const Json& tools) {
  ToolChoice choice{.kind = tools.is_null() ? ToolChoice::Kind::kNone : ToolChoice::Kind::kAuto};
  const Json* value = fields.find("tool_choice");
  if (value == nullptr) return choice;
  if (value->is_string()) {
    const std::string name = value->get<std::string>();
    if (name == "none") choice.kind = ToolChoice::Kind::kNone;
    else if (name == "required") choice.kind = ToolChoice::Kind::kRequired;
    else if (name != "auto") fields.fail("tool_choice", "must be none, auto, required or name a function");
  } else {
    RequestFields inner(*value, "tool_choice.");
    if (inner.required_string("type") != "function") inner.fail("type", "must be function");
    const Json* function = inner.find("function");
    if (function == nullptr) inner.fail("function", "is missing");
    RequestFields named(*function, "tool_choice.function.");
    choice = {.kind = ToolChoice::Kind::kNamed, .name = named.required_string("name")};
    named.finish();
    inner.finish();
    const bool known = std::any_of(tools.begin(), tools.end(),
                                   [&](const Json& tool) { return tool["function"]["name"] == choice.name; });
    if (!known) fields.fail("tool_choice", "names a function that is not in tools");
  }
  if (choice.kind == ToolChoice::Kind::kRequired && tools.is_null())
    fields.fail("tool_choice", "is required, but tools is empty");
  return choice;
}

void read_prompt(RequestFields& fields, int64_t vocab_size, CompletionRequest& request) {
  const Json* prompt = fields.find("prompt");
  if (prompt == nullptr) fields.fail("prompt", "is missing");
  if (prompt->is_string()) {
    request.texts = {prompt->get<std::string>()};
    return;
  }
  const bool list = prompt->is_array() && !prompt->empty();
  if (list && prompt->front().is_number()) {
    request.token_lists = {read_token_ids(*prompt, "prompt", vocab_size)};
    return;
  }
  if (list && int64_t(prompt->size()) > kMaxPrompts)
    fields.fail("prompt", fmt::format("has {} prompts, at most {} are allowed", prompt->size(), kMaxPrompts));
  for (const Json& item : list ? *prompt : Json::array()) {
    if (item.is_string()) request.texts.push_back(item.get<std::string>());
    if (item.is_array()) request.token_lists.push_back(read_token_ids(item, "prompt", vocab_size));
  }
  const size_t understood = std::max(request.texts.size(), request.token_lists.size());
  if (!list || understood != prompt->size())
    fields.fail("prompt", "must be a string, a list of strings, a list of token ids or a list of such lists");
}

}  // namespace

ChatRequest parse_chat_request(std::string_view body, int64_t vocab_size) {
  const Json value = parse_body(body);
  RequestFields fields(value);
  ChatRequest request;
  read_generation_params(fields, vocab_size, request.params);
  if (const auto most = fields.integer("max_completion_tokens", 1, INT32_MAX)) {
    if (request.params.max_tokens && *request.params.max_tokens != *most)
      fields.fail("max_completion_tokens", "and max_tokens differ");
    request.params.max_tokens = most;
  }
  if (request.params.max_tokens == 0) fields.fail("max_tokens", "must be at least 1");
  const auto top = fields.integer("top_logprobs", 0, kMaxTopLogprobs);
  const bool logprobs = fields.boolean("logprobs").value_or(false);
  if (top.value_or(0) > 0 && !logprobs) fields.fail("top_logprobs", "is only allowed with logprobs");
  if (logprobs) request.params.top_logprobs = int(top.value_or(0));
  request.messages = read_messages(fields);
  if (request.messages.is_null()) fields.fail("messages", "is missing");
  request.tools = read_tools(fields);
  request.tool_choice = read_tool_choice(fields, request.tools);
  request.parallel_tool_calls = fields.boolean("parallel_tool_calls").value_or(true);
  request.template_variables = read_template_variables(fields);
  const bool forced = request.tool_choice.kind == ToolChoice::Kind::kRequired ||
                      request.tool_choice.kind == ToolChoice::Kind::kNamed;
  if (forced && request.params.format.kind != ResponseFormat::Kind::kText)
    fields.fail("response_format", "and a tool_choice that forces a call exclude each other");
  fields.refuse("functions");
  fields.refuse("function_call");
  fields.refuse("audio");
  fields.refuse("modalities", Json::array({"text"}));
  fields.refuse("prediction");
  fields.refuse("reasoning_effort");
  fields.refuse("web_search_options");
  fields.refuse("verbosity");
  fields.finish();
  return request;
}

CompletionRequest parse_completion_request(std::string_view body, int64_t vocab_size) {
  const Json value = parse_body(body);
  RequestFields fields(value);
  CompletionRequest request;
  read_generation_params(fields, vocab_size, request.params);
  if (!request.params.max_tokens) request.params.max_tokens = 16;  // OpenAI's default
  request.params.top_logprobs = int(fields.integer("logprobs", 0, kMaxTopLogprobs).value_or(-1));
  read_prompt(fields, vocab_size, request);
  request.echo = fields.boolean("echo").value_or(false);
  request.best_of = fields.integer("best_of", 1, kMaxChoices).value_or(request.params.n);
  if (request.best_of < request.params.n) fields.fail("best_of", "must be at least n");
  if (request.best_of > request.params.n && request.params.stream)
    fields.fail("best_of", "cannot be greater than n with stream: the best is known at the end");
  fields.refuse("suffix");
  fields.finish();
  return request;
}

TokenizeRequest parse_tokenize_request(std::string_view body) {
  const Json value = parse_body(body);
  RequestFields fields(value);
  TokenizeRequest request;
  request.model = fields.string("model").value_or("");
  request.prompt = fields.string("prompt");
  request.messages = read_messages(fields);
  request.tools = read_tools(fields);
  request.template_variables = read_template_variables(fields);
  request.add_special_tokens = fields.boolean("add_special_tokens");
  request.add_generation_prompt = fields.boolean("add_generation_prompt").value_or(true);
  request.return_token_strs = fields.boolean("return_token_strs").value_or(false);
  if (request.prompt.has_value() != request.messages.is_null())
    fields.fail("prompt", "or messages must be given, and not both");
  fields.finish();
  return request;
}

DetokenizeRequest parse_detokenize_request(std::string_view body, int64_t vocab_size) {
  const Json value = parse_body(body);
  RequestFields fields(value);
  DetokenizeRequest request;
  request.model = fields.string("model").value_or("");
  const Json* tokens = fields.find("tokens");
  if (tokens == nullptr || !tokens->is_array()) fields.fail("tokens", "must be a list of token ids");
  request.tokens = read_token_ids(*tokens, "tokens", vocab_size);
  fields.finish();
  return request;
}

}  // namespace stamp

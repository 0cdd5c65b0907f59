#include "models/chat_template.h"

#include <array>

#include "kernels/error.h"
#include "models/json.h"

namespace stamp {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;

constexpr uint64_t kMaxTemplate = uint64_t{4} << 20;
constexpr const char* kNamedTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                        "pad_token", "cls_token", "mask_token"};

/// A token as a string or as {"content": string, ...}; nothing if it is null.
std::optional<std::string> token_text(const JsonFields& fields, const char* name) {
  const Json* value = fields.find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_object()) value = value->contains("content") ? &(*value)["content"] : value;
  if (!value->is_string()) fields.fail(name, "must be a string or an object with a string \"content\"");
  return value->get<std::string>();
}

void read_tokens(const JsonFields& fields, std::map<std::string, std::string>& tokens) {
  for (const char* name : kNamedTokens)
    if (const auto text = token_text(fields, name)) tokens[name] = *text;
}

/// Tokens of the model's own, such as "image_token", as transformers 5 finds them.
void read_own_tokens(const JsonFields& fields, std::map<std::string, std::string>& tokens) {
  for (const auto& [name, value] : fields.object().items())
    if (name.ends_with("_token") && value.is_string()) tokens.emplace(name, value.get<std::string>());
  if (const Json* more = fields.find("extra_special_tokens"); more != nullptr && more->is_object())
    for (const auto& [name, value] : more->items())
      if (value.is_string()) tokens[name] = value.get<std::string>();
}

/// Source texts by name.
std::map<std::string, std::string> template_field(const JsonFields& fields) {
  const Json* value = fields.find("chat_template");
  if (value == nullptr) return {};
  if (value->is_string()) return {{"default", value->get<std::string>()}};
  if (!value->is_array()) fields.fail("chat_template", "must be a string or a list of {name, template}");
  std::map<std::string, std::string> sources;
  for (const Json& entry : *value) {
    const bool valid = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                       entry.contains("template") && entry["template"].is_string();
    if (!valid) fields.fail("chat_template", "has an entry that is not {name, template} with two strings");
    sources[entry["name"].get<std::string>()] = entry["template"].get<std::string>();
  }
  return sources;
}

std::map<std::string, std::string> template_files(const std::filesystem::path& directory) {
  std::map<std::string, std::string> sources;
  if (const auto file = directory / "chat_template.jinja"; std::filesystem::exists(file))
    sources["default"] = read_file(file, kMaxTemplate);
  if (const auto more = directory / "chat_templates"; std::filesystem::is_directory(more))
    for (const auto& entry : std::filesystem::directory_iterator(more))
      if (entry.path().extension() == ".jinja")
        sources[entry.path().stem().string()] = read_file(entry.path(), kMaxTemplate);
  return sources;
}

/// As transformers prepares messages: keys without a value are dropped, and reasoning is found under each of
/// its names.
OrderedJson prepared(const OrderedJson& messages) {
  OrderedJson out = OrderedJson::array();
  for (const auto& message : messages) {
    if (!message.is_object()) throw InputError("messages: each message must be an object");
    OrderedJson fields = OrderedJson::object();
    const OrderedJson* reasoning = nullptr;
    for (const char* name : {"reasoning_content", "thinking", "reasoning"})
      if (reasoning == nullptr && message.contains(name) && !message[name].is_null())
        reasoning = &message[name];
    if (reasoning != nullptr) fields["thinking"] = *reasoning;
    for (const auto& [name, value] : message.items())
      if (!value.is_null()) fields[name] = value;
    if (reasoning != nullptr) fields["reasoning_content"] = *reasoning;
    out.push_back(std::move(fields));
  }
  return out;
}

}  // namespace

std::optional<ChatTemplate> ChatTemplate::load(const std::filesystem::path& directory) {
  ChatTemplate loaded;
  const auto config_file = directory / "tokenizer_config.json";
  std::map<std::string, std::string> sources = template_files(directory);
  loaded.file_ = (directory / "chat_template.jinja").string();
  bool lists_tokens = false;
  if (std::filesystem::exists(config_file)) {
    const Json config = read_json_file(config_file);
    const JsonFields fields(config, config_file.string());
    read_tokens(fields, loaded.special_tokens_);
    read_own_tokens(fields, loaded.special_tokens_);
    lists_tokens = fields.has("added_tokens_decoder");
    if (sources.empty()) {
      sources = template_field(fields);
      loaded.file_ = config_file.string() + ": chat_template";
    }
  }
  // transformers reads the older file only for configurations that do not list their tokens.
  if (const auto file = directory / "special_tokens_map.json";
      !lists_tokens && std::filesystem::exists(file)) {
    const Json map = read_json_file(file);
    read_tokens(JsonFields(map, file.string()), loaded.special_tokens_);
  }
  if (const auto file = directory / "chat_template.json"; sources.empty() && std::filesystem::exists(file)) {
    const Json object = read_json_file(file);
    sources = template_field(JsonFields(object, file.string()));
    loaded.file_ = file.string() + ": chat_template";
  }
  if (sources.empty()) return std::nullopt;
  for (auto& [name, source] : sources) {
    const std::string label = loaded.file_ + (name == "default" ? "" : " \"" + name + "\"");
    loaded.templates_.emplace(name, jinja::Template(std::move(source), label));
  }
  return loaded;
}

const jinja::Template& ChatTemplate::choose(bool with_tools) const {
  auto it = with_tools ? templates_.find("tool_use") : templates_.end();
  if (it == templates_.end()) it = templates_.find("default");
  if (it == templates_.end()) throw InputError(file_ + ": has several templates but none named \"default\"");
  return it->second;
}

std::string ChatTemplate::render(const Inputs& inputs) const {
  if (!inputs.messages.is_array() || inputs.messages.empty())
    throw InputError("messages: must be a list of at least one message");
  OrderedJson variables = OrderedJson::object();
  variables["messages"] = prepared(inputs.messages);
  variables["tools"] = inputs.tools;
  variables["documents"] = nullptr;
  variables["add_generation_prompt"] = inputs.add_generation_prompt;
  for (const auto& [name, text] : special_tokens_) variables[name] = text;
  if (inputs.extra.is_object())
    for (const auto& [name, value] : inputs.extra.items()) variables[name] = value;
  return choose(!inputs.tools.is_null())
      .render(variables, inputs.now.value_or(std::chrono::system_clock::now()));
}

}  // namespace stamp

#include "engine/tool_calls.h"

#include <algorithm>
#include <utility>

#include "engine/grammar/constrain.h"
#include "engine/grammar/json_schema.h"
#include "kernels/error.h"

namespace stamp {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kOpen = "<tool_call>", kClose = "</tool_call>", kMistralMark = "[TOOL_CALLS]";
constexpr std::string_view kSpace = " \t\r\n";
constexpr uint32_t kMaxCalls = 16;  // that a constraint lets follow one another

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// How many of the text's last characters begin `mark`.
size_t partial_end(std::string_view text, std::string_view mark) {
  for (size_t size = std::min(text.size(), mark.size() - 1); size > 0; --size)
    if (text.ends_with(mark.substr(0, size))) return size;
  return 0;
}

constexpr int kMaxNesting = 200;

/// The end of the JSON object or array that begins the text; nothing if it is not there yet, or too deep.
std::optional<size_t> json_end(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\') ++at;
      else if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxNesting) return std::nullopt;
    } else if (c == '}' || c == ']') {
      if (--depth == 0) return at + 1;
    }
  }
  return std::nullopt;
}

const Json& function_of(const Json& tool) {
  const auto function = tool.is_object() ? tool.find("function") : tool.end();
  if (!tool.is_object() || function == tool.end() || !function->is_object() || !function->contains("name") ||
      !(*function)["name"].is_string())
    throw InputError("tools: each must be {\"type\": \"function\", \"function\": {\"name\": ...}}");
  return *function;
}

std::string_view arguments_field(ToolForm form) {
  return form == ToolForm::kLlama ? "parameters" : "arguments";
}

}  // namespace

std::optional<ToolForm> tool_form(std::string_view source) {
  if (contains(source, kOpen)) {
    const bool xml = contains(source, "<function=") || contains(source, "<arg_key>");
    return xml ? std::nullopt : std::optional(ToolForm::kHermes);
  }
  if (contains(source, kMistralMark)) {
    const bool newer = contains(source, "[ARGS]") || contains(source, "[CALL_ID]");
    return newer ? std::nullopt : std::optional(ToolForm::kMistral);
  }
  if (contains(source, "{\"name\": ") && contains(source, "\"parameters\": ")) return ToolForm::kLlama;
  return std::nullopt;
}

std::string_view tool_opening(ToolForm form) { return form == ToolForm::kMistral ? kMistralMark : ""; }

std::unique_ptr<TokenConstraint> constrain_to_tool_calls(const TokenVocabulary& vocabulary, ToolForm form,
                                                         const Json& tools, const ToolDemand& demand) {
  std::vector<grammar::NamedSchema> parameters;
  if (!tools.is_array()) throw InputError("tools: must be a list");
  for (const Json& tool : tools) {
    const Json& function = function_of(tool);
    const std::string name = function["name"];
    if (!demand.name.empty() && name != demand.name) continue;
    Json schema = function.value("parameters", Json());
    if (schema.is_null()) schema = {{"type", "object"}, {"additionalProperties", false}};
    parameters.push_back({name, std::move(schema)});
  }
  if (parameters.empty())
    throw InputError("tools: " +
                     (demand.name.empty() ? "there are none" : "there is none named '" + demand.name + "'"));
  const auto text = [](const std::string& bytes) { return grammar::literal(bytes); };
  const std::string open = std::string(kOpen) + "\n", close = "\n" + std::string(kClose);
  grammar::CallSyntax syntax{.arguments = std::string(arguments_field(form))};
  switch (form) {
    case ToolForm::kHermes:
      syntax.open = text(open);
      syntax.between = text(close + "\n" + open);
      syntax.close = text(close);
      break;
    case ToolForm::kMistral:
      syntax.open = grammar::sequence({grammar::optional(text(" ")), text("[")});
      syntax.between = grammar::sequence({text(","), grammar::optional(text(" "))});
      syntax.close = text("]");
      break;
    case ToolForm::kLlama:
      break;
  }
  syntax.most = demand.parallel && form != ToolForm::kLlama ? kMaxCalls : 1;
  return constrain_to_grammar(vocabulary, "tools", [&] { return grammar_of_calls(parameters, syntax); });
}

ToolCallParser::ToolCallParser(ToolForm form, std::vector<std::string> names, uint64_t seed)
    : form_(form), names_(std::move(names)), random_(seed) {}

ToolCallParser::Piece ToolCallParser::push(std::string_view text) {
  held_ += text;
  Piece piece;
  take(piece, false);
  return piece;
}

ToolCallParser::Piece ToolCallParser::finish() {
  Piece piece;
  take(piece, true);
  piece.content += std::exchange(held_, {});
  return piece;
}

void ToolCallParser::take(Piece& piece, bool last) {
  while (!held_.empty() && (form_ == ToolForm::kHermes ? take_tagged(piece, last) : take_bare(piece, last))) {
  }
}

/// One step; false if more text is needed.
bool ToolCallParser::take_tagged(Piece& piece, bool last) {
  if (trim_) {
    held_.erase(0, std::min(held_.find_first_not_of(kSpace), held_.size()));
    if (held_.empty()) return false;
  }
  const size_t open = held_.find(kOpen);
  if (open != 0) {
    // Text up to the tag, or up to what may be its begin. A line break before a tag belongs to the tag.
    size_t size = open != std::string::npos ? open : held_.size() - (last ? 0 : partial_end(held_, kOpen));
    if (open != std::string::npos || !last) {
      const size_t text = held_.find_last_not_of(kSpace, size == 0 ? 0 : size - 1);
      size = size == 0 ? 0 : text == std::string::npos ? 0 : text + 1;
    }
    if (size > 0) trim_ = false;
    piece.content += held_.substr(0, size);
    held_.erase(0, size);
    if (open == std::string::npos) return false;
    held_.erase(0, held_.find(kOpen));
    return true;
  }
  std::string_view rest = std::string_view(held_).substr(kOpen.size());
  rest.remove_prefix(std::min(rest.find_first_not_of(kSpace), rest.size()));
  if (rest.empty() && !last) return false;
  const auto size = rest.starts_with('{') ? json_end(rest) : std::optional<size_t>(0);
  // A closing tag in a string of the arguments does not close. At the end of the text it may be missing.
  const size_t close = size ? rest.find(kClose, *size) : std::string_view::npos;
  if (close == std::string_view::npos && !last) return false;
  const bool alone = size && rest.find_first_not_of(kSpace, *size) >= std::min(close, rest.size());
  auto call = alone ? read_call(Json::parse(rest.substr(0, *size), nullptr, false)) : std::nullopt;
  const size_t end =
      close == std::string_view::npos ? held_.size() : held_.size() - rest.size() + close + kClose.size();
  trim_ = call.has_value();
  if (call) piece.calls.push_back(std::move(*call));
  else piece.content += held_.substr(0, end);
  held_.erase(0, end);
  return true;
}

bool ToolCallParser::take_bare(Piece& piece, bool last) {
  const auto is_text = [&] {
    text_only_ = true;
    piece.content += std::exchange(held_, {});
    return false;
  };
  if (text_only_) return is_text();
  const size_t begin = held_.find_first_not_of(kSpace);
  if (begin == std::string::npos) return false;
  std::string_view text = std::string_view(held_).substr(begin);
  if (form_ == ToolForm::kMistral && text.starts_with(kMistralMark)) {
    held_.erase(0, begin + kMistralMark.size());
    return true;
  }
  if (form_ == ToolForm::kMistral && !last && kMistralMark.starts_with(text)) return false;
  if (calls_ > 0 && text.front() == ';') {
    held_.erase(0, begin + 1);
    return true;
  }
  if (text.front() != (form_ == ToolForm::kMistral ? '[' : '{')) return is_text();
  const auto size = json_end(text);
  if (!size) return last ? is_text() : false;
  const Json value = Json::parse(text.substr(0, *size), nullptr, false);
  std::vector<ToolCall> calls;
  for (const Json& object : value.is_array() ? value : Json::array({value}))
    if (auto call = read_call(object)) calls.push_back(std::move(*call));
  if (calls.empty() || (value.is_array() && calls.size() != value.size())) return is_text();
  piece.calls.insert(piece.calls.end(), calls.begin(), calls.end());
  held_.erase(0, begin + *size);
  return true;
}

std::optional<ToolCall> ToolCallParser::read_call(const Json& object) {
  if (!object.is_object() || !object.contains("name") || !object["name"].is_string()) return std::nullopt;
  ToolCall call{.name = object["name"]};
  if (std::ranges::count(names_, call.name) == 0) return std::nullopt;
  for (const char* field : {"arguments", "parameters"})
    if (object.contains(field) && object[field].is_object()) {
      call.arguments = object[field].dump();
      call.id = make_id();
      ++calls_;
      return call;
    }
  return std::nullopt;
}

std::string ToolCallParser::make_id() {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  // Mistral's templates take ids of nine letters only.
  std::string id = form_ == ToolForm::kMistral ? "" : "call_";
  for (int left = form_ == ToolForm::kMistral ? 9 : 24; left > 0; --left)
    id += kLetters[random_() % kLetters.size()];
  return id;
}

}  // namespace stamp

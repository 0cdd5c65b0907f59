#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "engine/constraint.h"
#include "engine/grammar/token_vocabulary.h"
#include "models/nlohmann.h"

namespace stamp {

/// How a family of models writes calls of tools:
/// kHermes   <tool_call>\n{"name": "f", "arguments": {...}}\n</tool_call>, any number, text before them
///           (Hermes, Qwen 2.5 and 3, SmolLM2)
/// kLlama    {"name": "f", "parameters": {...}} as the whole text (Llama 3.1 and later)
/// kMistral  [TOOL_CALLS][{"name": "f", "arguments": {...}}, ...] as the whole text (Mistral up to v3);
/// decoding
///           drops the mark, which is a special token
enum class ToolForm { kHermes, kLlama, kMistral };

/// The form that a chat template's text asks the model for; nothing if it has none, or one that is not
/// supported.
std::optional<ToolForm> tool_form(std::string_view template_source);

/// Whether any call is made, or one of a certain tool.
struct ToolDemand {
  std::string name{};    // empty: any of them
  bool parallel = true;  // several calls, where the form has that
};

/// A text that is nothing but calls of the tools, with arguments that are valid for their "parameters".
/// `tools`: [{"type": "function", "function": {"name", "parameters"}}, ...]. The prompt must end with
/// tool_opening(form). Throws InputError naming the tool, as constrain_to_json_schema() does.
std::unique_ptr<TokenConstraint> constrain_to_tool_calls(const TokenVocabulary& vocabulary, ToolForm form,
                                                         const nlohmann::ordered_json& tools,
                                                         const ToolDemand& demand);
/// What the prompt of a text that must be calls ends with, special tokens written out; empty for most.
std::string_view tool_opening(ToolForm form);

struct ToolCall {
  std::string id{};  // random
  std::string name{};
  std::string arguments{};  // JSON text of an object, as generated
};

/// Takes the calls out of a text that arrives in pieces. Text that could still turn out to be a call is held
/// back until that is certain; what looks like a call and is none remains text, as does a call of a tool that
/// there is not.
class ToolCallParser {
 public:
  /// `names`: of the tools that there are. The ids depend on the seed alone.
  ToolCallParser(ToolForm form, std::vector<std::string> names, uint64_t seed);

  struct Piece {
    std::string content{};          // text outside of calls
    std::vector<ToolCall> calls{};  // that are now complete, in order; content is before them
  };
  Piece push(std::string_view text);
  /// No more text comes.
  Piece finish();
  /// How many there were.
  size_t calls() const { return calls_; }

 private:
  void take(Piece& piece, bool last);
  bool take_tagged(Piece& piece, bool last);
  bool take_bare(Piece& piece, bool last);
  std::optional<ToolCall> read_call(const nlohmann::ordered_json& object);
  std::string make_id();

  ToolForm form_;
  std::vector<std::string> names_;
  std::mt19937_64 random_;
  std::string held_;
  bool text_only_ = false;  // of the forms that are the whole text: it is none of them
  bool trim_ = false;       // white space between calls is not text
  size_t calls_ = 0;
};

}  // namespace stamp

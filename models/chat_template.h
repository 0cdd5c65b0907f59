#pragma once
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "models/jinja/template.h"
#include "models/nlohmann.h"

namespace stamp {

/// Turns a conversation into the text that a model was trained on, by the Jinja template that it ships.
/// Equal, byte for byte, to transformers' apply_chat_template(tokenize=False). Rendering changes nothing and
/// is thread-safe.
class ChatTemplate {
 public:
  /// Reads DIR/chat_template.jinja with DIR/chat_templates/*.jinja, else chat_template of
  /// DIR/tokenizer_config.json (a string, or a list of {name, template}), else of DIR/chat_template.json; and
  /// the special tokens of tokenizer_config.json or special_tokens_map.json. Nothing if the model has no
  /// template. Throws InputError for a malformed file; an error in a template itself is thrown by render(),
  /// so that other uses of the model go on.
  static std::optional<ChatTemplate> load(const std::filesystem::path& directory);

  struct Inputs {
    nlohmann::ordered_json messages = nlohmann::ordered_json::array();  // [{role, content, ...}]
    nlohmann::ordered_json tools;                                       // JSON schemas; null: none
    nlohmann::ordered_json
        extra;  // an object of further variables (documents, enable_thinking, ...), or null
    bool add_generation_prompt = true;                         // end with the head of the assistant's message
    std::optional<std::chrono::system_clock::time_point> now;  // what strftime_now sees instead of the clock
  };
  /// Throws InputError "<file>: line <n>: ..." for what the template refuses, cannot do with these messages,
  /// or uses that is not supported.
  std::string render(const Inputs& inputs) const;
  /// The text of the template that renders conversations with tools, or without.
  const std::string& source(bool with_tools) const { return choose(with_tools).source(); }

 private:
  const jinja::Template& choose(bool with_tools) const;

  std::string file_;                                   // for messages
  std::map<std::string, jinja::Template> templates_;   // by name; "default" first of all
  std::map<std::string, std::string> special_tokens_;  // "bos_token" and so on
};

}  // namespace stamp

#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/nlohmann.h"
#include "tools/sampling.h"

namespace stamp {

inline constexpr int64_t kMaxChoices = 16, kMaxStops = 16, kMaxTopLogprobs = 20, kMaxPrompts = 2048;

/// Which form the text must have.
struct ResponseFormat {
  enum class Kind { kText, kJsonObject, kJsonSchema, kRegex };
  Kind kind = Kind::kText;
  nlohmann::ordered_json schema{};  // of kJsonSchema
  std::string regex{};              // of kRegex
};

/// What a chat and a plain completion have in common.
struct GenerationParams {
  std::string model{};  // empty: the one that is served
  SamplingChoice sampling{};
  std::optional<uint64_t> seed{};
  std::optional<int64_t> max_tokens{};
  std::vector<std::string> stops{};
  int64_t n = 1;
  int top_logprobs = -1;  // -1: no logprobs
  bool ignore_eos = false, stream = false, include_usage = false;
  ResponseFormat format{};
};

/// A function that the model may call.
struct ToolChoice {
  enum class Kind { kNone, kAuto, kRequired, kNamed };
  Kind kind = Kind::kAuto;
  std::string name{};  // of kNamed
};

/// The body of POST /v1/chat/completions.
struct ChatRequest {
  GenerationParams params{};
  nlohmann::ordered_json
      messages{};                  // as chat templates expect them: contents are strings, arguments objects
  nlohmann::ordered_json tools{};  // null: none
  ToolChoice tool_choice{};
  bool parallel_tool_calls = true;
  nlohmann::ordered_json template_variables{};  // an object or null
};

/// The body of POST /v1/completions.
struct CompletionRequest {
  GenerationParams params{};
  std::vector<std::string> texts{};                 // one of these two
  std::vector<std::vector<int32_t>> token_lists{};  // is not empty
  int64_t best_of = 1;
  bool echo = false;
};

/// Each reads a body and throws ApiError 400 for anything wrong with it. Token ids are below `vocab_size`.
ChatRequest parse_chat_request(std::string_view body, int64_t vocab_size);
CompletionRequest parse_completion_request(std::string_view body, int64_t vocab_size);

/// The body of POST /tokenize: a prompt, or messages to be put into the chat template.
struct TokenizeRequest {
  std::string model{};
  std::optional<std::string> prompt{};
  nlohmann::ordered_json messages{}, tools{}, template_variables{};
  std::optional<bool> add_special_tokens{};  // true for a prompt, false for messages
  bool add_generation_prompt = true, return_token_strs = false;
};
TokenizeRequest parse_tokenize_request(std::string_view body);

/// The body of POST /detokenize.
struct DetokenizeRequest {
  std::string model{};
  std::vector<int32_t> tokens{};
};
DetokenizeRequest parse_detokenize_request(std::string_view body, int64_t vocab_size);

}  // namespace stamp

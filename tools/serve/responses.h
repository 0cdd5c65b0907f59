#pragma once
#include <span>
#include <string>
#include <vector>

#include "engine/scheduler.h"
#include "models/nlohmann.h"
#include "models/tokenizer.h"

namespace stamp {

/// What every object of one answer repeats.
struct AnswerHead {
  std::string id{};
  int64_t created = 0;
  std::string model{}, fingerprint{};
};

struct Usage {
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  nlohmann::ordered_json json() const;
};

/// OpenAI's finish_reason: "stop" or "length".
const char* finish_reason(GenerateEvent::Finish finish);

/// One chunk or object of a chat completion; `choices` is a list.
nlohmann::ordered_json chat_object(const AnswerHead& head, bool chunk, nlohmann::ordered_json choices);
nlohmann::ordered_json completion_object(const AnswerHead& head, nlohmann::ordered_json choices);
/// A choice in a chunk; `logprobs` may be null, `finish` null while there is more to come.
nlohmann::ordered_json chat_delta(int64_t index, nlohmann::ordered_json delta,
                                  nlohmann::ordered_json logprobs, const char* finish);
/// A choice of a chat completion as a whole.
nlohmann::ordered_json chat_choice(int64_t index, nlohmann::ordered_json message,
                                   nlohmann::ordered_json logprobs, const char* finish);
nlohmann::ordered_json completion_choice(int64_t index, const std::string& text,
                                         nlohmann::ordered_json logprobs, const char* finish);

/// {"content": [{token, logprob, bytes, top_logprobs}]}
nlohmann::ordered_json chat_logprobs(std::span<const TokenLogprob> logprobs, const Tokenizer& tokenizer);

/// The logprobs of plain completions: lists side by side, of tokens that follow each other.
class CompletionLogprobs {
 public:
  /// `top`: how many of the likeliest are shown.
  CompletionLogprobs(const Tokenizer& tokenizer, int top) : tokenizer_(tokenizer), top_(top) {}
  /// A prompt's first token, which nothing predicts.
  void push_first(int32_t token);
  void push(std::span<const TokenLogprob> logprobs);
  /// What was pushed since the last time.
  nlohmann::ordered_json take();

 private:
  void push_token(int32_t token);

  const Tokenizer& tokenizer_;
  int top_;
  int64_t offset_ = 0;  // characters before the next token
  nlohmann::ordered_json tokens_ = nlohmann::ordered_json::array(), logprobs_ = tokens_, tops_ = tokens_,
                         offsets_ = tokens_;
};

/// One server-sent event.
std::string sse_event(const nlohmann::ordered_json& data);
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";

/// As UTF-8, whatever the strings hold.
std::string to_text(const nlohmann::ordered_json& value);

}  // namespace stamp

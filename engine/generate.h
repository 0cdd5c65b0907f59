#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/continuation.h"
#include "engine/session.h"

namespace stamp {

struct GenerateHooks {
  std::function<void(std::string_view piece)> text{};  // whole characters, as soon as they are certain
  std::function<void(int64_t done, int64_t total)> prefill{};  // progress
  const std::atomic<bool>* cancel = nullptr;
};

struct GenerateResult {
  enum class Finish { kStop, kLength, kCancelled };
  std::vector<int32_t> tokens;  // generated, the end-of-sequence token included
  std::string text;
  Finish finish = Finish::kLength;
  int64_t prompt_tokens = 0, reused_tokens = 0;
  int64_t drafted_tokens = 0, accepted_tokens = 0;  // guessed, and guessed right
  double first_token_seconds = 0;                   // from the request to the first token
  double decode_seconds = 0;                        // from the first token to the last
};

const char* finish_name(GenerateResult::Finish finish);  // "stop", "length", "cancelled"

/// Makes the session hold the prompt (reusing what it already has), then decodes. Throws InputError for an
/// empty prompt, parameters out of range, or a prompt that does not fit; ends with kLength when the context
/// is full.
GenerateResult generate(Session& session, const GenerateRequest& request, const GenerateHooks& hooks);

}  // namespace stamp

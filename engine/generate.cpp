#include "engine/generate.h"

#include <chrono>

namespace stamp {

const char* finish_name(GenerateResult::Finish finish) {
  switch (finish) {
    case GenerateResult::Finish::kStop:
      return "stop";
    case GenerateResult::Finish::kLength:
      return "length";
    case GenerateResult::Finish::kCancelled:
      break;
  }
  return "cancelled";
}

GenerateResult generate(Session& session, const GenerateRequest& request, const GenerateHooks& hooks) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  const auto cancelled = [&] { return hooks.cancel != nullptr && hooks.cancel->load(); };
  Continuation text(session.engine(), request);
  GenerateResult result;
  result.prompt_tokens = int64_t(request.prompt.size());
  const auto emit = [&](const std::string& piece) {
    result.text += piece;
    if (!piece.empty() && hooks.text) hooks.text(piece);
  };

  const auto start = Clock::now();
  auto first = start;
  result.reused_tokens = session.reuse(request.prompt);
  std::span<float> logits = session.advance(std::span(request.prompt).subspan(size_t(result.reused_tokens)),
                                            {.progress = hooks.prefill, .cancel = hooks.cancel});
  while (!logits.empty() && !text.finish() && !cancelled()) {
    const std::string piece = text.draw(logits);
    if (text.generated().size() == 1) first = Clock::now();
    emit(piece);
    if (!text.finish() && !cancelled()) logits = session.advance({&text.tokens().back(), 1});
  }
  if (!text.finish() || logits.empty()) {
    result.finish = GenerateResult::Finish::kCancelled;
    emit(text.rest());
  } else if (*text.finish() == Continuation::Finish::kStop) {
    result.finish = GenerateResult::Finish::kStop;
  }
  result.tokens.assign(text.generated().begin(), text.generated().end());
  result.first_token_seconds = seconds(first - start);
  result.decode_seconds = seconds(Clock::now() - first);
  return result;
}

}  // namespace stamp

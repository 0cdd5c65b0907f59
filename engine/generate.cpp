#include "engine/generate.h"

#include <algorithm>
#include <chrono>

#include "engine/stop.h"
#include "kernels/error.h"

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
  Engine& engine = session.engine();
  if (request.prompt.empty()) throw InputError("the prompt is empty: nothing to continue");
  if (request.max_tokens < 0) throw InputError("the number of tokens to generate must not be negative");
  request.sampling.validate(engine.config().vocab_size);
  StopMatcher stop(request.stops);
  StreamDecoder decoder(engine.tokenizer());

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
  std::vector<int32_t> context = request.prompt;
  while (true) {
    if (hooks.cancel != nullptr && hooks.cancel->load()) {
      result.finish = GenerateResult::Finish::kCancelled;
      break;
    }
    if (int64_t(result.tokens.size()) >= request.max_tokens) break;
    const int32_t token = sample(logits, request.sampling, context, request.prompt.size());
    if (result.tokens.empty()) first = Clock::now();
    result.tokens.push_back(token);
    context.push_back(token);
    const auto& eos = engine.generation_config().eos_token_ids;
    if (!request.ignore_eos && std::find(eos.begin(), eos.end(), token) != eos.end()) {
      result.finish = GenerateResult::Finish::kStop;
      break;
    }
    emit(stop.push(decoder.push(token)));
    if (stop.stopped()) {
      result.finish = GenerateResult::Finish::kStop;
      break;
    }
    if (int64_t(result.tokens.size()) >= request.max_tokens) break;  // no logits wanted after the last
    if (int64_t(context.size()) > engine.context()) break;
    logits = session.advance({&token, 1});
  }
  if (!stop.stopped()) {
    emit(stop.push(decoder.finish()));
    emit(stop.finish());
  }
  result.first_token_seconds = seconds(first - start);
  result.decode_seconds = seconds(Clock::now() - first);
  return result;
}

}  // namespace stamp

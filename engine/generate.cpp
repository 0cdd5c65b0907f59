#include "engine/generate.h"

#include <algorithm>
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

/// Tokens after the next one that one pass can take along: its page must not fill, for who reads a page that
/// fills reads its sealed form, and a sealed page cannot be cut.
static int64_t room_for_draft(const Session& session) {
  const auto position = int64_t(session.tokens().size());
  return std::min(kBlock - 2 - position % kBlock, session.engine().context() - position - 1);
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
  Logits* const logits = session.advance(std::span(request.prompt).subspan(size_t(result.reused_tokens)),
                                         {.progress = hooks.prefill, .cancel = hooks.cancel});
  const auto draw = [&](Logits& of_rows, int64_t row) {
    text.wish(of_rows, row);
    const std::string piece = text.draw(of_rows, row);
    if (text.generated().size() == 1) first = Clock::now();
    emit(piece);
  };
  if (logits != nullptr && !text.finish() && !cancelled()) draw(*logits, 0);
  NgramDraft draft;
  std::vector<int32_t> rows;  // the last token and those guessed to follow it
  while (logits != nullptr && !text.finish() && !cancelled()) {
    rows.assign(1, text.tokens().back());
    if (request.draft == Draft::kNgram) {
      const int64_t wanted = request.max_tokens - int64_t(text.generated().size());
      const auto guess = draft.propose(text.tokens(), std::min(wanted - 1, room_for_draft(session)));
      rows.insert(rows.end(), guess.begin(), guess.end());
    }
    const auto guessed = int64_t(rows.size()) - 1;
    int64_t right = 0;
    session.advance_all(rows, 0, int64_t(rows.size()), [&](int64_t, Logits& of_rows) {
      for (;; ++right) {
        draw(of_rows, right);
        if (right == guessed || text.finish() || cancelled() ||
            text.tokens().back() != rows[size_t(right) + 1])
          return;
      }
    });
    session.truncate(int64_t(session.tokens().size()) - (guessed - right));
    if (guessed > 0) draft.judge(guessed, right);
    result.drafted_tokens += guessed;
    result.accepted_tokens += right;
  }
  if (!text.finish() || logits == nullptr) {
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

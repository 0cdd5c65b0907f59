#include "tools/statistics.h"

#include <fmt/format.h>

#include "tools/terminal.h"

namespace stamp {

double prefill_rate(const GenerateResult& r) {
  return r.first_token_seconds > 0 ? double(r.prompt_tokens - r.reused_tokens) / r.first_token_seconds : 0;
}

double decode_rate(const GenerateResult& r) {
  return r.tokens.size() > 1 && r.decode_seconds > 0 ? double(r.tokens.size() - 1) / r.decode_seconds : 0;
}

void print_statistics(Engine& engine, const GenerateResult& r) {
  fmt::print(stderr,
             "load {:.2f} s | prompt {} tokens{}, first token after {:.3f} s ({:.1f} tok/s) | decode {} "
             "tokens, {:.1f} tok/s{} | "
             "peak memory {:.0f} MiB | {} x{}\n",
             engine.load_seconds(), r.prompt_tokens,
             r.reused_tokens > 0 ? fmt::format(" ({} reused)", r.reused_tokens) : "", r.first_token_seconds,
             prefill_rate(r), r.tokens.size(), decode_rate(r),
             r.drafted_tokens > 0
                 ? fmt::format(" ({} of {} guesses right)", r.accepted_tokens, r.drafted_tokens)
                 : "",
             double(peak_rss_bytes()) / 1048576.0, engine.ops().name(), engine.ops().threads());
}

nlohmann::ordered_json statistics_json(Engine& engine, const GenerateResult& r) {
  return {{"text", r.text},
          {"tokens", r.tokens},
          {"finish_reason", finish_name(r.finish)},
          {"prompt_tokens", r.prompt_tokens},
          {"drafted_tokens", r.drafted_tokens},
          {"accepted_tokens", r.accepted_tokens},
          {"load_s", engine.load_seconds()},
          {"first_token_s", r.first_token_seconds},
          {"prefill_tokens_per_second", prefill_rate(r)},
          {"decode_tokens_per_second", decode_rate(r)},
          {"peak_rss_bytes", peak_rss_bytes()},
          {"recipe", engine.recipe().name},
          {"isa", engine.ops().name()},
          {"threads", engine.ops().threads()}};
}

}  // namespace stamp

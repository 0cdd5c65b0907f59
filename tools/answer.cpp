#include "tools/answer.h"

#include "tools/terminal.h"

namespace stamp {
namespace {

/// Multiply-adds of a layer for the first n tokens of a sequence: each meets the weights and the tokens
/// before it.
double work(const ModelConfig& c, int64_t n) {
  const double queries = double(c.heads * c.head_dim), keys = double(c.kv_heads * c.head_dim);
  const double hidden = double(c.hidden_size), tokens = double(n);
  const double weights = hidden * (2 * queries + 2 * keys + 3 * double(c.intermediate_size));
  return tokens * (weights + tokens * queries);
}

}  // namespace

GenerateResult answer_on_terminal(Session& session, const GenerateRequest& request) {
  Progress progress("prefill");
  const auto show = [&](int64_t done, int64_t total) {
    const ModelConfig& config = session.engine().config();
    const int64_t now = int64_t(session.tokens().size()), reused = now - done;
    const double before = work(config, reused);
    const double share = (work(config, now) - before) / (work(config, reused + total) - before);
    progress.update(done, total, {}, share);
  };
  const auto write = [&](std::string_view piece) {
    progress.clear();
    print(piece);
  };
  GenerateResult result =
      generate(session, request, {.text = write, .prefill = show, .cancel = &interrupted()});
  progress.clear();
  print("\n");
  return result;
}

}  // namespace stamp

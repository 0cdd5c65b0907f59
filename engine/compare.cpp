#include "engine/compare.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "engine/session.h"
#include "kernels/error.h"
#include "models/sha256.h"

namespace stamp {
namespace {

constexpr int64_t kRows = 256;  // of logits alive at once, in each engine

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// One pass over the windows of a text by two engines.
class Pass {
 public:
  Pass(Engine& model, Engine& reference) : model_(model), reference_(reference) {}

  /// Appends to the comparison what the window's scored tokens say.
  void score(Comparison& c, std::span<const int32_t> window, int64_t first_scored) {
    model_.truncate(0), reference_.truncate(0);
    PerplexityResult::Chunk of_model, of_reference;
    const int64_t rows =
        std::min({kRows, model_.engine().llama().max_rows(), reference_.engine().llama().max_rows()});
    const int64_t total = int64_t(window.size()) - 1;  // the last token predicts nothing
    for (int64_t begin = 0; begin < total; begin += rows) {
      const auto part = window.subspan(size_t(begin), size_t(std::min(rows, total - begin)));
      const int64_t first = std::clamp<int64_t>(first_scored - 1 - begin, 0, int64_t(part.size()));
      Logits* truth = nullptr;
      reference_.advance_all(part, first, rows, [&](int64_t, Logits& logits) { truth = &logits; });
      model_.advance_all(part, first, rows, [&](int64_t index, Logits& logits) {
        const auto targets = window.subspan(size_t(begin + index + 1), size_t(logits.rows()));
        for (int64_t r = 0; r < logits.rows(); ++r)
          agreements_ += truth->likeliest(r) == logits.likeliest(r) ? 1 : 0;
        // By way of the host: engines need not share a device.
        add_divergences(c, truth->host(), logits.view());
        add_logprobs(of_reference, *truth, targets, reference_logprobs_);
        add_logprobs(of_model, logits, targets, model_logprobs_);
      });
    }
    c.model.chunks.push_back(of_model), c.reference.chunks.push_back(of_reference);
  }

  /// log p of every scored token so far.
  std::span<const float> model_logprobs() const { return model_logprobs_; }
  std::span<const float> reference_logprobs() const { return reference_logprobs_; }
  int64_t agreements() const { return agreements_; }

 private:
  void add_divergences(Comparison& c, Mat<const float> truth, Mat<const float> logits) {
    const size_t before = c.kl.size();
    c.kl.resize(before + size_t(logits.rows));
    model_.engine().ops().kl_divergence(std::span(c.kl).subspan(before), truth, logits);
  }

  static void add_logprobs(PerplexityResult::Chunk& chunk, const Logits& logits,
                           std::span<const int32_t> targets, std::vector<float>& logprobs) {
    const size_t before = logprobs.size();
    logprobs.resize(before + targets.size());
    const std::span<float> added = std::span(logprobs).subspan(before);
    logits.logprobs(added, targets);
    chunk.add(added);
  }

  Session model_, reference_;
  std::vector<float> model_logprobs_, reference_logprobs_;
  int64_t agreements_ = 0;
};

void summarise(Comparison& c, const Pass& pass) {
  const auto n = double(c.kl.size());
  if (c.kl.empty()) return;
  double sum = 0;
  for (float kl : c.kl) sum += double(kl);
  c.kl_mean = sum / n;
  std::vector<float> sorted = c.kl;
  const auto rank = size_t(std::ceil(0.99 * n)) - 1;
  std::nth_element(sorted.begin(), sorted.begin() + ptrdiff_t(rank), sorted.end());
  c.kl_p99 = double(sorted[rank]);
  c.top1_agreement = double(pass.agreements()) / n;
  c.delta_ppl = c.model.ppl - c.reference.ppl;
  // Delta method: a token moves exp(mean a) - exp(mean b) by (ppl_a a_i - ppl_b b_i) / n.
  double mean = 0, square = 0;
  for (size_t i = 0; i < c.kl.size(); ++i) {
    const double x = c.reference.ppl * double(pass.reference_logprobs()[i]) -
                     c.model.ppl * double(pass.model_logprobs()[i]);
    mean += x / n, square += x * x / n;
  }
  if (n > 1) c.delta_ppl_stderr = std::sqrt(std::max(0.0, square - mean * mean) / (n - 1));
}

}  // namespace

Comparison compare(Engine& model, Engine& reference, std::string_view text, const PerplexityOptions& options,
                   const std::function<void(int64_t, int64_t, const Comparison&)>& progress) {
  if (!options.resume.empty()) throw InputError("--resume does not keep comparisons; leave it out");
  const ScoringPlan plan(model, text, options);
  if (plan.tokenizer_sha256 != sha256_file(tokenizer_file(reference.options().model)) ||
      model.config().vocab_size != reference.config().vocab_size)
    throw InputError(reference.options().model.string() + ": has another tokenizer than " +
                     model.options().model.string() + "; distributions cannot be compared");
  Comparison c;
  c.model = c.reference = plan.empty_result();
  Pass pass(model, reference);
  const double start = now();
  int64_t bytes = 0;
  for (size_t i = 0; i < plan.windows.size(); ++i) {
    bytes += plan.scored_bytes(i);
    pass.score(c, plan.window_tokens(i), plan.windows[i].first_scored);
    for (PerplexityResult* result : {&c.model, &c.reference}) {
      result->summarise(bytes);
      result->tokens_evaluated += plan.windows[i].length;
      result->seconds = now() - start;
    }
    summarise(c, pass);
    if (progress) progress(int64_t(i + 1), int64_t(plan.windows.size()), c);
  }
  return c;
}

}  // namespace stamp

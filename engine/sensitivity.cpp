#include "engine/sensitivity.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "engine/inspect.h"
#include "engine/text_pass.h"
#include "kernels/error.h"

namespace stamp {
namespace {

constexpr int64_t kChunk = TextPass::kChunk;
constexpr int64_t kStep = 4;  // tokens for each one whose answer is compared

/// The same text through the model in floats and in other representations, which may share their lower
/// layers.
class Probe {
 public:
  Probe(const ModelConfig& config, const ModelWeights& weights, const SensitivityOptions& options)
      : config_(config), weights_(weights), options_(options), pass_(config) {
    const auto tokens = int64_t(options.tokens.size());
    const int64_t length = TextPass::length(config);
    for (int64_t begin = 0; length > 0 && begin < tokens; begin += length) {
      const int64_t count = std::min(tokens - begin, length);
      if (count > kBlock) answers_ += divide_up(count - kBlock, kStep);
    }
    if (answers_ == 0)
      throw InputError("the text has " + std::to_string(tokens) +
                       " tokens in the model's context; more than " + std::to_string(kBlock) +
                       " are needed: the first block is left out");
    truth_ = Buffer<float>(answers_ * config.vocab_size);
    logits_ = Buffer<float>(kChunk / kStep * config.vocab_size);
    kl_.resize(size_t(kChunk / kStep));
    states_ = Buffer<float>(tokens * config.hidden_size);
    options.ops->embed(states_.mat(tokens, config.hidden_size), options.tokens, weights.embedding);
  }

  /// Keeps the answers that the others are compared with.
  void reference(Llama& llama) {
    run(llama, [&](int64_t first, Mat<const float> logits) {
      std::copy_n(logits.data, logits.rows * logits.cols, truth(first, logits.rows).data);
    });
  }

  /// Mean KL(reference || llama), whose layers below those that advance() was called for are not run again.
  double divergence(Llama& llama) {
    double sum = 0;
    run(llama, [&](int64_t first, Mat<const float> logits) {
      const auto kl = std::span(kl_).first(size_t(logits.rows));
      options_.ops->kl_divergence(kl, truth(first, logits.rows), logits);
      sum = std::accumulate(kl.begin(), kl.end(), sum);
    });
    return sum / double(answers_);
  }

  /// Runs the lowest layer that is left.
  void advance(Llama& llama) {
    each_chunk(llama, [&](const Batch& batch, const KvPages& kv, Mat<float> states) {
      llama.forward_layer(weights_.layers[size_t(layer_)], layer_, kv.layer(layer_), batch);
      const Mat<float> x = llama.residual(states.rows);
      std::copy_n(x.data, states.rows * states.cols, states.data);
    });
    ++layer_;
  }

 private:
  Mat<float> truth(int64_t first, int64_t rows) {
    return truth_.mat(answers_, config_.vocab_size).slice(first, rows);
  }

  /// step(batch, kv, states) for each chunk, whose states are llama's residual stream by then.
  template <typename Step>
  void each_chunk(Llama& llama, const Step& step) {
    int64_t at = 0;
    pass_.run(options_.tokens, [&](std::span<const int32_t> chunk, const RowRun& run, const KvPages& kv) {
      std::vector<int32_t> asked;
      for (int64_t row = run.position == 0 ? kBlock : 0; row < run.count; row += kStep)
        asked.push_back(int32_t(row));
      const Batch batch{.tokens = chunk, .runs = {&run, 1}, .logit_rows = asked};
      const Mat<float> states =
          states_.mat(int64_t(options_.tokens.size()), config_.hidden_size).slice(at, run.count);
      llama.begin(batch);
      std::copy_n(states.data, states.rows * states.cols, llama.residual(run.count).data);
      step(batch, kv, states);
      at += run.count;
    });
  }

  template <typename Take>
  void run(Llama& llama, const Take& take) {
    int64_t answer = 0;
    each_chunk(llama, [&](const Batch& batch, const KvPages& kv, Mat<float>) {
      const Mat<float> logits = logits_.mat(int64_t(batch.logit_rows.size()), config_.vocab_size);
      llama.forward_from(layer_, batch, kv, logits);
      if (logits.rows > 0) take(answer, logits);
      answer += logits.rows;
    });
  }

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const SensitivityOptions& options_;
  TextPass pass_;
  int64_t answers_ = 0, layer_ = 0;  // the layer that turns states_ into the next ones
  Buffer<float> states_;             // [tokens, hidden]
  Buffer<float> truth_;              // [answers, vocab]
  Buffer<float> logits_;             // [kChunk / kStep, vocab]
  std::vector<float> kl_;
};

}  // namespace

Sensitivities measure_sensitivities(const ModelConfig& config, const ModelWeights& weights,
                                    const Recipe& recipe, const SensitivityOptions& options) {
  const int64_t total = config.layers * kSites + 2;
  int64_t done = 0;
  const auto step = [&] {
    if (options.progress) options.progress(++done, total);
  };
  Probe probe(config, weights, options);
  const Recipe floats = float_recipe(recipe);
  Llama exact(config, weights, floats, *options.ops, kChunk);
  probe.reference(exact);
  step();

  Recipe eight = floats;
  eight.activations.quantised = true;
  Llama llama(config, weights, eight, *options.ops, kChunk);
  const double base = probe.divergence(llama);
  step();
  Sensitivities result(size_t(config.layers));
  for (int64_t layer = 0; layer < config.layers; ++layer) {
    for (int s = 0; s < kSites; ++s) {
      const int bits = inspected_plan(recipe, layer, Source(s)).low_bits;
      eight.site_plans = {{{layer, Site(s)}, BitPlan{.low_bits = bits}}};
      result[size_t(layer)][size_t(s)] = std::max(0.0, probe.divergence(llama) - base);
      step();
    }
    eight.site_plans.clear();
    if (layer + 1 < config.layers) probe.advance(llama);
  }
  return result;
}

}  // namespace stamp

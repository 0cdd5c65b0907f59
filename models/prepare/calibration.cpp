#include "models/prepare/calibration.h"

#include <algorithm>
#include <cmath>

#include "kernels/error.h"
#include "models/tokenizer.h"

namespace stamp {
namespace {

constexpr int64_t kPages = Calibration::kLength / kBlock;

/// A uniform number in (0, 1) for a sequence, a position and a token: SplitMix64's finaliser.
double uniform(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return (double((x ^ (x >> 31)) >> 12) + 0.5) * 0x1p-52;
}

/// A draw from the softmax: the largest logit plus Gumbel noise -ln(-ln(u)).
int32_t draw(std::span<const float> logits, uint64_t sequence, uint64_t position) {
  double best = -INFINITY;
  int32_t drawn = 0;
  for (size_t id = 0; id < logits.size(); ++id) {
    const double logit = double(logits[id]);
    const double u = uniform((sequence << 40) ^ (position << 20) ^ uint64_t(id));
    // 1 - u <= -ln(u) and (1 + x / 8)^8 <= e^x: most tokens are out without a logarithm.
    double far = 1 + std::max(0.0, best - logit) / 8;
    far *= far, far *= far, far *= far;
    if ((1 - u) * far >= 1 + 1e-9) continue;
    const double noisy = logit - std::log(-std::log(u));
    if (noisy > best) best = noisy, drawn = int32_t(id);
  }
  return drawn;
}

}  // namespace

Calibration::Calibration(const ModelConfig& config, const ModelWeights& weights, const Recipe& recipe,
                         Ops& ops, ThreadPool& pool, std::span<const int32_t> tokens)
    : config_(config),
      pool_(pool),
      llama_(config, weights, recipe, ops, kLength),
      tokens_(tokens.begin(), tokens.end()) {
  if (int64_t(tokens_.size()) < kLength)
    throw InputError("the calibration text has " + std::to_string(tokens_.size()) +
                     " tokens, GPTQ needs at least " + std::to_string(kLength));
  kv_ = {.open = {},
         .sealed = {},
         .layer_index = 0,
         .kv_heads = config.kv_heads,
         .head_dim = config.head_dim,
         .format = {.coded = recipe.kv.quantised, .plan = recipe.kv.plan}};
  open_storage_ = Buffer<std::byte>(kPages * kv_.open_layer_bytes());
  sealed_storage_ = Buffer<std::byte>(kPages * kv_.sealed_layer_bytes());
  for (int64_t page = 0; page < kPages; ++page) {
    table_.push_back(int32_t(page));
    open_.push_back(open_storage_.data() + page * kv_.open_layer_bytes());
    sealed_.push_back(sealed_storage_.data() + page * kv_.sealed_layer_bytes());
  }
  kv_.open = open_, kv_.sealed = sealed_;
  for (int64_t at = 0; at + kLength <= int64_t(tokens_.size()); at += kLength) {
    const Mat<float> x = llama_.residual(kLength);
    ops.embed(x, std::span(tokens_).subspan(size_t(at), kLength), weights.embedding);
    states_.emplace_back(x.data, x.data + kLength * config.hidden_size);
  }
}

std::array<Hessian, kSites> Calibration::collect(const LayerWeights& layer, int64_t index) {
  std::array<Hessian, kSites> hessians{Hessian(config_.hidden_size),
                                       Hessian(config_.heads * config_.head_dim),
                                       Hessian(config_.hidden_size), Hessian(config_.intermediate_size)};
  std::vector<float> rows;
  llama_.observe({.input =
                      [&](int64_t, Site site, const Llama::Input& in) {
                        rows.assign(size_t(in.values.rows * in.values.cols), 0.0f);
                        for (int64_t r = 0; r < in.values.rows; ++r) {
                          float* row = rows.data() + r * in.values.cols;
                          if (in.quantised == nullptr) {
                            std::copy_n(in.values.row(r), in.values.cols, row);
                            continue;
                          }
                          const QuantMat& q = *in.quantised;
                          for (int64_t c = 0; c < q.cols; ++c)
                            row[c] = q.scale[r] * float(q.q[r * q.stride + c]) + q.offset[r];
                        }
                        hessians[size_t(site)].add(rows.data(), in.values.rows, pool_);
                      },
                  .cache = {}});
  run(layer, index, false);
  llama_.observe({});
  return hessians;
}

void Calibration::advance(const LayerWeights& layer, int64_t index) { run(layer, index, true); }

void Calibration::run(const LayerWeights& layer, int64_t index, bool keep) {
  const RowRun whole{.row = 0, .count = kLength, .position = 0, .pages = table_};
  for (size_t i = 0; i < states_.size(); ++i) {
    const Batch batch{
        .tokens = std::span(tokens_).subspan(i * kLength, kLength), .runs = {&whole, 1}, .logit_rows = {}};
    llama_.begin(batch);
    const Mat<float> x = llama_.residual(kLength);
    std::copy(states_[i].begin(), states_[i].end(), x.data);
    llama_.forward_layer(layer, index, kv_, batch);
    if (keep) std::copy_n(x.data, states_[i].size(), states_[i].begin());
  }
}

std::vector<int32_t> first_tokens(const std::filesystem::path& model, std::string_view text, int64_t most) {
  std::vector<int32_t> tokens =
      Tokenizer::load(model)->encode(text, {.add_special = false, .parse_special = false});
  if (int64_t(tokens.size()) > most) tokens.resize(size_t(most));
  return tokens;
}

std::vector<int32_t> self_written_text(const ModelConfig& config, const ModelWeights& weights, Ops& ops,
                                       int64_t count) {
  const int64_t sequences = std::max<int64_t>(1, count / Calibration::kLength);
  const Recipe exact;
  Llama llama(config, weights, exact, ops, sequences);
  KvPages kv{.open = {},
             .sealed = {},
             .layer_index = 0,
             .kv_heads = config.kv_heads,
             .head_dim = config.head_dim,
             .format = {}};
  const int64_t page_bytes = config.layers * kv.open_layer_bytes();
  Buffer<std::byte> storage(sequences * kPages * page_bytes);
  std::vector<std::byte*> bases;
  std::vector<std::vector<int32_t>> tables(static_cast<size_t>(sequences));
  for (int64_t page = 0; page < sequences * kPages; ++page) {
    bases.push_back(storage.data() + page * page_bytes);
    tables[size_t(page / kPages)].push_back(int32_t(page));
  }
  kv.open = bases;
  std::vector<int32_t> text(size_t(sequences * Calibration::kLength)), step(static_cast<size_t>(sequences)),
      rows(step.size());
  for (int64_t s = 0; s < sequences; ++s) {
    rows[size_t(s)] = int32_t(s);
    step[size_t(s)] = int32_t(uniform(uint64_t(s) + 0x5eed) * double(config.vocab_size));
  }
  Buffer<float> logits(sequences * config.vocab_size);
  for (int64_t position = 0; position < Calibration::kLength; ++position) {
    std::vector<RowRun> runs;
    for (int64_t s = 0; s < sequences; ++s) {
      text[size_t(s * Calibration::kLength + position)] = step[size_t(s)];
      runs.push_back({.row = s, .count = 1, .position = position, .pages = tables[size_t(s)]});
    }
    if (position + 1 == Calibration::kLength) break;
    llama.forward({.tokens = step, .runs = runs, .logit_rows = rows}, kv,
                  logits.mat(sequences, config.vocab_size));
    for (int64_t s = 0; s < sequences; ++s)
      step[size_t(s)] = draw({logits.data() + s * config.vocab_size, size_t(config.vocab_size)}, uint64_t(s),
                             uint64_t(position));
  }
  return text;
}

}  // namespace stamp

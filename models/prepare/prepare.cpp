#include "models/prepare/prepare.h"

#include <algorithm>
#include <array>
#include <deque>
#include <memory>

#include "kernels/error.h"
#include "models/prepare/calibration.h"
#include "models/prepare/dense_layer.h"
#include "models/prepare/gptq.h"
#include "models/prepare/quantize.h"

namespace stamp {
namespace {

/// Seeds of the rotations, apart from each other.
constexpr uint64_t kResidualStream = 0x51;

/// GPTQ's second moments of n channels need many more than n tokens: on SmolLM2 (n up to 1536) 32768 in place
/// of 8192 lower the loss of w4a4kv4-stamp in log perplexity by a seventh.
int64_t self_written_tokens(const ModelConfig& config) {
  return std::clamp(20 * config.widest_input(), int64_t{8192}, int64_t{32768}) / Calibration::kLength *
         Calibration::kLength;
}

std::vector<float> to_floats(const DenseMatrix& m) { return {m.values.begin(), m.values.end()}; }

class Preparation {
 public:
  Preparation(const ModelConfig& config, const ModelWeights& source, const Recipe& recipe,
              const PrepareOptions& options)
      : config_(config),
        source_(source),
        recipe_(recipe),
        options_(options),
        pool_(options.ops != nullptr ? options.ops->threads() : 0) {}

  ModelWeights run() {
    const auto& rotation = recipe_.rotation;
    if (rotation.residual)
      result_.residual_rotation =
          Rotation::random(config_.hidden_size, rotation.seed * 0x100 + kResidualStream);
    if (rotation.head) result_.head_rotation = Rotation::hadamard(config_.head_dim);
    if (rotation.down) result_.down_rotation = Rotation::hadamard(config_.intermediate_size);
    result_.norm = result_.own({source_.norm.begin(), source_.norm.end()});
    const bool tied = source_.embedding.data == source_.lm_head.data;
    result_.embedding = vocabulary(source_.embedding);
    result_.lm_head = tied ? result_.embedding : vocabulary(source_.lm_head);
    if (recipe_.weights.gptq) {
      std::vector<int32_t> tokens(options_.calibration.begin(), options_.calibration.end());
      if (tokens.empty())
        tokens = self_written_text(config_, source_, *options_.ops, self_written_tokens(config_));
      calibration_ = std::make_unique<Calibration>(config_, result_, recipe_, *options_.ops, pool_, tokens);
    }
    const int64_t layers = int64_t(source_.layers.size());
    for (int64_t i = 0; i < layers; ++i) {
      if (options_.progress) options_.progress(i, layers);
      layer(source_.layers[size_t(i)], i);
    }
    if (options_.progress) options_.progress(layers, layers);
    result_.file_bytes = source_.file_bytes;
    return std::move(result_);
  }

 private:
  /// Embedding or head: rows are in the residual stream's channels.
  WeightView vocabulary(const WeightView& weight) {
    DenseMatrix dense = DenseMatrix::from(weight);
    dense.rotate_input(result_.residual_rotation);
    return finish(dense, recipe_.weights.head_bits);
  }

  void layer(const LayerWeights& source, int64_t index) {
    DenseLayer dense = DenseLayer::from(source, result_);
    const auto copy = [&](std::span<const float> x) {
      return result_.own(std::vector<float>(x.begin(), x.end()));
    };
    LayerWeights layer{.input_norm = result_.own(std::move(dense.input_norm)),
                       .q = {},
                       .k = {},
                       .v = {},
                       .q_bias = copy(source.q_bias),
                       .k_bias = copy(source.k_bias),
                       .v_bias = result_.own(std::move(dense.v_bias)),
                       .o = {},
                       .o_bias = result_.own(std::move(dense.o_bias)),
                       .post_attention_norm = result_.own(std::move(dense.post_attention_norm)),
                       .gate = {},
                       .up = {},
                       .gate_bias = copy(source.gate_bias),
                       .up_bias = copy(source.up_bias),
                       .down = {},
                       .down_bias = result_.own(std::move(dense.down_bias))};
    const std::array<std::pair<WeightView*, DenseMatrix*>, 7> matrices{{{&layer.q, &dense.q},
                                                                        {&layer.k, &dense.k},
                                                                        {&layer.v, &dense.v},
                                                                        {&layer.o, &dense.o},
                                                                        {&layer.gate, &dense.gate},
                                                                        {&layer.up, &dense.up},
                                                                        {&layer.down, &dense.down}}};
    constexpr std::array<Site, 7> kInputs{Site::kAttention, Site::kAttention,   Site::kAttention,
                                          Site::kAttended,  Site::kFeedForward, Site::kFeedForward,
                                          Site::kGated};
    const auto& w = recipe_.weights;
    const auto bits_of = [&](const WeightView* view) { return view == &layer.v ? w.value_bits : w.bits; };
    if (calibration_ == nullptr) {
      for (const auto& [view, matrix] : matrices) *view = finish(*matrix, bits_of(view));
    } else {
      // The inputs that the exact layer sees behind quantised ones decide how it is quantised.
      std::deque<std::vector<float>> floats;
      for (const auto& [view, matrix] : matrices)
        *view = {.data = floats.emplace_back(to_floats(*matrix)).data(),
                 .dtype = DType::kF32,
                 .rows = matrix->rows,
                 .cols = matrix->cols};
      auto hessians = calibration_->collect(layer, index);
      std::array<GptqPlan, kSites> plans;
      pool_.parallel_for(kSites, [&](int64_t site, int) {
        plans[size_t(site)] = GptqPlan::from(std::move(hessians[size_t(site)]));
      });
      for (size_t i = 0; i < matrices.size(); ++i) {
        const auto& [view, matrix] = matrices[i];
        *view = result_.own(
            quantize_gptq(*matrix, plans[size_t(kInputs[i])], bits_of(view), w.group, w.symmetric, pool_));
      }
      calibration_->advance(layer, index);
    }
    result_.layers.push_back(layer);
  }

  WeightView finish(DenseMatrix& dense, int bits) {
    if (bits < 16)
      return result_.own(
          quantize_nearest(dense, bits, recipe_.weights.group, recipe_.weights.symmetric, pool_));
    return {.data = result_.own(to_floats(dense)).data(),
            .dtype = DType::kF32,
            .rows = dense.rows,
            .cols = dense.cols};
  }

  const ModelConfig& config_;
  const ModelWeights& source_;
  const Recipe& recipe_;
  const PrepareOptions& options_;
  ThreadPool pool_;
  ModelWeights result_;
  std::unique_ptr<Calibration> calibration_;
};

}  // namespace

ModelWeights prepare_weights(const ModelConfig& config, const ModelWeights& source, const Recipe& recipe,
                             const PrepareOptions& options) {
  return Preparation(config, source, recipe, options).run();
}

}  // namespace stamp

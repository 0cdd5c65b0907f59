#pragma once
#include <array>
#include <filesystem>
#include <memory>
#include <string_view>
#include <vector>

#include "kernels/ops.h"
#include "models/llama.h"
#include "models/prepare/gptq.h"

namespace stamp {

/// Calibration sequences on their way through a model that is being prepared: the residual stream before the
/// next layer.
class Calibration {
 public:
  static constexpr int64_t kLength = 512;  // tokens of a sequence, whole blocks

  /// `weights` have embedding and rotations; `tokens` are cut into sequences of kLength, a rest is dropped.
  Calibration(const ModelConfig& config, const ModelWeights& weights, const Recipe& recipe, Ops& ops,
              ThreadPool& pool, std::span<const int32_t> tokens);

  /// Second moments of the layer's four inputs, quantised as the recipe says, when it runs with these
  /// weights.
  std::array<Hessian, kSites> collect(const LayerWeights& layer, int64_t index);
  /// Runs the layer and keeps its outputs.
  void advance(const LayerWeights& layer, int64_t index);

 private:
  void run(const LayerWeights& layer, int64_t index, bool keep);

  const ModelConfig& config_;
  ThreadPool& pool_;
  Llama llama_;
  std::vector<int32_t> tokens_;
  std::vector<std::vector<float>> states_;  // [sequences][kLength, hidden]
  // A cache of one layer and one sequence.
  std::vector<int32_t> table_;
  Buffer<std::byte> open_storage_, sealed_storage_;
  std::vector<std::byte*> open_, sealed_;
  KvPages kv_;
};

/// The first tokens of a text, at most `most`, as a model reads it: without special tokens.
std::vector<int32_t> first_tokens(const std::filesystem::path& model, std::string_view text, int64_t most);

/// Text that the model writes by itself: `count` tokens in sequences of Calibration::kLength, each drawn at
/// temperature one from a random first token. It resembles what the model was trained on, so no text has to
/// be supplied.
std::vector<int32_t> self_written_text(const ModelConfig& config, const ModelWeights& weights, Ops& ops,
                                       int64_t count);

}  // namespace stamp

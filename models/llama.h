#pragma once
#include <cstdint>
#include <span>

#include "kernels/buffer.h"
#include "kernels/ops.h"
#include "models/config.h"
#include "models/rope.h"
#include "models/weights.h"

namespace stamp {

/// Rows of a forward pass: tokens of one or more sequences, each sequence's rows consecutive (its run).
struct Batch {
  std::span<const int32_t> tokens;      // [rows], every id < vocab_size
  std::span<const RowRun> runs;         // cover the rows in order; their pages already exist
  std::span<const int32_t> logit_rows;  // ascending rows whose logits are wanted, may be empty
};

/// A Llama-family decoder: the mathematics of its layers over the operations of one device.
/// Not thread-safe; one forward pass at a time.
class Llama {
 public:
  /// `max_rows` bounds the rows of a batch and sizes the activations. `ops` and `weights` must outlive this.
  Llama(const ModelConfig& config, const ModelWeights& weights, Ops& ops, int64_t max_rows);

  /// Appends the batch's keys and values to the cache and writes logits [logit_rows.size(), vocab_size].
  void forward(const Batch& batch, const KvPages& kv, Mat<float> logits);

  const ModelConfig& config() const { return config_; }
  int64_t max_rows() const { return max_rows_; }

 private:
  void forward_layer(const LayerWeights& layer, const KvPages& kv, std::span<const RowRun> runs,
                     int64_t rows);

  const ModelConfig& config_;
  const ModelWeights& weights_;
  Ops& ops_;
  Rope rope_;
  int64_t max_rows_;
  // Scratch, named by role, [max_rows, ...].
  Buffer<float> residual_, normed_, q_, k_, v_, attended_, projected_, gate_, up_, cos_, sin_;
};

}  // namespace stamp

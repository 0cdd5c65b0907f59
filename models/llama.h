#pragma once
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/communicator.h"
#include "kernels/ops.h"
#include "models/config.h"
#include "models/recipe.h"
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
  /// `max_rows` bounds the rows of a batch and sizes the activations. `ops` and `weights` must outlive this,
  /// and the weights must have been prepared for the recipe.
  Llama(const ModelConfig& config, const ModelWeights& weights, const Recipe& recipe, Ops& ops,
        int64_t max_rows);

  /// Appends the batch's keys and values to the cache and writes logits [logit_rows.size(), vocab_size].
  void forward(const Batch& batch, const KvPages& kv, Mat<float> logits);

  /// The parts of forward(), for calibration and probing: the residual stream [rows, hidden] that a layer
  /// turns into the next.
  Mat<float> residual(int64_t rows) { return residual_.mat(rows, config_.hidden_size); }
  void begin(const Batch& batch);
  void forward_layer(const LayerWeights& layer, int64_t index, const KvPages& kv, const Batch& batch);
  /// The layers from `first` on, and the head.
  void forward_from(int64_t first, const Batch& batch, const KvPages& kv, Mat<float> logits);

  /// What goes into linears: rows as floats, and as integers if the recipe quantises activations.
  struct Input {
    Mat<const float> values;
    const QuantMat* quantised = nullptr;
  };
  /// Sees every input of every layer, for calibration and reports; `keys` and `values` alike.
  struct Observer {
    std::function<void(int64_t layer, Site site, const Input& input)> input;
    std::function<void(int64_t layer, Mat<const float> keys, Mat<const float> values)> cache;
  };
  void observe(Observer observer) { observer_ = std::move(observer); }
  /// This is one shard of a model (tensor_parallel.h): all of them add up the products of o and of down.
  void join(Communicator& shards) { shards_ = &shards; }

  const ModelConfig& config() const { return config_; }
  int64_t max_rows() const { return max_rows_; }

 private:
  Input input(Mat<const float> values, int64_t layer, Site site);
  Input quantised(Mat<const float> values, const BitPlan& plan, std::span<const RowTile> tiles);
  void linear(std::initializer_list<Product> products, const Input& in);
  void add_to_residual(Mat<float> x, Mat<float> product);
  void embed(Mat<float> x, std::span<const int32_t> tokens);
  void rotate(Mat<float> x, const Rotation& rotation, bool inverse = false);
  void head(const Batch& batch, Mat<float> logits);
  Mat<float> rows_of(Buffer<float>& buffer, int64_t rows, int64_t cols);

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const Recipe& recipe_;
  Ops& ops_;
  Rope rope_;
  int64_t max_rows_;
  Observer observer_;
  Communicator* shards_ = nullptr;
  // Scratch, named by role, [max_rows, ...], in the operations' memory; the angles are the host's. What is
  // attended takes the place of what was normed, and what is projected that of the queries.
  Buffer<float> residual_, normed_, q_, k_, v_, gate_, up_, cos_, sin_;
  Buffer<std::byte> panel_;  // of the embedding, where that stays in its file
  Buffer<uint8_t> integers_;
  Buffer<float> scale_, offset_;
  QuantMat quantised_;
  std::vector<RowTile> coded_tiles_, plain_tiles_, head_tiles_;
};

}  // namespace stamp

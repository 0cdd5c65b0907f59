#pragma once
#include "kernels/cuda/kv_page.cuh"
#include "kernels/cuda/ptx.cuh"

/// What attention over coded pages (attention.cu) and over pages of floats (attention_float.cu) share. Scores
/// are in powers of 2: exp(x) = 2^(x log2 e).
namespace stamp::cuda {

inline constexpr float kLog2E = 1.44269504f;

/// Row of the batch and first channel of a tile's query i.
__device__ __forceinline__ int64_t row_of(const QueryTile& tile, int sharing, int i) {
  return tile.row + (tile.first + i) / sharing;
}
__device__ __forceinline__ int64_t channel_of(const QueryTile& tile, int sharing, int64_t head, int d,
                                              int i) {
  return (head * sharing + (tile.first + i) % sharing) * d;
}

/// Two parts of a softmax as one: the weights of the first's and the second's sums. A part without keys has
/// the greatest score -infinity.
struct Fold {
  float old_weight, new_weight;
};
__device__ __forceinline__ float folded(float sum, float next_sum, const Fold& f) {
  return sum * f.old_weight + next_sum * f.new_weight;
}
__device__ __forceinline__ Fold fold_weights(float top, float next_top) {
  const float high = fmaxf(fmaxf(top, next_top), -1e30f);
  return {exp2_approx(top - high), exp2_approx(next_top - high)};
}
__device__ __forceinline__ Fold fold(float& top, float& total, float next_top, float next_total) {
  const Fold f = fold_weights(top, next_top);
  total = folded(total, next_total, f);
  top = fmaxf(top, next_top);
  return f;
}

template <class T, class Op>
__device__ __forceinline__ T warp_reduce(T x, const Op& op) {
  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2) x = op(x, __shfl_xor_sync(kFullWarp, x, lanes));
  return x;
}

/// Attention over pages of floats; the same as attention() in kernels.h but for the splits' folding. `scale`
/// brings scores to powers of 2.
void attention_float(Mat<float> out, Mat<const float> q, const Cache& cache, const AttentionTiles& tiles,
                     const Partials& partials, float scale, cudaStream_t stream);

}  // namespace stamp::cuda

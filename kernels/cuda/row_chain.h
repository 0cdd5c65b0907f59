#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/kernels.h"

/// Operations on whole rows that follow each other, as one kernel: a block keeps its row in shared memory
/// from the first to the last. In decoding a kernel costs more than what it does to a row.
namespace stamp::cuda {

/// out = rotate(norm(first(a, b))), and its integers. What is absent changes nothing; the order is fixed.
/// Matrices without data are neither read nor written.
struct RowChain {
  enum class First : uint8_t { kNothing, kAdd, kSiluMul };  // a, a + b, silu(a) b

  Mat<float> out{};  // may be `a`
  Mat<const float> a{}, b{};
  First first = First::kNothing;
  Mat<float> kept{};  // first(a, b), beside `out`; may be `a`

  const float* gain = nullptr;  // of an RMS norm, or null
  float eps = 0.0f;

  int rotation_block = 0;  // of a rotation, or 0
  bool inverse = false;
  const float *signs = nullptr, *mix = nullptr;

  Integers integers{};  // of the result, kTokenBits a row; or no data
};

void run(const RowChain& chain, cudaStream_t stream);

/// What has been asked for and is not started yet, because the next operation may join it. Calls come in the
/// order of the operations; flush() before any other work that may touch their operands.
class PendingRows {
 public:
  explicit PendingRows(cudaStream_t stream) : stream_(stream) {}
  void add(Mat<float> x, Mat<const float> y);
  void silu_mul(Mat<float> gate, Mat<const float> up);
  void rms_norm(Mat<float> out, Mat<const float> in, const float* gain, float eps);
  /// `signs` and `mix` may be null.
  void rotate(Mat<float> x, int64_t block, const float* signs, const float* mix, bool inverse);
  void rope(Mat<float> x, Mat<const float> cos, Mat<const float> sin);
  /// Of tiles that are not coded.
  void quantize(const Integers& out, Mat<const float> in);
  void flush();

 private:
  bool chain_ends_in(Mat<const float> x) const;
  void start(const RowChain& chain);

  cudaStream_t stream_;
  RowChain chain_;  // none if a has no data
  Heads heads_;
};

}  // namespace stamp::cuda

#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/kernels.h"
#include "kernels/cuda/row_chain.h"

namespace stamp::cuda {

/// What has been asked for and is not started yet, because the next operation may join it: operations on rows
/// each other (row_chain.h), products what becomes of them (Epilogue), and quantising the norm before it and
/// the splitting of its rows behind it. Calls come in the order of the operations; flush() before any other
/// work that may touch their operands.
class Pending {
 public:
  explicit Pending(cudaStream_t stream) : stream_(stream) {}
  void add(Mat<float> x, Mat<const float> y);
  void silu_mul(Mat<float> gate, Mat<const float> up);
  void rms_norm(Mat<float> out, Mat<const float> in, const float* gain, float eps);
  /// `signs` and `mix` may be null.
  void rotate(Mat<float> x, int64_t block, const float* signs, const float* mix, bool inverse);
  void rope(Mat<float> x, Mat<const float> cos, Mat<const float> sin);
  /// Of tiles that are not coded.
  void quantize(const Integers& out, Mat<const float> in);
  /// Of tiles some of which are.
  void quantize(const Quantize& coded);
  /// Whether `x` is what is still to be quantised.
  bool is_to_quantize(const Integers& x) const;
  /// If `in` is still to be quantised, its own bytes are never written unless out.with_bytes, nor is a norm
  /// that only it needs.
  void split_rows(const SplitRows& out, const Integers& in);
  void linear(const LinearInt& products);
  void flush();

 private:
  bool chain_ends_in(Mat<const float> x) const;
  void start(const RowChain& chain);

  cudaStream_t stream_;
  // At most one of these is there, but that a norm may be before quantising.
  RowChain chain_;  // none if a has no data
  Heads heads_;
  Quantize coded_;    // none if it has no data
  LinearInt linear_;  // none if there are no products
};

}  // namespace stamp::cuda

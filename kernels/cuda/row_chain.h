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
  float* factors = nullptr;  // [rows]: what the norm multiplies a row by, as all there is to write, or null

  int rotation_block = 0;  // of a rotation, or 0
  bool inverse = false;
  const float *signs = nullptr, *mix = nullptr;

  Integers integers{};  // of the result, kTokenBits a row; or no data
};

void run(const RowChain& chain, cudaStream_t stream);

}  // namespace stamp::cuda

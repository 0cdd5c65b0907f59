#pragma once
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/views.h"

/// Small device functions that several kernels share.
namespace stamp::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullWarp = 0xffffffffu;

__device__ __forceinline__ float half_bits_to_float(uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}

/// Weight [row, col] at its float value, whatever its type.
__device__ __forceinline__ float weight_value(const WeightView& w, int64_t row, int64_t col) {
  const int64_t i = row * w.cols + col;
  if (w.dtype == DType::kF32) return static_cast<const float*>(w.data)[i];
  if (w.dtype == DType::kF16) return half_bits_to_float(static_cast<const uint16_t*>(w.data)[i]);
  if (w.dtype == DType::kBF16) {
    const uint32_t bits = uint32_t(static_cast<const uint16_t*>(w.data)[i]) << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
  }
  const auto* panel = static_cast<const uint8_t*>(w.data) + row / kPanel * w.panel_bytes();
  const int64_t channel = row % kPanel;
  if (w.dtype == DType::kQ8)
    return half_bits_to_float(w.scale[row]) * float(int8_t(panel[col / 4 * 64 + channel * 4 + col % 4]));
  const uint8_t byte = panel[col / 8 * 64 + channel * 4 + col % 4];
  const int64_t group = (row / kPanel * w.groups() + col / w.group) * kPanel + channel;
  const float q = float(col % 8 < 4 ? byte & 15 : byte >> 4);
  return half_bits_to_float(w.scale[group]) * (q - float(w.zero[group]) * (1.0f / 16));
}

/// Reduces one value a thread over a block of whole warps, in a fixed order; every thread gets the result.
/// Ends with a barrier, so that `warps` can be used again.
template <class T, class Op>
__device__ __forceinline__ T block_reduce(T value, T (&warps)[kWarpSize], const Op& op) {
  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2)
    value = op(value, __shfl_xor_sync(kFullWarp, value, lanes));
  if (threadIdx.x % kWarpSize == 0) warps[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  value = warps[0];
  for (int warp = 1; warp < int(blockDim.x) / kWarpSize; ++warp) value = op(value, warps[warp]);
  __syncthreads();
  return value;
}

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Max {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

}  // namespace stamp::cuda

#pragma once
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/ptx.cuh"
#include "kernels/views.h"

/// Small device functions that several kernels share.
namespace stamp::cuda {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullWarp = 0xffffffffu;
inline constexpr uint32_t kLowNibbles = 0x0f0f0f0fu;

__device__ __forceinline__ float half_bits_to_float(uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}

/// Of 16 bytes.
__device__ __forceinline__ int32_t sum_of_bytes(const uint4& x) {
  constexpr uint32_t kOnes = 0x01010101u;
  const int32_t first = dp4a_u8_u8(x.x, kOnes, dp4a_u8_u8(x.y, kOnes, 0));
  return dp4a_u8_u8(x.z, kOnes, dp4a_u8_u8(x.w, kOnes, first));
}

/// The logarithm of a weight's group, which is a power of two.
__device__ __forceinline__ int group_bits_of(const WeightView& weight) {
  return __ffs(int(weight.group)) - 1;
}
/// weight.padded_cols() without a division.
__device__ __forceinline__ int depth_of(const WeightView& weight) {
  const int least = max(int(kColAlign), int(weight.group));
  return (int(weight.cols) + least - 1) & -least;
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
  const auto* panel = static_cast<const uint8_t*>(w.data) +
                      row / kPanel * depth_of(w) * (w.dtype == DType::kQ4 ? kPanel / 2 : kPanel);
  const int64_t channel = row % kPanel;
  if (w.dtype == DType::kQ8) return w.scale[row] * float(int8_t(panel[col / 4 * 64 + channel * 4 + col % 4]));
  const uint8_t byte = panel[col / 8 * 64 + channel * 4 + col % 4];
  const int code = col % 8 < 4 ? byte & 15 : byte >> 4;
  const int bits = group_bits_of(w), groups = depth_of(w) >> bits, g = int(col) >> bits;
  const int64_t panel_index = row / kPanel,
                quad = panel_index * divide_up(groups, kZeroGroups) + g / kZeroGroups;
  const int scale = w.group_scale[(panel_index * groups + g) * kPanel + channel],
            zero = w.zero[(quad * kPanel + channel) * kZeroGroups + g % int(kZeroGroups)];
  return w.scale[row] * float(scale * code - zero);
}

__device__ __forceinline__ float silu(float x) { return x / (1.0f + expf(-x)); }

/// An output of integer products before L^-1 and the bias: `sum` of the row's integers and the channel's,
/// their scales, the row's offset, and the sum of the channel's own.
__device__ __forceinline__ float scaled_sum(int32_t sum, float scale, float offset, float weight_scale,
                                            int32_t weight_sum) {
  return weight_scale * fmaf(scale, float(sum), offset * float(weight_sum));
}

/// Channels c .. c + 3 of a row of `cols`, zeros beyond its end; one access where they lie on 16 bytes.
__device__ __forceinline__ bool is_vector(const float* row, int64_t c, int64_t cols) {
  return c + 4 <= cols && reinterpret_cast<uintptr_t>(row + c) % sizeof(float4) == 0;
}
__device__ __forceinline__ float4 load_four(const float* row, int64_t c, int64_t cols) {
  if (is_vector(row, c, cols)) return *reinterpret_cast<const float4*>(row + c);
  return make_float4(c < cols ? row[c] : 0.0f, c + 1 < cols ? row[c + 1] : 0.0f,
                     c + 2 < cols ? row[c + 2] : 0.0f, c + 3 < cols ? row[c + 3] : 0.0f);
}
__device__ __forceinline__ void store_four(float* row, int64_t c, int64_t cols, float4 x) {
  if (is_vector(row, c, cols)) {
    *reinterpret_cast<float4*>(row + c) = x;
    return;
  }
  if (c < cols) row[c] = x.x;
  if (c + 1 < cols) row[c + 1] = x.y;
  if (c + 2 < cols) row[c + 2] = x.z;
  if (c + 3 < cols) row[c + 3] = x.w;
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

/// The largest number of a row, -inf if all are NaN, and whether all are finite; found by a block.
struct RowPeak {
  struct Partials {
    float floats[kWarpSize];
    uint32_t words[kWarpSize];
  };
  float value;
  bool is_finite;

  template <int kThreads>
  static __device__ RowPeak of(const float* x, int64_t cols, Partials& shared) {
    float top = -INFINITY;
    uint32_t magnitude = 0;  // its bits
#pragma unroll 4
    for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
      top = fmaxf(top, x[c]);
      magnitude = max(magnitude, __float_as_uint(fabsf(x[c])));
    }
    top = block_reduce(top, shared.floats, Max{});
    magnitude = block_reduce(magnitude, shared.words, [](uint32_t a, uint32_t b) { return max(a, b); });
    constexpr uint32_t kInfinity = 0x7f800000u;
    return {top, magnitude < kInfinity};
  }
};

}  // namespace stamp::cuda

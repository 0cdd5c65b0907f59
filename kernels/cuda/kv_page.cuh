#pragma once
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"

/// Pages of the cache (views.h, KvSide in quant_format.h) as kernels see them.
namespace stamp::cuda {

/// A head's keys (value 0) or values (1) in a page of floats.
__device__ __forceinline__ float* float_part(const Cache& cache, int64_t page, int64_t head, int64_t value) {
  return reinterpret_cast<float*>(cache.pages[page].open + cache.layer_index * cache.open_layer_bytes) +
         (value * cache.kv_heads + head) * cache.head_dim * kBlock;
}

/// Field by field: a choice of addresses would take both sides to local memory.
__device__ __forceinline__ KvSide side_of(const Cache& cache, bool sealed) {
  KvSide side = cache.open_side;
  if (sealed) {
    side.high_rows = cache.sealed_side.high_rows;
    side.high_bits = cache.sealed_side.high_bits;
    side.low_bits = cache.sealed_side.low_bits;
  }
  return side;
}

/// In a coded page, open or sealed. A head's keys and values follow each other.
__device__ __forceinline__ std::byte* coded_part(const Cache& cache, int64_t page, int64_t head,
                                                 int64_t value, bool sealed) {
  std::byte* const base = sealed ? cache.pages[page].sealed + cache.layer_index * cache.sealed_layer_bytes
                                 : cache.pages[page].open + cache.layer_index * cache.open_layer_bytes;
  return base + (head * 2 + value) * side_of(cache, sealed).bytes();
}

/// Row r of a side is scale * (q - zero).
struct KvParameters {
  float scale, zero;
};
__device__ __forceinline__ KvParameters kv_parameters(const std::byte* part, const KvSide& side, int r) {
  const uint16_t half = reinterpret_cast<const uint16_t*>(part + KvSide::kScales)[r];
  const float steps = float(zero_steps(side.row_bits(r)));
  return {half_bits_to_float(half), float(uint8_t(part[KvSide::kZeros + r])) / steps};
}

/// The nearest binary16 to x >= 0, the largest finite one at most.
__device__ __forceinline__ uint16_t scale_bits(float x) {
  return x < 65504.0f ? __half_as_ushort(__float2half_rn(x)) : uint16_t(0x7bff);
}

/// A row's parameters as a side keeps them.
struct KvRowParameters {
  uint16_t scale;
  uint8_t zero;
};

/// Writes the codes of row r of a side, a warp together, in the order of kernels/cpu/kv_codec.inl. Every lane
/// gets the parameters, which the caller writes for many rows at once: they lie together. Zero lies inside
/// the row's range, so that a zero point is a byte.
__device__ __forceinline__ KvRowParameters write_kv_codes(std::byte* part, const KvSide& side, int r,
                                                          const float* x) {
  const int lane = int(threadIdx.x) % kWarpSize, d = int(side.head_dim), bits = side.row_bits(r);
  float low = 0.0f, high = 0.0f;
  for (int c = lane; c < d; c += kWarpSize) {
    low = fminf(low, x[c]);
    high = fmaxf(high, x[c]);
  }
  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2) {
    low = fminf(low, __shfl_xor_sync(kFullWarp, low, lanes));
    high = fmaxf(high, __shfl_xor_sync(kFullWarp, high, lanes));
  }
  const float steps = float((1 << bits) - 1), unit = float(zero_steps(bits));
  const uint16_t half = scale_bits((high - low) / steps);
  const float scale = half_bits_to_float(half), inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
  const float zero = fminf(255.0f, rintf(-low * inverse * unit)), shift = zero / unit;
  const auto code = [&](int c) {
    return uint8_t(__float2int_rn(fminf(fmaxf(x[c] * inverse + shift, 0.0f), steps)));
  };
  auto* const q = reinterpret_cast<uint8_t*>(part + side.row_offset(r));
  const int row_bytes = int(side.row_bytes(r));
  for (int c = lane; c < row_bytes; c += kWarpSize)
    q[c] = bits > 4 ? code(c) : uint8_t(code(c) | code(c + d / 2) << 4);
  return {half, uint8_t(zero)};
}

/// Code of channel c in a row's bytes.
__device__ __forceinline__ int kv_code(const uint8_t* q, int bits, int c, int d) {
  return bits > 4 ? q[c] : c < d / 2 ? q[c] & 15 : q[c - d / 2] >> 4;
}

}  // namespace stamp::cuda

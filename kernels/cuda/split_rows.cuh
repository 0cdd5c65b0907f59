#pragma once
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"

/// How kernels write SplitRows (kernels.h): a lane has 16 input channels of a row, four neighbouring lanes a
/// line.
namespace stamp::cuda {

inline constexpr int kLine = 64, kLineOfLane = 16;                                // input channels
inline constexpr int kHalfLine = kLine / 2, kHalfRows = int(kBlock) * kHalfLine;  // bytes of a row, of a tile

/// Minus the sum of the lane's line.
__device__ __forceinline__ uint32_t minus_line_sum(const uint4& x) {
  int32_t sum = sum_of_bytes(x);
  sum += __shfl_xor_sync(kFullWarp, sum, 1);
  sum += __shfl_xor_sync(kFullWarp, sum, 2);
  return uint32_t(-sum);
}

/// Of row `row` of a tile; `four`: which of its line's lanes this is. Upper halves are those of wide rows.
__device__ __forceinline__ void store_nibbles(const SplitRows& out, int64_t tile, int64_t line, int row,
                                              int four, bool wide, const uint4& x) {
  constexpr uint32_t kLow = kLowNibbles, kHigh = ~kLow;
  uint8_t* const to = out.nibbles + (tile * out.lines + line) * 2 * kHalfRows + row * kHalfLine + four * 8;
  *reinterpret_cast<uint2*>(to) =
      make_uint2((x.x & kLow) | (x.y << 4 & kHigh), (x.z & kLow) | (x.w << 4 & kHigh));
  if (wide)
    *reinterpret_cast<uint2*>(to + kHalfRows) =
        make_uint2((x.x >> 4 & kLow) | (x.y & kHigh), (x.z >> 4 & kLow) | (x.w & kHigh));
}

/// Where the sums of a row's four lines lie.
__device__ __forceinline__ uint8_t* sums_at(const SplitRows& out, int64_t tile, bool upper, int quad,
                                            int row) {
  const int64_t quads = divide_up(out.lines, kZeroGroups);
  return out.sums + (((tile * 2 + (upper ? 0 : 1)) * quads + quad) * kBlock + row) * kZeroGroups;
}

}  // namespace stamp::cuda

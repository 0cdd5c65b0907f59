#pragma once
#include <cstdint>

#include "kernels/views.h"

/// How an integer product is cut into blocks: chosen on the host by its shape.
namespace stamp::cuda {

/// What plans depend on.
struct Device {
  int compute_capability = 80;  // 10 * major + minor
  int64_t multiprocessors = 108;
};

/// Up to as many rows are multiplied without tensor cores (linear_few.cu): a tile of 64 would be mostly
/// empty.
inline constexpr int kFewRows = 8;

/// Which tensor-core instruction multiplies.
enum class MmaPath : uint8_t {
  kEight,  // 8-bit operands; 4-bit weights are unpacked in registers
  kFour    // 4-bit operands; rows of 8-bit coefficients as two rows of nibbles
};

inline constexpr int kWarpChannels = 32;

/// A block of an integer product is a grid of warps, each of kWarpChannels output channels times column_tiles
/// tiles of eight rows.
struct BlockShape {
  int row_warps, channel_warps, column_tiles;
  STAMP_INLINE constexpr int rows() const { return row_warps * column_tiles * 8; }  // whole tiles of kBlock
  STAMP_INLINE constexpr int channels() const { return channel_warps * kWarpChannels; }
  STAMP_INLINE constexpr int threads() const { return row_warps * channel_warps * 32; }
};
enum class BlockSize : uint8_t {
  kLarge,   // 128 rows, 192 channels: reads least
  kMedium,  // 64 rows, 64 channels
  kSmall    // 64 rows, 32 channels
};
STAMP_INLINE constexpr BlockShape shape_of(BlockSize size) {
  return size == BlockSize::kLarge    ? BlockShape{2, 6, 8}
         : size == BlockSize::kMedium ? BlockShape{2, 2, 4}
                                      : BlockShape{4, 1, 2};
}

struct TilePlan {
  MmaPath path = MmaPath::kEight;
  BlockSize size = BlockSize::kLarge;
  bool operator==(const TilePlan&) const = default;
};

/// For `tiles` row tiles times `weight`. 4-bit products where the hardware has them (sm_80 to sm_89) and a
/// group of input channels is one of their 64. Few blocks are made smaller, so that more multiprocessors
/// work. Neither choice changes a bit of the result.
inline TilePlan plan_linear(int64_t tiles, const WeightView& weight, const Device& device) {
  TilePlan plan;
  if (weight.dtype == DType::kQ4 && weight.group == 64 && device.compute_capability < 90)
    plan.path = MmaPath::kFour;
  // Time is the outputs of a multiprocessor's blocks, for as often as it gets new ones, and what smaller
  // blocks lose.
  struct Choice {
    BlockSize size;
    int64_t resident, cost;  // of an output, in tenths
  };
  int64_t least = 0;
  for (const auto& [size, resident, cost] :
       {Choice{BlockSize::kLarge, 1, 10}, Choice{BlockSize::kMedium, 3, 14},
        Choice{BlockSize::kSmall, 3, 20}}) {
    const BlockShape shape = shape_of(size);
    const int64_t blocks = divide_up(tiles, shape.rows() / kBlock) * divide_up(weight.rows, shape.channels());
    const int64_t time = divide_up(blocks, resident * device.multiprocessors) * resident * cost *
                         shape.rows() * shape.channels();
    if (least == 0 || time < least) least = time, plan.size = size;
  }
  return plan;
}

}  // namespace stamp::cuda

#pragma once
#include <cstdint>

#include "kernels/views.h"

/// Integer products, and how they are cut into blocks: chosen on the host by their shapes.
namespace stamp::cuda {

/// What plans depend on.
struct Device {
  int compute_capability = 80;  // 10 * major + minor
  int64_t multiprocessors = 108;
  int64_t shared_bytes = 163 << 10;  // that a block may have
  bool wgmma = false;                // the instruction, and code for it
};

/// Up to as many rows are multiplied without tensor cores (linear_few.cu): a tile of 64 would be mostly
/// empty.
inline constexpr int kFewRows = 8;

/// Which tensor-core instruction multiplies.
enum class MmaPath : uint8_t {
  kEight,  // 8-bit operands; 4-bit weights are unpacked in registers
  kFour,   // 4-bit operands; rows of 8-bit coefficients as two rows of nibbles
  kWgmma   // 8-bit operands of four warps together, for many rows (linear_wgmma.cu)
};

/// Products of one input, with weights of one type and group.
struct LinearProduct {
  Mat<float> out;
  WeightView weight;
  const float* bias = nullptr;  // or null
};
/// What becomes of products.
enum class Epilogue : uint8_t {
  kStore,   // out = product
  kAdd,     // out += product
  kSiluMul  // out = silu(product) * the second product; a block has as many channels of either
};
struct LinearProducts {
  static constexpr int kMost = 4;
  LinearProduct one[kMost];
  int count = 0;
  Epilogue epilogue = Epilogue::kStore;  // of all; kSiluMul takes two of one shape

  STAMP_INLINE bool paired() const { return epilogue == Epilogue::kSiluMul; }
  /// Their blocks of `channels` output channels, product after product.
  STAMP_INLINE int64_t blocks(int64_t channels) const {
    if (paired()) return divide_up(one[0].weight.rows, channels / 2);
    int64_t sum = 0;
    for (int i = 0; i < count; ++i) sum += divide_up(one[i].weight.rows, channels);
    return sum;
  }
  struct Place {
    int product;
    int64_t block;  // of the product
  };
  STAMP_INLINE Place place(int64_t block, int64_t channels) const {
    if (paired()) return {0, block};
    int i = 0;
    for (int64_t own; block >= (own = divide_up(one[i].weight.rows, channels)); ++i) block -= own;
    return {i, block};
  }
};

inline constexpr int kWarpChannels = 32, kLinearWarps = 4;   // of a warp, of a block
inline constexpr int kWgmmaChannels = 128, kWgmmaWarps = 8;  // of a block
inline constexpr int kResidentBlocks = 3;                    // of a multiprocessor

/// A block is one tile of rows times channel_warps * kWarpChannels output channels; its four warps share the
/// rows where they do not share the channels. With wgmma it is row_tiles tiles times kWgmmaChannels.
struct TilePlan {
  MmaPath path = MmaPath::kEight;
  int channel_warps = 4;  // or 2, or 1
  int row_tiles = 1;      // of wgmma 2 or 4
  STAMP_INLINE int channels() const {
    return path == MmaPath::kWgmma ? kWgmmaChannels : channel_warps * kWarpChannels;
  }
  STAMP_INLINE int warps() const { return path == MmaPath::kWgmma ? kWgmmaWarps : kLinearWarps; }
  bool operator==(const TilePlan&) const = default;
};
/// Fewer input channels with a scale and zero point of their own are left to mma.sync.
inline constexpr int64_t kWgmmaLeastGroup = 64;
STAMP_INLINE bool wgmma_takes(const WeightView& weight) {
  return weight.dtype == DType::kQ8 || weight.group >= kWgmmaLeastGroup;
}
/// Blocks with wgmma that a multiprocessor has registers and shared memory for.
STAMP_INLINE constexpr int resident_wgmma_blocks(int weight_bits, int row_tiles) {
  return weight_bits == 4 && row_tiles == 2 ? 2 : 1;
}

/// For mma.sync: 4-bit products where the hardware has them (sm_80 to sm_89), a group of input channels is
/// one of their 64, and rows have no more bits, those of coded blocks for the most part: others take two
/// products of nibbles, as long as one of bytes, and their scaling on top.
inline MmaPath mma_path(const WeightView& weight, bool any_coded, const BitPlan& rows, const Device& device) {
  const bool nibbles = any_coded && rows.low_bits <= 4;
  return weight.dtype == DType::kQ4 && weight.group == 64 && nibbles && device.compute_capability < 90
             ? MmaPath::kFour
             : MmaPath::kEight;
}

/// Rows of a tile, from its first on, that MmaPath::kFour takes for wide, of more than four bits: none, the
/// first eight or all.
STAMP_INLINE int wide_rows(bool coded, const BitPlan& plan) {
  if (!coded || plan.low_bits > 4) return int(kBlock);
  const int wide = plan.high_bits > 4 ? plan.high_rows : 0;
  return wide > 8 ? int(kBlock) : wide > 0 ? 8 : 0;
}

/// For `tiles` row tiles. Wide blocks do least work for an output, narrow ones occupy more multiprocessors.
/// Neither this choice nor the path changes a bit of the result.
inline TilePlan plan_linear(int64_t tiles, const LinearProducts& products, const Device& device,
                            bool any_coded, const BitPlan& rows) {
  // Times of one, two and three blocks that share a multiprocessor, in us on an H100 for 4096 input channels
  // (tests/bench/cuda_products.cpp); for others they are in proportion. Those of mma.sync were measured with
  // a loop that scaled the sums of every group in floats. Those of wgmma are what the second-level cache can
  // bring; 2048 rows of 8B's products took 96, 296 and 233 us where these say 84, 294 and 294.
  struct Choice {
    TilePlan plan;
    int resident, times[kResidentBlocks];
  };
  const WeightView& weight = products.one[0].weight;
  const MmaPath path = mma_path(weight, any_coded, rows, device);
  const int bits = weight.dtype == DType::kQ4 ? 4 : 8;
  const auto wgmma = [&](int row_tiles) { return TilePlan{MmaPath::kWgmma, kLinearWarps, row_tiles}; };
  const Choice choices[] = {{{path, 4}, 3, {34, 50, 72}},
                            {{path, 2}, 3, {22, 33, 46}},
                            {{path, 1}, 3, {17, 22, 33}},
                            {wgmma(2), resident_wgmma_blocks(bits, 2), {26, 50}},
                            {wgmma(4), resident_wgmma_blocks(bits, 4), {42}}};
  TilePlan best;
  int64_t least = 0;
  for (const auto& [plan, resident, times] : choices) {
    if (plan.path == MmaPath::kWgmma && !(device.wgmma && wgmma_takes(weight))) continue;
    // Half of a narrow block's channels would be half of what a warp writes.
    if (products.paired() && plan.channel_warps == 1) continue;
    const int64_t blocks = divide_up(tiles, plan.row_tiles) * products.blocks(plan.channels()),
                  wave = resident * device.multiprocessors,
                  rest = divide_up(blocks % wave, device.multiprocessors);
    const int64_t time = blocks / wave * times[resident - 1] + (rest > 0 ? times[rest - 1] : 0);
    if (least == 0 || time < least) least = time, best = plan;
  }
  return best;
}

}  // namespace stamp::cuda

#pragma once
#include <cstdint>

#include "kernels/views.h"

/// How an integer product is cut into blocks: chosen on the host by its shape.
namespace stamp::cuda {

/// Fewer leave multiprocessors idle: an A100 has as many.
inline constexpr int64_t kEnoughBlocks = 108;

/// Up to as many rows are multiplied without tensor cores (linear_few.cu): a tile of 64 would be mostly
/// empty.
inline constexpr int kFewRows = 8;

/// Which tensor-core instruction multiplies.
enum class MmaPath : uint8_t {
  kEight,  // 8-bit operands; 4-bit weights are unpacked in registers
  kFour    // 4-bit operands; rows of 8-bit coefficients as two rows of nibbles
};

struct TilePlan {
  MmaPath path = MmaPath::kEight;
  int panels = 4;  // of kPanel output channels, a warp each
  bool operator==(const TilePlan&) const = default;
};

/// For `tiles` row tiles times `weight`. 4-bit products where the hardware has them (sm_80 to sm_89) and a
/// group of input channels is a whole number of their 64. Few blocks are made narrower, so that more
/// multiprocessors read weights. Neither choice changes a bit of the result.
inline TilePlan plan_linear(int64_t tiles, const WeightView& weight, int compute_capability) {
  TilePlan plan;
  if (weight.dtype == DType::kQ4 && weight.group % 64 == 0 && compute_capability < 90)
    plan.path = MmaPath::kFour;
  if (tiles * ((weight.panels() + 3) / 4) < kEnoughBlocks) plan.panels = 1;
  return plan;
}

}  // namespace stamp::cuda

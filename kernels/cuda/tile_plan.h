#pragma once
#include <cstdint>

#include "kernels/views.h"

/// How an integer product is cut into blocks: chosen on the host by its shape.
namespace stamp::cuda {

/// What plans depend on.
struct Device {
  int compute_capability = 80;  // 10 * major + minor
  int64_t multiprocessors = 108;
  int64_t shared_bytes = 163 << 10;  // that a block may have
};

/// Up to as many rows are multiplied without tensor cores (linear_few.cu): a tile of 64 would be mostly
/// empty.
inline constexpr int kFewRows = 8;

/// Which tensor-core instruction multiplies.
enum class MmaPath : uint8_t {
  kEight,  // 8-bit operands; 4-bit weights are unpacked in registers
  kFour    // 4-bit operands; rows of 8-bit coefficients as two rows of nibbles
};

inline constexpr int kWidePanels = 8;
struct TilePlan {
  MmaPath path = MmaPath::kEight;
  int panels = kWidePanels;  // of kPanel output channels, or one
  bool operator==(const TilePlan&) const = default;
};

/// For `tiles` row tiles times `weight`. 4-bit products where the hardware has them (sm_80 to sm_89) and a
/// group of input channels is one of their 64. Few blocks are made narrower, so that more multiprocessors
/// read weights. Neither choice changes a bit of the result.
inline TilePlan plan_linear(int64_t tiles, const WeightView& weight, const Device& device) {
  TilePlan plan;
  if (weight.dtype == DType::kQ4 && weight.group == 64 && device.compute_capability < 90)
    plan.path = MmaPath::kFour;
  if (tiles * ((weight.panels() + kWidePanels - 1) / kWidePanels) < device.multiprocessors) plan.panels = 1;
  return plan;
}

}  // namespace stamp::cuda

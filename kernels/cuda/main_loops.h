#pragma once
#include "kernels/cuda/tile_plan.h"

/// How many instructions the compiler makes of the integer products' main loop.
namespace stamp::cuda {

/// A warp's instructions for one stage in linear_int.cu: all of the loop, also what narrow rows skip.
struct MainLoop {
  int compute_capability;  // 10 * major + minor
  MmaPath path;
  int group;  // of 4-bit weights; 0: 8-bit ones
  BlockSize size;
  int instructions;
};

// clang-format off
/// Counted in the SASS; every run of compile_check.py compares these lines.
inline constexpr MainLoop kMainLoops[] = {
// recorded by tests/cuda_on_host/compile_check.py --record
    {80, MmaPath::kEight, 0, BlockSize::kLarge, 99},
    {80, MmaPath::kEight, 0, BlockSize::kMedium, 84},
    {80, MmaPath::kEight, 0, BlockSize::kSmall, 144},
    {80, MmaPath::kEight, 32, BlockSize::kLarge, 570},
    {80, MmaPath::kEight, 32, BlockSize::kMedium, 358},
    {80, MmaPath::kEight, 32, BlockSize::kSmall, 246},
    {80, MmaPath::kEight, 64, BlockSize::kLarge, 347},
    {80, MmaPath::kEight, 64, BlockSize::kMedium, 231},
    {80, MmaPath::kEight, 64, BlockSize::kSmall, 167},
    {80, MmaPath::kEight, 128, BlockSize::kLarge, 427},
    {80, MmaPath::kEight, 128, BlockSize::kMedium, 283},
    {80, MmaPath::kEight, 128, BlockSize::kSmall, 213},
    {80, MmaPath::kFour, 64, BlockSize::kLarge, 668},
    {80, MmaPath::kFour, 64, BlockSize::kMedium, 391},
    {80, MmaPath::kFour, 64, BlockSize::kSmall, 233},
    {89, MmaPath::kEight, 0, BlockSize::kLarge, 99},
    {89, MmaPath::kEight, 0, BlockSize::kMedium, 84},
    {89, MmaPath::kEight, 0, BlockSize::kSmall, 140},
    {89, MmaPath::kEight, 32, BlockSize::kLarge, 570},
    {89, MmaPath::kEight, 32, BlockSize::kMedium, 358},
    {89, MmaPath::kEight, 32, BlockSize::kSmall, 246},
    {89, MmaPath::kEight, 64, BlockSize::kLarge, 347},
    {89, MmaPath::kEight, 64, BlockSize::kMedium, 231},
    {89, MmaPath::kEight, 64, BlockSize::kSmall, 167},
    {89, MmaPath::kEight, 128, BlockSize::kLarge, 427},
    {89, MmaPath::kEight, 128, BlockSize::kMedium, 283},
    {89, MmaPath::kEight, 128, BlockSize::kSmall, 213},
    {89, MmaPath::kFour, 64, BlockSize::kLarge, 682},
    {89, MmaPath::kFour, 64, BlockSize::kMedium, 393},
    {89, MmaPath::kFour, 64, BlockSize::kSmall, 233},
    {90, MmaPath::kEight, 0, BlockSize::kLarge, 101},
    {90, MmaPath::kEight, 0, BlockSize::kMedium, 84},
    {90, MmaPath::kEight, 0, BlockSize::kSmall, 146},
    {90, MmaPath::kEight, 32, BlockSize::kLarge, 570},
    {90, MmaPath::kEight, 32, BlockSize::kMedium, 358},
    {90, MmaPath::kEight, 32, BlockSize::kSmall, 246},
    {90, MmaPath::kEight, 64, BlockSize::kLarge, 347},
    {90, MmaPath::kEight, 64, BlockSize::kMedium, 234},
    {90, MmaPath::kEight, 64, BlockSize::kSmall, 168},
    {90, MmaPath::kEight, 128, BlockSize::kLarge, 413},
    {90, MmaPath::kEight, 128, BlockSize::kMedium, 283},
    {90, MmaPath::kEight, 128, BlockSize::kSmall, 212},
// end of what is recorded
};
// clang-format on

/// That of the newest architecture recorded that is not newer than the device.
inline const MainLoop& main_loop(int compute_capability, MmaPath path, int64_t group, BlockSize size) {
  const MainLoop* best = kMainLoops;
  for (const MainLoop& loop : kMainLoops)
    if (loop.path == path && loop.group == group && loop.size == size &&
        loop.compute_capability <= compute_capability)
      best = &loop;  // they are sorted
  return *best;
}

}  // namespace stamp::cuda

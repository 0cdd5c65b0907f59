#pragma once
#include "kernels/cuda/tile_plan.h"

/// How many instructions the compiler makes of the integer products' main loop.
namespace stamp::cuda {

/// A warp's instructions for one stage in linear_int.cu: all of the loop, also what rows of four bits, and
/// what others, skip.
struct MainLoop {
  int compute_capability;  // 10 * major + minor
  MmaPath path;
  int group;  // of 4-bit weights; 0: 8-bit ones
  int channel_warps;
  int instructions;
};

// clang-format off
/// Counted in the SASS; every run of compile_check.py compares these lines.
inline constexpr MainLoop kMainLoops[] = {
// recorded by tests/cuda_on_host/compile_check.py --record
    {80, MmaPath::kEight, 0, 1, 113},
    {80, MmaPath::kEight, 0, 2, 78},
    {80, MmaPath::kEight, 0, 4, 104},
    {80, MmaPath::kEight, 32, 1, 243},
    {80, MmaPath::kEight, 32, 2, 356},
    {80, MmaPath::kEight, 32, 4, 579},
    {80, MmaPath::kEight, 64, 1, 171},
    {80, MmaPath::kEight, 64, 2, 230},
    {80, MmaPath::kEight, 64, 4, 356},
    {80, MmaPath::kEight, 128, 1, 214},
    {80, MmaPath::kEight, 128, 2, 277},
    {80, MmaPath::kEight, 128, 4, 435},
    {80, MmaPath::kFour, 64, 1, 231},
    {80, MmaPath::kFour, 64, 2, 388},
    {80, MmaPath::kFour, 64, 4, 684},
    {89, MmaPath::kEight, 0, 1, 113},
    {89, MmaPath::kEight, 0, 2, 78},
    {89, MmaPath::kEight, 0, 4, 104},
    {89, MmaPath::kEight, 32, 1, 243},
    {89, MmaPath::kEight, 32, 2, 356},
    {89, MmaPath::kEight, 32, 4, 579},
    {89, MmaPath::kEight, 64, 1, 171},
    {89, MmaPath::kEight, 64, 2, 230},
    {89, MmaPath::kEight, 64, 4, 358},
    {89, MmaPath::kEight, 128, 1, 214},
    {89, MmaPath::kEight, 128, 2, 277},
    {89, MmaPath::kEight, 128, 4, 436},
    {89, MmaPath::kFour, 64, 1, 231},
    {89, MmaPath::kFour, 64, 2, 390},
    {89, MmaPath::kFour, 64, 4, 698},
    {90, MmaPath::kEight, 0, 1, 136},
    {90, MmaPath::kEight, 0, 2, 86},
    {90, MmaPath::kEight, 0, 4, 112},
    {90, MmaPath::kEight, 32, 1, 250},
    {90, MmaPath::kEight, 32, 2, 362},
    {90, MmaPath::kEight, 32, 4, 585},
    {90, MmaPath::kEight, 64, 1, 178},
    {90, MmaPath::kEight, 64, 2, 239},
    {90, MmaPath::kEight, 64, 4, 363},
    {90, MmaPath::kEight, 128, 1, 221},
    {90, MmaPath::kEight, 128, 2, 283},
    {90, MmaPath::kEight, 128, 4, 435},
// end of what is recorded
};
// clang-format on

/// That of the newest architecture recorded that is not newer than the device.
inline const MainLoop& main_loop(int compute_capability, const TilePlan& plan, int64_t group) {
  const MainLoop* best = kMainLoops;
  for (const MainLoop& loop : kMainLoops)
    if (loop.path == plan.path && loop.group == group && loop.channel_warps == plan.channel_warps &&
        loop.compute_capability <= compute_capability)
      best = &loop;  // they are sorted
  return *best;
}

}  // namespace stamp::cuda

#pragma once
#include "kernels/cuda/tile_plan.h"

/// How many instructions the compiler makes of the integer products' main loop.
namespace stamp::cuda {

/// A warp's instructions for kLoopStages stages in linear_int.cu.
inline constexpr int kLoopStages = 4, kStageDepth = 64;  // input channels of a stage
struct MainLoop {
  int compute_capability;  // 10 * major + minor
  MmaPath path;
  int weight_bits, channel_warps;
  int products;  // of the stage, on tensor cores: of 4 bits two for eight rows, or four where they are wide
  int instructions;
};

// clang-format off
/// Counted in the SASS; every run of compile_check.py compares these lines.
inline constexpr MainLoop kMainLoops[] = {
// recorded by tests/cuda_on_host/compile_check.py --record
    {80, MmaPath::kEight, 4, 1, 8, 514},
    {80, MmaPath::kEight, 4, 2, 16, 562},
    {80, MmaPath::kEight, 4, 4, 32, 615},
    {80, MmaPath::kEight, 8, 1, 8, 149},
    {80, MmaPath::kEight, 8, 2, 16, 218},
    {80, MmaPath::kEight, 8, 4, 32, 289},
    {80, MmaPath::kFour, 4, 1, 4, 265},
    {80, MmaPath::kFour, 4, 1, 6, 333},
    {80, MmaPath::kFour, 4, 1, 8, 397},
    {80, MmaPath::kFour, 4, 2, 8, 368},
    {80, MmaPath::kFour, 4, 2, 10, 436},
    {80, MmaPath::kFour, 4, 2, 16, 580},
    {80, MmaPath::kFour, 4, 4, 16, 525},
    {80, MmaPath::kFour, 4, 4, 18, 593},
    {80, MmaPath::kFour, 4, 4, 32, 913},
    {89, MmaPath::kEight, 4, 1, 8, 514},
    {89, MmaPath::kEight, 4, 2, 16, 562},
    {89, MmaPath::kEight, 4, 4, 32, 615},
    {89, MmaPath::kEight, 8, 1, 8, 149},
    {89, MmaPath::kEight, 8, 2, 16, 218},
    {89, MmaPath::kEight, 8, 4, 32, 289},
    {89, MmaPath::kFour, 4, 1, 4, 265},
    {89, MmaPath::kFour, 4, 1, 6, 333},
    {89, MmaPath::kFour, 4, 1, 8, 397},
    {89, MmaPath::kFour, 4, 2, 8, 368},
    {89, MmaPath::kFour, 4, 2, 10, 436},
    {89, MmaPath::kFour, 4, 2, 16, 580},
    {89, MmaPath::kFour, 4, 4, 16, 525},
    {89, MmaPath::kFour, 4, 4, 18, 593},
    {89, MmaPath::kFour, 4, 4, 32, 913},
    {90, MmaPath::kEight, 4, 1, 8, 522},
    {90, MmaPath::kEight, 4, 2, 16, 581},
    {90, MmaPath::kEight, 4, 4, 32, 635},
    {90, MmaPath::kEight, 8, 1, 8, 153},
    {90, MmaPath::kEight, 8, 2, 16, 219},
    {90, MmaPath::kEight, 8, 4, 32, 292},
// end of what is recorded
};
// clang-format on

/// That of the newest architecture recorded that is not newer than the device.
inline const MainLoop& main_loop(int compute_capability, const TilePlan& plan, int weight_bits,
                                 int products) {
  const MainLoop* best = kMainLoops;
  for (const MainLoop& loop : kMainLoops)
    if (loop.path == plan.path && loop.weight_bits == weight_bits &&
        loop.channel_warps == plan.channel_warps && loop.products == products &&
        loop.compute_capability <= compute_capability)
      best = &loop;  // they are sorted
  return *best;
}

}  // namespace stamp::cuda

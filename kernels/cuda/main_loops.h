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
    {80, MmaPath::kEight, 4, 1, 8, 529},
    {80, MmaPath::kEight, 4, 2, 16, 569},
    {80, MmaPath::kEight, 4, 4, 32, 618},
    {80, MmaPath::kEight, 8, 1, 8, 181},
    {80, MmaPath::kEight, 8, 2, 16, 230},
    {80, MmaPath::kEight, 8, 4, 32, 293},
    {80, MmaPath::kFour, 4, 1, 4, 267},
    {80, MmaPath::kFour, 4, 1, 6, 335},
    {80, MmaPath::kFour, 4, 1, 8, 399},
    {80, MmaPath::kFour, 4, 2, 8, 369},
    {80, MmaPath::kFour, 4, 2, 10, 437},
    {80, MmaPath::kFour, 4, 2, 16, 581},
    {80, MmaPath::kFour, 4, 4, 16, 525},
    {80, MmaPath::kFour, 4, 4, 18, 593},
    {80, MmaPath::kFour, 4, 4, 32, 913},
    {89, MmaPath::kEight, 4, 1, 8, 529},
    {89, MmaPath::kEight, 4, 2, 16, 569},
    {89, MmaPath::kEight, 4, 4, 32, 618},
    {89, MmaPath::kEight, 8, 1, 8, 181},
    {89, MmaPath::kEight, 8, 2, 16, 230},
    {89, MmaPath::kEight, 8, 4, 32, 293},
    {89, MmaPath::kFour, 4, 1, 4, 267},
    {89, MmaPath::kFour, 4, 1, 6, 335},
    {89, MmaPath::kFour, 4, 1, 8, 399},
    {89, MmaPath::kFour, 4, 2, 8, 369},
    {89, MmaPath::kFour, 4, 2, 10, 437},
    {89, MmaPath::kFour, 4, 2, 16, 581},
    {89, MmaPath::kFour, 4, 4, 16, 525},
    {89, MmaPath::kFour, 4, 4, 18, 593},
    {89, MmaPath::kFour, 4, 4, 32, 913},
    {90, MmaPath::kEight, 4, 1, 8, 545},
    {90, MmaPath::kEight, 4, 2, 16, 593},
    {90, MmaPath::kEight, 4, 4, 32, 638},
    {90, MmaPath::kEight, 8, 1, 8, 186},
    {90, MmaPath::kEight, 8, 2, 16, 238},
    {90, MmaPath::kEight, 8, 4, 32, 296},
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

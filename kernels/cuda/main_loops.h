#pragma once
#include "kernels/cuda/tile_plan.h"

/// How many instructions the compiler makes of the integer products' main loop.
namespace stamp::cuda {

/// A warp's instructions for kLoopStages stages in linear_int.cu, for one in linear_wgmma.cu, which has twice
/// as many input channels.
inline constexpr int kLoopStages = 4, kStageDepth = 64;  // input channels of a stage
struct MainLoop {
  int compute_capability;  // 10 * major + minor
  MmaPath path;
  int weight_bits, width;  // TilePlan::channel_warps, with wgmma row_tiles
  int products;  // of the stage, on tensor cores: of 4 bits two for eight rows, or four where they are wide
  int instructions;
};

// clang-format off
/// Counted in the SASS; every run of compile_check.py compares these lines.
inline constexpr MainLoop kMainLoops[] = {
// recorded by tests/cuda_on_host/compile_check.py --record
    {80, MmaPath::kEight, 4, 1, 8, 502},
    {80, MmaPath::kEight, 4, 2, 16, 550},
    {80, MmaPath::kEight, 4, 4, 32, 603},
    {80, MmaPath::kEight, 8, 1, 8, 149},
    {80, MmaPath::kEight, 8, 2, 16, 218},
    {80, MmaPath::kEight, 8, 4, 32, 289},
    {80, MmaPath::kFour, 4, 1, 4, 267},
    {80, MmaPath::kFour, 4, 1, 6, 335},
    {80, MmaPath::kFour, 4, 1, 8, 399},
    {80, MmaPath::kFour, 4, 2, 8, 359},
    {80, MmaPath::kFour, 4, 2, 10, 427},
    {80, MmaPath::kFour, 4, 2, 16, 571},
    {80, MmaPath::kFour, 4, 4, 16, 525},
    {80, MmaPath::kFour, 4, 4, 18, 593},
    {80, MmaPath::kFour, 4, 4, 32, 913},
    {89, MmaPath::kEight, 4, 1, 8, 502},
    {89, MmaPath::kEight, 4, 2, 16, 550},
    {89, MmaPath::kEight, 4, 4, 32, 603},
    {89, MmaPath::kEight, 8, 1, 8, 149},
    {89, MmaPath::kEight, 8, 2, 16, 218},
    {89, MmaPath::kEight, 8, 4, 32, 289},
    {89, MmaPath::kFour, 4, 1, 4, 267},
    {89, MmaPath::kFour, 4, 1, 6, 335},
    {89, MmaPath::kFour, 4, 1, 8, 399},
    {89, MmaPath::kFour, 4, 2, 8, 359},
    {89, MmaPath::kFour, 4, 2, 10, 427},
    {89, MmaPath::kFour, 4, 2, 16, 571},
    {89, MmaPath::kFour, 4, 4, 16, 525},
    {89, MmaPath::kFour, 4, 4, 18, 593},
    {89, MmaPath::kFour, 4, 4, 32, 913},
    {90, MmaPath::kEight, 4, 1, 8, 510},
    {90, MmaPath::kEight, 4, 2, 16, 568},
    {90, MmaPath::kEight, 4, 4, 32, 623},
    {90, MmaPath::kEight, 8, 1, 8, 153},
    {90, MmaPath::kEight, 8, 2, 16, 219},
    {90, MmaPath::kEight, 8, 4, 32, 292},
    {90, MmaPath::kWgmma, 4, 2, 4, 195},
    {90, MmaPath::kWgmma, 4, 4, 8, 216},
    {90, MmaPath::kWgmma, 8, 2, 4, 100},
    {90, MmaPath::kWgmma, 8, 4, 8, 120},
// end of what is recorded
};
// clang-format on

/// That of the newest architecture recorded that is not newer than the device.
inline const MainLoop& main_loop(int compute_capability, const TilePlan& plan, int weight_bits,
                                 int products) {
  const MainLoop* best = kMainLoops;
  for (const MainLoop& loop : kMainLoops)
    if (loop.path == plan.path && loop.weight_bits == weight_bits &&
        loop.width == (plan.path == MmaPath::kWgmma ? plan.row_tiles : plan.channel_warps) &&
        loop.products == products && loop.compute_capability <= compute_capability)
      best = &loop;  // they are sorted
  return *best;
}

}  // namespace stamp::cuda

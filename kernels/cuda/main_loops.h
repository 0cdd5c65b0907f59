#pragma once
#include "kernels/cuda/tile_plan.h"

/// How many instructions the compiler makes of the integer products' main loop.
namespace stamp::cuda {

/// How groups of input channels lie in the loop's stages, as linear_int.cu has them.
enum class LoopGroups : uint8_t { kStage, kOther, kNone };

/// A warp's instructions for one stage and a full tile of rows: all of the loop, also what few or narrow rows
/// skip.
struct MainLoop {
  int compute_capability;  // 10 * major + minor
  MmaPath path;
  LoopGroups groups;
  int warps, panels;  // of a block, of a warp
  int instructions;
};

// clang-format off
/// Counted in the SASS; every run of compile_check.py compares these lines.
inline constexpr MainLoop kMainLoops[] = {
// recorded by tests/cuda_on_host/compile_check.py --record
    {80, MmaPath::kEight, LoopGroups::kStage, 1, 1, 862},
    {80, MmaPath::kEight, LoopGroups::kStage, 4, 2, 1123},
    {80, MmaPath::kEight, LoopGroups::kOther, 1, 1, 1347},
    {80, MmaPath::kEight, LoopGroups::kOther, 4, 2, 1942},
    {80, MmaPath::kEight, LoopGroups::kNone, 1, 1, 495},
    {80, MmaPath::kEight, LoopGroups::kNone, 4, 2, 556},
    {80, MmaPath::kFour, LoopGroups::kStage, 1, 1, 1019},
    {80, MmaPath::kFour, LoopGroups::kStage, 4, 2, 1301},
    {89, MmaPath::kEight, LoopGroups::kStage, 1, 1, 867},
    {89, MmaPath::kEight, LoopGroups::kStage, 4, 2, 1139},
    {89, MmaPath::kEight, LoopGroups::kOther, 1, 1, 1358},
    {89, MmaPath::kEight, LoopGroups::kOther, 4, 2, 1974},
    {89, MmaPath::kEight, LoopGroups::kNone, 1, 1, 493},
    {89, MmaPath::kEight, LoopGroups::kNone, 4, 2, 554},
    {89, MmaPath::kFour, LoopGroups::kStage, 1, 1, 1023},
    {89, MmaPath::kFour, LoopGroups::kStage, 4, 2, 1317},
    {90, MmaPath::kEight, LoopGroups::kStage, 1, 1, 897},
    {90, MmaPath::kEight, LoopGroups::kStage, 4, 2, 1175},
    {90, MmaPath::kEight, LoopGroups::kOther, 1, 1, 1438},
    {90, MmaPath::kEight, LoopGroups::kOther, 4, 2, 2053},
    {90, MmaPath::kEight, LoopGroups::kNone, 1, 1, 543},
    {90, MmaPath::kEight, LoopGroups::kNone, 4, 2, 603},
// end of what is recorded
};
// clang-format on

/// The loop of a block of so many panels, on the newest architecture recorded that is not newer than the
/// device.
inline const MainLoop& main_loop(int compute_capability, MmaPath path, LoopGroups groups, int block_panels) {
  const MainLoop* best = kMainLoops;
  for (const MainLoop& loop : kMainLoops)
    if (loop.path == path && loop.groups == groups && loop.warps * loop.panels == block_panels &&
        loop.compute_capability <= compute_capability)
      best = &loop;  // they are sorted
  return *best;
}

}  // namespace stamp::cuda

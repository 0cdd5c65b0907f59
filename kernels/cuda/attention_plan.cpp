#include "kernels/cuda/attention_plan.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace stamp::cuda {

namespace {

bool is_few(const RowRun& run, int64_t sharing) { return run.count * sharing <= kFewRun; }

/// Queries of a tile of many. Blocks unpack every page for themselves, which takes one warp about a third of
/// the time it then has with it; and eight warps of a multiprocessor take about twice as long as one.
int64_t choose_tile(std::span<const RowRun> runs, int64_t sharing, int64_t kv_heads, const TileMemory& memory,
                    const Device& device) {
  constexpr int64_t kMostWarps = 8, kReserved = 1 << 10;  // warps by their registers; bytes of each block
  if (memory.warp == 0) return kWarpQueries;
  int64_t best = kWarpQueries;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t warps = 1; warps * kWarpQueries <= kMostQueries; ++warps) {
    const int64_t bytes = memory.block + warps * memory.warp;
    if (bytes > device.shared_bytes) break;
    const int64_t together =
        std::min((device.shared_bytes + kReserved) / (bytes + kReserved), kMostWarps / warps);
    int64_t blocks = 0;
    for (const RowRun& run : runs)
      if (!is_few(run, sharing)) blocks += divide_up(run.count * sharing, warps * kWarpQueries) * kv_heads;
    const int64_t multiprocessors = std::max<int64_t>(device.multiprocessors, 1),
                  busy = std::min(divide_up(blocks, multiprocessors), together) * warps;
    const double time = double(divide_up(blocks, multiprocessors * together)) *
                        (1.0 + 1.0 / double(3 * warps)) * (1.0 + double(busy) / double(kMostWarps));
    if (time < least) least = time, best = warps * kWarpQueries;
  }
  return best;
}

}  // namespace

void plan_attention(AttentionPlan& plan, std::span<const RowRun> runs, int64_t sharing, int64_t kv_heads,
                    const TileMemory& memory, const Device& device) {
  plan.many.clear();
  plan.few.clear();
  plan.split.clear();
  plan.parts = 0;
  plan.many_queries = choose_tile(runs, sharing, kv_heads, memory, device);
  int64_t few_tiles = 0;
  for (const RowRun& run : runs)
    if (is_few(run, sharing)) few_tiles += (run.count * sharing + kFewQueries - 1) / kFewQueries;
  const bool splits = few_tiles * kv_heads < 2 * device.multiprocessors;

  int64_t first_page = 0;
  for (const RowRun& run : runs) {
    const int64_t queries = run.count * sharing,
                  of_tile = is_few(run, sharing) ? kFewQueries : plan.many_queries;
    for (int64_t first = 0; first < queries; first += of_tile) {
      QueryTile tile{.row = run.row,
                     .position = run.position,
                     .page = first_page,
                     .length = run.position + run.count,
                     .first = int(first),
                     .count = int(std::min(of_tile, queries - first))};
      const int64_t last_row = (first + tile.count - 1) / sharing;
      tile.last_page = (run.position + last_row) / kBlock + 1;
      if (!is_few(run, sharing)) {
        plan.many.push_back(tile);
      } else if (!splits || tile.last_page <= kSplitPages) {
        plan.few.push_back(tile);
      } else {
        tile.part = plan.parts;
        plan.split.push_back(tile);
        for (QueryTile part = tile; part.first_page < tile.last_page; part.first_page += kSplitPages) {
          part.last_page = std::min(part.first_page + kSplitPages, tile.last_page);
          part.part = plan.parts++;
          plan.few.push_back(part);
        }
      }
    }
    first_page += int64_t(run.pages.size());
  }
  std::ranges::stable_sort(plan.many, std::greater{}, &QueryTile::last_page);
}

}  // namespace stamp::cuda

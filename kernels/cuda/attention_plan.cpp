#include "kernels/cuda/attention_plan.h"

#include <algorithm>
#include <functional>

namespace stamp::cuda {

void plan_attention(AttentionPlan& plan, std::span<const RowRun> runs, int64_t sharing, int64_t kv_heads,
                    int64_t most, const Device& device) {
  plan.many.clear();
  plan.few.clear();
  plan.split.clear();
  plan.parts = plan.most_splits = 0;
  const auto is_few = [&](const RowRun& run) { return run.count * sharing <= kFewRun; };
  int64_t few_tiles = 0;
  for (const RowRun& run : runs)
    if (is_few(run)) few_tiles += (run.count * sharing + kFewQueries - 1) / kFewQueries;
  const bool splits = few_tiles * kv_heads < 2 * device.multiprocessors;

  int64_t first_page = 0;
  for (const RowRun& run : runs) {
    const int64_t queries = run.count * sharing, of_tile = is_few(run) ? kFewQueries : most;
    for (int64_t first = 0; first < queries; first += of_tile) {
      QueryTile tile{.row = run.row,
                     .position = run.position,
                     .page = first_page,
                     .length = run.position + run.count,
                     .first = int(first),
                     .count = int(std::min(of_tile, queries - first))};
      const int64_t last_row = (first + tile.count - 1) / sharing;
      tile.last_page = (run.position + last_row) / kBlock + 1;
      if (!is_few(run)) {
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
        plan.most_splits = std::max(plan.most_splits, plan.parts - tile.part);
      }
    }
    first_page += int64_t(run.pages.size());
  }
  std::ranges::stable_sort(plan.many, std::greater{}, &QueryTile::last_page);
}

}  // namespace stamp::cuda

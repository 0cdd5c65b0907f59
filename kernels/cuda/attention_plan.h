#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/tile_plan.h"
#include "kernels/views.h"

/// How attention is cut into blocks: chosen on the host by the batch. No choice changes a bit of the result.
namespace stamp::cuda {

inline constexpr int kMostQueries = 192, kWarpQueries = 32, kFewQueries = 8;  // of a tile, of a warp
/// A run of at most as many is of few queries.
inline constexpr int kFewRun = 32;
/// Pages of a split: where the softmax begins anew, whoever computes it.
inline constexpr int kSplitPages = 4;

/// Queries of one run: a query is a row and one of the heads that share a KV head, rows first. Those from
/// `first` on, `count` of them; row i has the position `position` + i and is row `row` + i of the batch. The
/// run's pages are those from `page` on, and its tokens, those of this batch included, are `length`. They
/// attend to the pages [first_page, last_page) of the run; the result is final if `part` is negative.
struct QueryTile {
  int64_t row = 0, position = 0, page = 0, length = 0;
  int64_t first_page = 0, last_page = 0;
  int64_t part = -1;  // a split alone: its place among the partial results
  int first = 0, count = 0;
};

struct AttentionPlan {
  std::vector<QueryTile> many;   // the longest first, for the last to start are the last to end
  std::vector<QueryTile> few;    // of kFewQueries, for runs of few queries; or splits of them
  std::vector<QueryTile> split;  // those whose splits are in `few`, from `part` on, and have to be folded
  int64_t many_queries = 0;      // of a tile of many, at most
  int64_t parts = 0;
};

/// Shared memory of a tile of many queries: of the block, and of each warp. Tiles have one warp's queries
/// where both are 0.
struct TileMemory {
  int64_t block = 0, warp = 0;
};

/// For `sharing` query heads a KV head. Splits are dealt to blocks
/// of their own where whole tiles would leave multiprocessors idle: a single sequence has only one block for
/// each KV head.
void plan_attention(AttentionPlan& plan, std::span<const RowRun> runs, int64_t sharing, int64_t kv_heads,
                    const TileMemory& memory, const Device& device);

}  // namespace stamp::cuda

#pragma once
#include "kernels/cuda/attention_plan.h"

/// Shared memory of attention over coded pages: what its plan asks for.
namespace stamp::cuda {

/// A head's codes in shared memory: first the lower half of the channels, then the upper, each padded to
/// whole words. Zeros follow up to whole tensor-core steps.
struct HeadShape {
  int d, half;
  int places;  // for channels, zeros included: a multiple of 32
  int pitch;   // bytes from row to row of queries and keys: an odd multiple of 32
  STAMP_INLINE explicit HeadShape(int64_t head_dim)
      : d(int(head_dim)),
        half(int(round_up(head_dim / 2, 4))),
        places(int(round_up(2 * half, 32))),
        pitch(places / 32 % 2 == 1 ? places : places + 32) {}
  STAMP_INLINE int place_of(int c) const { return c < d / 2 ? c : c - d / 2 + half; }
  STAMP_INLINE int octets() const { return half / 4; }
  STAMP_INLINE int keys_bytes() const { return int(kBlock) * pitch; }
  STAMP_INLINE int values_bytes() const { return places * int(kBlock); }
};

/// Where row r's are in a PageTables: lanes that read 16 bytes of rows half a block apart need other banks.
STAMP_INLINE constexpr int table_place(int r) { return r ^ (r >> 5) * 4; }
/// A page's parameters, scales with those of L's rows. Zero points of values once more as they are in memory,
/// in value_row()'s order.
struct PageTables {
  alignas(16) float k_scale[kBlock];
  float k_zero[kBlock], v_scale[kBlock], v_zero[kBlock];
  uint32_t v_zeros[kBlock / 4];
};

// A row of 64 scores, int32, becomes one of weights: 64 bytes for V~'s narrow rows, then the high and the low
// bytes of 16-bit weights for its wide ones. A query's thread reads and writes whole rows; fragments take
// two neighbouring words of eight rows, or a chunk of four words.
inline constexpr int kRowWords = int(kBlock);

/// Few queries: four lanes find the weights of one for a page, 16 rows each (attention_quad.cuh), if its
/// transform is Haar's of two levels or more and no wide row is beyond the first 16; otherwise one lane does.
inline constexpr int kQuad = 4, kQuadRows = int(kBlock) / kQuad;
STAMP_INLINE bool quads_can_weigh(const KvFormat& format, const KvSide& sealed) {
  const BitPlan& plan = format.plan;
  return plan.is_plain() ||
         (plan.transform == SeqTransform::kHaar && plan.levels >= 2 && sealed.wide_rows() <= kQuadRows);
}

/// Shared memory for many queries: a page as it comes, the same unpacked; and what each warp has for itself.
struct ManyLayout {
  int64_t page, keys, values, tables, warps, queries, scores, of_warp;
  STAMP_INLINE ManyLayout(int64_t head_dim, const KvSide& open_side, const KvSide& sealed_side) {
    const HeadShape shape(head_dim);
    const int64_t open = open_side.bytes(), sealed = sealed_side.bytes();
    page = 0;
    keys = 2 * (open > sealed ? open : sealed);
    values = keys + shape.keys_bytes();
    tables = values + shape.values_bytes();
    warps = tables + int64_t{sizeof(PageTables)};
    queries = 0;
    scores = kWarpQueries * shape.pitch;
    of_warp = scores + kWarpQueries * (kRowWords + shape.places) * 4;
  }
  /// For plan_attention().
  TileMemory memory() const { return {warps, of_warp}; }
};

}  // namespace stamp::cuda

// Causal attention over coded pages of a sequence, 64 keys at a time, with the softmax kept up as pages go
// by. A block handles a tile of queries that share a KV head; pages are never turned into tokens: scores =
// L^-1 (K~ q), output = (L p)^T V~ (STaMP on the cache, design section 3). Products are of integers, on
// tensor cores; between them a thread has a query with its 64 scores in registers (attention_page.cuh).
//
// Every kSplitPages pages are a split: the softmax begins anew, and results of splits are folded in their
// order. For few queries (decoding) a block has one split, whose pages its warps share, and writes a partial
// result, and another kernel folds them; for many a block goes through all splits, page by page. Either way
// every sum of a query is in one order, which depends on nothing but the query's own sequence.
#include "kernels/cuda/attention_quad.cuh"
#include "kernels/cuda/launch.cuh"

namespace stamp::cuda {
namespace {

static_assert(kWarpQueries == kWarpSize);
constexpr int kMostThreads = kMostQueries / kWarpQueries * kWarpSize;
static_assert(kFewQueries * kSplitPages == kWarpSize);

__device__ __forceinline__ bool is_sealed(const Cache& cache, const QueryTile& tile, int64_t page) {
  return cache.format.seals(page) && (page + 1) * kBlock <= tile.length;
}
/// The plan of a page whose form is known.
__device__ __forceinline__ BitPlan plan_of(const Cache& cache, bool sealed) {
  return sealed ? cache.format.plan : BitPlan{};
}
__device__ __forceinline__ int64_t visible_keys(const QueryTile& tile, int sharing, int query, int64_t page) {
  return query < tile.count ? tile.position + (tile.first + query) / sharing + 1 - page * kBlock : 0;
}
__device__ __forceinline__ void zero(std::byte* to, int bytes, int thread, int threads) {
#pragma unroll 1  // few queries' instructions are fetched for every launch: the fewer the better
  for (int at = thread * 16; at < bytes; at += threads * 16)
    *reinterpret_cast<uint4*>(to + at) = make_uint4(0u, 0u, 0u, 0u);
}

/// Starts the copy of a head's keys and values in one page.
__device__ __forceinline__ void fetch_page(std::byte* to, const Cache& cache, int64_t page, int64_t head,
                                           bool sealed) {
  const std::byte* const source = coded_part(cache, page, head, 0, sealed);
  const int bytes = int(2 * side_of(cache, sealed).bytes());
  for (int at = int(threadIdx.x) * 16; at < bytes; at += int(blockDim.x) * 16)
    copy_async_16(to + at, source + at);
  commit_copies();
}

/// A lane has the softmax of its query.
struct Softmax {
  float top = -INFINITY, total = 0.0f;
};

/// Writes the warp's sums of a split, or folds them into what is there, and leaves zeros.
__device__ __forceinline__ void fold_split(Mat<float> out, float* sums, const HeadShape& shape, int64_t at,
                                           int count, const Fold& f, float total, bool is_first,
                                           bool is_last) {
  constexpr int kTogether = 8;
  const int lane = int(threadIdx.x) % kWarpSize;
  for (int first = 0; first < count; first += kTogether) {
    float* target[kTogether];
    Fold weight[kTogether];
    float divisor[kTogether];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      target[i] = out.data + __shfl_sync(kFullWarp, at, first + i);
      weight[i] = {__shfl_sync(kFullWarp, f.old_weight, first + i),
                   __shfl_sync(kFullWarp, f.new_weight, first + i)};
      divisor[i] = __shfl_sync(kFullWarp, total, first + i);
    }
    for (int c = lane; c < shape.d; c += kWarpSize) {
      const int place = shape.place_of(c);
      float before[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) before[i] = !is_first && first + i < count ? target[i][c] : 0.0f;
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        if (first + i >= count) break;
        float& sum = sums[sum_at(shape, first + i, place)];
        const float all = is_first ? sum : folded(before[i], sum, weight[i]);
        target[i][c] = is_last ? all / divisor[i] : all;
        sum = 0.0f;
      }
    }
  }
}

__global__ void __launch_bounds__(kMostThreads)
    attention_many_kernel(Mat<float> out, Mat<const float> q, Cache cache, const QueryTile* tiles,
                          float scale, const DctTable* dct) {
  const int tid = int(threadIdx.x), lane = tid % kWarpSize, warp = tid / kWarpSize, threads = int(blockDim.x);
  const int64_t head = blockIdx.x % cache.kv_heads;
  const QueryTile tile = tiles[blockIdx.x / cache.kv_heads];
  const HeadShape shape(cache.head_dim);
  const ManyLayout layout(cache.head_dim, cache.open_side, cache.sealed_side);
  const int sharing = int(q.cols / cache.head_dim / cache.kv_heads);
  std::byte* const memory = shared_array<std::byte>(layout.warps + threads / kWarpSize * layout.of_warp);
  std::byte* const mine = memory + layout.warps + warp * layout.of_warp;
  auto* const keys = reinterpret_cast<uint8_t*>(memory + layout.keys);
  auto* const values = reinterpret_cast<uint32_t*>(memory + layout.values);
  auto& tables = *reinterpret_cast<PageTables*>(memory + layout.tables);
  auto* const queries = reinterpret_cast<uint8_t*>(mine + layout.queries);
  auto* const scores = reinterpret_cast<int32_t*>(mine + layout.scores);
  auto* const sums = reinterpret_cast<float*>(scores + kWarpQueries * kRowWords);

  fetch_page(memory, cache, tile.page + tile.first_page, head, is_sealed(cache, tile, tile.first_page));
  if (shape.places > 2 * shape.half)
    zero(memory + layout.keys, shape.keys_bytes() + shape.values_bytes(), tid, threads);
  zero(mine, int(layout.of_warp), lane, kWarpSize);
  __syncwarp();
  const int first = warp * kWarpQueries, count = min(kWarpQueries, tile.count - first);
  const int64_t at = first + lane < tile.count ? row_of(tile, sharing, first + lane) * out.stride +
                                                     channel_of(tile, sharing, head, shape.d, first + lane)
                                               : 0;
  Query query;
  for (int i = 0; i < count; ++i) {
    const Query next = load_query<4>(
        queries + i * shape.pitch,
        q.row(row_of(tile, sharing, first + i)) + channel_of(tile, sharing, head, shape.d, first + i), shape,
        scale);
    if (lane == i) query = next;
  }
  Softmax split, all;

  for (int64_t page = tile.first_page; page < tile.last_page; ++page) {
    const bool sealed = is_sealed(cache, tile, page);
    const KvSide side = side_of(cache, sealed);
    const BitPlan plan = plan_of(cache, sealed);
    const int wide = int(side.wide_rows());
    wait_copies<0>();
    __syncthreads();  // the page is here, and nobody needs the one before
    unpack_page<true, 1>({keys, values, &tables, shape}, memory, side, plan,
                         int(min(int64_t(kB), tile.length - page * kBlock)), tid, threads);
    __syncthreads();
    if (page + 1 < tile.last_page)
      fetch_page(memory, cache, tile.page + page + 1, head, is_sealed(cache, tile, page + 1));

    if (count > 0 && visible_keys(tile, sharing, first + count - 1, page) > 0) {
      page_scores<kWarpQueries>(scores, queries, keys, shape);
      __syncwarp();
      const PageWeights weights = page_weights(
          scores, lane, tables, query, visible_keys(tile, sharing, first + lane, page), wide, plan, dct);
      const PageFactors factors =
          page_factors(weights, fold(split.top, split.total, weights.top, weights.total));
      __syncwarp();
      page_values<kWarpQueries>(
          scores, values, shape, wide,
          [&](int i) {
            const int from = 8 * i + lane / 4;
            return PageFactors{
                __shfl_sync(kFullWarp, factors.old, from), __shfl_sync(kFullWarp, factors.narrow, from),
                __shfl_sync(kFullWarp, factors.wide, from), __shfl_sync(kFullWarp, factors.shift, from)};
          },
          [&](int row, int place, float old, float x, float y) {
            auto* const sum = reinterpret_cast<float2*>(&sums[sum_at(shape, row, place)]);
            const float2 before = *sum;
            *sum = make_float2(fmaf(before.x, old, x), fmaf(before.y, old, y));
          });
      __syncwarp();
    }
    if ((page + 1) % kSplitPages != 0 && page + 1 < tile.last_page) continue;
    const bool is_first = page < kSplitPages;
    if (is_first) all = split;
    const Fold f = is_first ? Fold{} : fold(all.top, all.total, split.top, split.total);
    split = {};
    fold_split(out, sums, shape, at, count, f, all.total, is_first, page + 1 == tile.last_page);
    __syncwarp();
  }
}

/// Brings a head's keys and values in one page near, by a warp.
__device__ __forceinline__ void prefetch_page(const Cache& cache, int64_t page, int64_t head, bool sealed) {
  constexpr int kLine = 128;
  const std::byte* const source = coded_part(cache, page, head, 0, sealed);
#pragma unroll 1
  for (int64_t at = int(threadIdx.x) % kWarpSize * kLine; at < 2 * side_of(cache, sealed).bytes();
       at += kWarpSize * kLine)
    prefetch_l2(source + at);
}

/// Shared memory for few queries: their codes, rows of scores [pages, queries], and each page.
struct FewLayout {
  int64_t scores, parts, folds, pages, keys, values, tables, of_page, bytes;
  STAMP_INLINE explicit FewLayout(const Cache& cache) {
    const HeadShape shape(cache.head_dim);
    scores = kFewQueries * shape.pitch;
    parts = scores + kWarpSize * kRowWords * 4;
    folds = parts + kWarpSize * int64_t{sizeof(float4)};
    pages = folds + kFewQueries * int64_t{sizeof(float4)};
    keys = 0;  // later sums [kFewQueries, places]
    values = shape.keys_bytes();
    tables = values + shape.values_bytes();
    of_page = tables + int64_t{sizeof(PageTables)};
    bytes = pages + kSplitPages * of_page;
  }
};

constexpr int kFewThreads = kSplitPages * kWarpSize;

/// page_weights() of the warp's eight rows of scores: every lane gets the result of row lane / 4, whose query
/// it is given.
template <bool kQuads>
__device__ __forceinline__ PageWeights few_weights(int32_t* scores, const PageTables& tables,
                                                   const Query& query, int64_t visible, int wide,
                                                   const BitPlan& plan, bool sealed, const DctTable* dct) {
  if constexpr (kQuads) {
    return quad_weights(scores, tables, query, visible, wide, plan, sealed);
  } else {
    const int lane = int(threadIdx.x) % kWarpSize, row = lane % kFewQueries;
    const auto of_row = [&](auto x) { return __shfl_sync(kFullWarp, x, row * kQuad); };
    const Query its{of_row(query.step), of_row(query.sum)};
    const int its_visible = of_row(int(visible));
    PageWeights mine{};
    if (lane < kFewQueries) mine = page_weights(scores, row, tables, its, its_visible, wide, plan, dct);
    const auto from = [&](float x) { return __shfl_sync(kFullWarp, x, lane / kQuad); };
    return {from(mine.top), from(mine.total), from(mine.narrow_step), from(mine.wide_step), from(mine.shift)};
  }
}

template <bool kQuads>
__global__ void __launch_bounds__(kFewThreads, 2)
    attention_few_kernel(Mat<float> out, Mat<const float> q, Cache cache, const QueryTile* tiles,
                         Partials partials, float scale, const DctTable* dct) {
  const int tid = int(threadIdx.x), lane = tid % kWarpSize, warp = tid / kWarpSize;
  const int64_t head = blockIdx.x % cache.kv_heads;
  const QueryTile tile = tiles[blockIdx.x / cache.kv_heads];
  const HeadShape shape(cache.head_dim);
  const FewLayout layout(cache);
  const int sharing = int(q.cols / cache.head_dim / cache.kv_heads);
  std::byte* const memory = shared_array<std::byte>(layout.bytes);
  auto* const queries = reinterpret_cast<uint8_t*>(memory);
  auto* const scores = reinterpret_cast<int32_t*>(memory + layout.scores) + warp * kFewQueries * kRowWords;
  // Of each page and query: greatest score, total, and what the sums before are multiplied by.
  auto* const parts = reinterpret_cast<float4*>(memory + layout.parts);
  auto* const folds = reinterpret_cast<float4*>(memory + layout.folds);  // weights, total
  const auto of_page = [&](int i) { return memory + layout.pages + i * layout.of_page; };
  const auto tables_of = [&](int i) -> PageTables& {
    return *reinterpret_cast<PageTables*>(of_page(i) + layout.tables);
  };
  auto* const keys = reinterpret_cast<uint8_t*>(of_page(warp) + layout.keys);
  auto* const values = reinterpret_cast<uint32_t*>(of_page(warp) + layout.values);

  const auto prefetch = [&](int64_t page) {
    if (page < tile.last_page) prefetch_page(cache, tile.page + page, head, is_sealed(cache, tile, page));
  };
  prefetch(tile.first_page + warp);
  zero(memory, kFewQueries * shape.pitch, tid, kFewThreads);
  if (shape.places > 2 * shape.half)
    zero(of_page(warp), shape.keys_bytes() + shape.values_bytes(), lane, kWarpSize);
  wait_for_predecessors();
  __syncthreads();
  // Steps and sums of the queries, in the lanes that weigh them.
  auto* const coded = reinterpret_cast<Query*>(folds);
#pragma unroll 1
  for (int i = warp; i < tile.count; i += kSplitPages) {
    const Query next = load_query<1>(
        queries + i * shape.pitch,
        q.row(row_of(tile, sharing, i)) + channel_of(tile, sharing, head, shape.d, i), shape, scale);
    if (lane == 0) coded[i] = next;
  }
  __syncthreads();
  const int own = lane / kQuad;  // the query whose weights the lane finds, with three neighbours
  const Query query = own < tile.count ? coded[own] : Query{};
  Softmax all;

  for (int64_t first_page = tile.first_page; first_page < tile.last_page; first_page += kSplitPages) {
    const int pages = int(min(int64_t(kSplitPages), tile.last_page - first_page));
    const bool is_first = first_page == 0, is_last = first_page + kSplitPages >= tile.last_page;
    const int64_t page = first_page + warp;
    const bool here = warp < pages;
    const auto sealed = [&](int64_t i) { return is_sealed(cache, tile, i); };
    const KvSide side = side_of(cache, sealed(page));
    const int wide = int(side.wide_rows());
    PageWeights weights{-INFINITY, 0.0f, 0.0f, 0.0f, 0.0f};
    if (here) {
      const BitPlan plan = plan_of(cache, sealed(page));
      unpack_page<false, 1>({keys, values, &tables_of(warp), shape},
                            coded_part(cache, tile.page + page, head, 0, sealed(page)), side, plan,
                            int(min(int64_t(kB), tile.length - page * kBlock)), lane, kWarpSize);
      prefetch(page + kSplitPages);
      __syncwarp();
      page_scores<kFewQueries>(scores, queries, keys, shape);
      __syncwarp();
      weights = few_weights<kQuads>(scores, tables_of(warp), query, visible_keys(tile, sharing, own, page),
                                    wide, plan, sealed(page), dct);
      if (lane % kQuad == 0)
        *reinterpret_cast<float2*>(&parts[warp * kFewQueries + own]) =
            make_float2(weights.top, weights.total);
    }
    __syncthreads();
    Softmax split;
    Fold mine{};
#pragma unroll
    for (int j = 0; j < kSplitPages; ++j) {
      if (j >= pages) break;
      const float2 part = *reinterpret_cast<const float2*>(&parts[j * kFewQueries + own]);
      const Fold f = fold(split.top, split.total, part.x, part.y);
      if (j == warp) mine = f;
    }
    const PageFactors factors = page_factors(weights, mine);
    if (lane % kQuad == 0) {
      parts[warp * kFewQueries + own].z = factors.old;
      if (warp == 0 && own < tile.count) {
        if (tile.part >= 0) {
          partials.softmax[partials.softmax_at(tile.part, head, own)] = make_float2(split.top, split.total);
        } else {
          if (is_first) all = split;
          const Fold f = is_first ? Fold{} : fold(all.top, all.total, split.top, split.total);
          folds[own] = make_float4(f.old_weight, f.new_weight, all.total, 0.0f);
        }
      }
    }
    if (here)
      page_values<kFewQueries>(
          scores, values, shape, wide, [&](int) { return factors; },
          [&](int row, int place, float, float x, float y) {
            *reinterpret_cast<float2*>(reinterpret_cast<float*>(keys) + sum_at(shape, row, place)) =
                make_float2(x, y);
          });
    __syncthreads();
#pragma unroll 1
    for (int row = warp; row < tile.count; row += kSplitPages) {
      float* const to = tile.part >= 0 ? partials.sums + (partials.row(tile.part, head) + row) * shape.d
                                       : out.row(row_of(tile, sharing, row)) +
                                             channel_of(tile, sharing, head, shape.d, row);
      const float4 f = tile.part < 0 ? folds[row] : float4{};
#pragma unroll 1
      for (int c = lane; c < shape.d; c += kWarpSize) {
        const int at = sum_at(shape, row, shape.place_of(c));
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < kSplitPages; ++j) {
          if (j >= pages) break;
          sum = fmaf(sum, parts[j * kFewQueries + row].z,
                     reinterpret_cast<const float*>(of_page(j) + layout.keys)[at]);
        }
        if (tile.part < 0) {
          if (!is_first) sum = folded(to[c], sum, {f.x, f.y});
          if (is_last) sum /= f.z;
        }
        to[c] = sum;
      }
    }
    __syncthreads();
  }
}

/// A block folds the splits of one query, a thread one channel, kWarpSize splits at a time: a lane has the
/// softmax of one. The greatest score up to a split is the same in whatever order it is found, so that only
/// sums are a chain.
__global__ void fold_splits_kernel(Mat<float> out, const QueryTile* tiles, Partials partials, int sharing,
                                   int d) {
  wait_for_predecessors();
  const QueryTile tile = tiles[blockIdx.x];
  const int64_t head = blockIdx.y;
  const int query = int(blockIdx.z), c = int(threadIdx.x), lane = c % kWarpSize,
            splits = int(divide_up(tile.last_page, kSplitPages));
  if (query >= tile.count) return;
  const int64_t row = partials.row(tile.part, head) + query, next = partials.row(1, 0);
  float top = -INFINITY, total = 0.0f, y = 0.0f;
  for (int first = 0; first < splits; first += kWarpSize) {
    const int count = min(kWarpSize, splits - first);
    const float2 softmax = lane < count
                               ? partials.softmax[partials.softmax_at(tile.part + first + lane, head, query)]
                               : make_float2(-INFINITY, 0.0f);
    float sums[kWarpSize];
#pragma unroll
    for (int i = 0; i < kWarpSize; ++i)
      sums[i] = i < count && c < d ? partials.sums[(row + (first + i) * next) * d + c] : 0.0f;
    float highest = fmaxf(top, softmax.x);
#pragma unroll
    for (int lanes = 1; lanes < kWarpSize; lanes *= 2) {
      const float before = __shfl_up_sync(kFullWarp, highest, lanes);
      if (lane >= lanes) highest = fmaxf(highest, before);
    }
    float before = __shfl_up_sync(kFullWarp, highest, 1);
    if (lane == 0) before = top;
    const Fold f = fold_weights(before, softmax.x);
    top = __shfl_sync(kFullWarp, highest, kWarpSize - 1);
#pragma unroll
    for (int i = 0; i < kWarpSize; ++i) {
      const Fold of_split{__shfl_sync(kFullWarp, f.old_weight, i), __shfl_sync(kFullWarp, f.new_weight, i)};
      const float its_total = __shfl_sync(kFullWarp, softmax.y, i);
      if (i >= count) continue;
      const bool is_first = first + i == 0;
      total = is_first ? its_total : folded(total, its_total, of_split);
      y = is_first ? sums[i] : folded(y, sums[i], of_split);
    }
  }
  if (c < d) out.row(row_of(tile, sharing, query))[channel_of(tile, sharing, head, d, query) + c] = y / total;
}

void attention_coded(Mat<float> out, Mat<const float> q, const Cache& cache, const AttentionTiles& tiles,
                     const Partials& partials, float scale, const DctTable* dct, cudaStream_t stream) {
  const auto blocks = [&](int64_t count) { return dim3(uint32_t(count * cache.kv_heads)); };
  if (tiles.many_count > 0) {
    const int warps = int(tiles.many_queries) / kWarpQueries;
    const ManyLayout layout(cache.head_dim, cache.open_side, cache.sealed_side);
    launch("attention", attention_many_kernel,
           {blocks(tiles.many_count), dim3(uint32_t(warps * kWarpSize)),
            size_t(layout.warps + warps * layout.of_warp)},
           stream, out, q, cache, tiles.many, scale, dct);
  }
  if (tiles.few_count > 0)
    launch("attention_few",
           quads_can_weigh(cache.format, cache.sealed_side) ? attention_few_kernel<true>
                                                            : attention_few_kernel<false>,
           {blocks(tiles.few_count), kFewThreads, size_t(FewLayout(cache).bytes), kOverlaps}, stream, out, q,
           cache, tiles.few, partials, scale, dct);
}

}  // namespace

TileMemory memory_of_tile(const Cache& cache) {
  return cache.format.coded ? ManyLayout(cache.head_dim, cache.open_side, cache.sealed_side).memory()
                            : TileMemory{};
}

void attention(Mat<float> out, Mat<const float> q, const Cache& cache, const AttentionTiles& tiles,
               const Partials& partials, float scale, const DctTable* dct, cudaStream_t stream) {
  if (cache.format.coded) attention_coded(out, q, cache, tiles, partials, scale * kLog2E, dct, stream);
  else attention_float(out, q, cache, tiles, partials, scale * kLog2E, stream);
  if (tiles.split_count == 0) return;
  launch("fold_splits", fold_splits_kernel,
         {dim3(uint32_t(tiles.split_count), uint32_t(cache.kv_heads), uint32_t(kFewQueries)),
          dim3(uint32_t(round_up(cache.head_dim, kWarpSize))), 0, kOverlaps},
         stream, out, tiles.split, partials, int(q.cols / cache.head_dim / cache.kv_heads),
         int(cache.head_dim));
}

}  // namespace stamp::cuda

// Causal attention over the pages of a sequence, 64 keys at a time, with the softmax kept up as pages go by.
// A block handles a tile of queries that share a KV head; coded pages travel to shared memory as they are and
// are never turned into tokens: scores = L^-1 (K~ q), output = (L p)^T V~ (STaMP on the cache, design section
// 3).
//
// Every kSplitPages pages are a split: the softmax begins anew, and results of splits are folded in their
// order. For few queries (decoding) a block has one split and writes a partial result, and another kernel
// folds them; for many a block goes through all splits. Either way every sum of a query is in one order,
// which depends on nothing but the query's own sequence.
//
// Scores: a thread has one key and half of the queries. Transforms: a thread has one query and all 64 keys in
// registers. Softmax: a warp has one query at a time. Output: a thread has two channels and four queries.
#include "kernels/cuda/kv_page.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/seq_transform.cuh"

namespace stamp::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarpSize, kStages = 2;
static_assert(kThreads == 2 * kB && kB == 2 * kWarpSize);

/// Shared memory but for what follows the model's head size: queries and outputs [kTile, d], pages.
template <int kTile>
struct Softmax {
  // Scores, softmax weights and their coefficients in turn. The pitch keeps rows on 16 bytes and eight of
  // them, which eight lanes read at once, in different banks.
  alignas(16) float score[kTile][kB + 4];
  float query_sum[kTile], correction[kTile], shift[kTile];
  float old_weight[kTile], new_weight[kTile], total[kTile];  // of a fold
};

STAMP_INLINE int64_t page_stage_bytes(const Cache& cache) {
  return !cache.format.coded
             ? 0
             : 2 * (cache.open_side.bytes() > cache.sealed_side.bytes() ? cache.open_side.bytes()
                                                                        : cache.sealed_side.bytes());
}
STAMP_INLINE int64_t pitch_of(const Cache& cache) { return round_up(cache.head_dim, 4); }
template <int kTile>
STAMP_INLINE int64_t shared_bytes(const Cache& cache) {
  return int64_t{sizeof(Softmax<kTile>)} + 2 * kTile * pitch_of(cache) * 4 +
         kStages * page_stage_bytes(cache);
}

/// Row of the batch and first channel of a tile's query i.
__device__ __forceinline__ int64_t row_of(const QueryTile& tile, int sharing, int i) {
  return tile.row + (tile.first + i) / sharing;
}
__device__ __forceinline__ int64_t channel_of(const QueryTile& tile, int sharing, int64_t head, int d,
                                              int i) {
  return (head * sharing + (tile.first + i) % sharing) * d;
}

/// Starts the copy of a head's keys and values in one page.
__device__ __forceinline__ void fetch_page(std::byte* stage, const Cache& cache, int64_t page, int64_t head,
                                           bool sealed) {
  const std::byte* const source = coded_part(cache, page, head, 0, sealed);
  const int bytes = int(2 * (sealed ? cache.sealed_side : cache.open_side).bytes());
  for (int at = int(threadIdx.x) * 16; at < bytes; at += kThreads * 16)
    copy_async_16(stage + at, source + at);
}

/// The nearest multiple of peak / 127.
__device__ __forceinline__ float round_to_byte(float x, float peak) {
  return peak > kLeastPeak ? rintf(x * (127.0f / peak)) * (peak / 127.0f) : 0.0f;
}

/// dots[i] += query i . four codes, bytes of a word, of the channels that `channels` points to in query 0.
template <int kHalf>
__device__ __forceinline__ void dot_four(float (&dots)[kHalf], uint32_t codes, const float* channels,
                                         int pitch) {
  const float code[4] = {float(codes & 255), float(codes >> 8 & 255), float(codes >> 16 & 255),
                         float(codes >> 24)};
#pragma unroll
  for (int i = 0; i < kHalf; ++i) {
    const float4 x = *reinterpret_cast<const float4*>(channels + i * pitch);
    dots[i] = fmaf(x.x, code[0], dots[i]);
    dots[i] = fmaf(x.y, code[1], dots[i]);
    dots[i] = fmaf(x.z, code[2], dots[i]);
    dots[i] = fmaf(x.w, code[3], dots[i]);
  }
}

/// dots[i] = query i . codes of row r, for this thread's half of the queries. Lanes begin at different words
/// of their rows, so that rows a power of two apart do not meet in one bank; lanes with rows of 8 and of 4
/// bits have loops of their own, for the same reason.
template <int kHalf>
__device__ __forceinline__ void dot_codes(float (&dots)[kHalf], const uint8_t* row, int bits, int r,
                                          const float* q, int d, int pitch) {
#pragma unroll
  for (int i = 0; i < kHalf; ++i) dots[i] = 0.0f;
  if (d % 8 != 0) {  // rows do not begin at words
    for (int c = 0; c < d; ++c) {
      const float code = float(kv_code(row, bits, c, d));
      for (int i = 0; i < kHalf; ++i) dots[i] = fmaf(q[i * pitch + c], code, dots[i]);
    }
    return;
  }
  const auto* const words = reinterpret_cast<const uint32_t*>(row);
  const int count = bits > 4 ? d / 4 : d / 8, begin = r * count / kWarpSize;
  if (bits > 4) {
    for (int j = 0; j < count; ++j) {
      const int at = (j + begin) % count;
      dot_four(dots, words[at], q + 4 * at, pitch);
    }
  } else {
    for (int j = 0; j < count; ++j) {
      const int at = (j + begin) % count;
      const uint32_t word = words[at];
      dot_four(dots, word & 0x0f0f0f0fu, q + 4 * at, pitch);
      dot_four(dots, word >> 4 & 0x0f0f0f0fu, q + d / 2 + 4 * at, pitch);
    }
  }
}

template <bool kInverse>
__device__ __forceinline__ void transform_row(float* row, const BitPlan& plan, const DctTable* dct) {
  float t[kB];
#pragma unroll
  for (int r = 0; r < kB; r += 4) {
    const float4 x = *reinterpret_cast<const float4*>(row + r);
    t[r] = x.x, t[r + 1] = x.y, t[r + 2] = x.z, t[r + 3] = x.w;
  }
  transform<kInverse>(t, plan, dct);
#pragma unroll
  for (int r = 0; r < kB; r += 4)
    *reinterpret_cast<float4*>(row + r) = make_float4(t[r], t[r + 1], t[r + 2], t[r + 3]);
}

/// The results of two splits as one: weights of the first's and the second's sums.
struct Fold {
  float old_weight, new_weight;
};
__device__ __forceinline__ Fold fold(float& top, float& total, float next_top, float next_total) {
  const float high = fmaxf(top, next_top);
  const Fold f{expf(top - high), expf(next_top - high)};
  total = total * f.old_weight + next_total * f.new_weight;
  top = high;
  return f;
}
__device__ __forceinline__ float folded(float sum, float next_sum, const Fold& f) {
  return sum * f.old_weight + next_sum * f.new_weight;
}

template <class Op>
__device__ __forceinline__ float warp_reduce(float x, const Op& op) {
  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2) x = op(x, __shfl_xor_sync(kFullWarp, x, lanes));
  return x;
}

template <bool kCoded, int kTile>
__global__ void __launch_bounds__(kThreads, kTile == kFewQueries ? 3 : 2)
    attention_kernel(Mat<float> out, Mat<const float> q, Cache cache, const QueryTile* tiles,
                     Partials partials, float scale, const DctTable* dct) {
  constexpr int kHalf = kTile / 2, kPerWarp = kTile / kWarps;
  const QueryTile tile = tiles[blockIdx.x];
  const int tid = int(threadIdx.x), lane = tid % kWarpSize, warp = tid / kWarpSize;
  const int d = int(cache.head_dim), pitch = int(pitch_of(cache));
  const int sharing = int(q.cols) / d / int(cache.kv_heads);
  const int64_t head = blockIdx.y;
  std::byte* const memory = shared_array<std::byte>(shared_bytes<kTile>(cache));
  auto& s = *reinterpret_cast<Softmax<kTile>*>(memory);
  auto* const queries = reinterpret_cast<float*>(memory + sizeof(Softmax<kTile>));
  float* const sums = queries + kTile * pitch;
  std::byte* const stages = memory + sizeof(Softmax<kTile>) + 2 * kTile * pitch * sizeof(float);
  const int64_t stage_bytes = page_stage_bytes(cache);
  const auto is_sealed = [&](int64_t page) {
    return cache.format.seals(page) && (page + 1) * kBlock <= tile.length;
  };

  if (kCoded) {
    fetch_page(stages + tile.first_page % kStages * stage_bytes, cache, tile.page + tile.first_page, head,
               is_sealed(tile.first_page));
    commit_copies();
  }
  for (int i = tid; i < kTile * pitch; i += kThreads) {
    const int query = i / pitch, c = i % pitch;
    queries[i] =
        query < tile.count && c < d
            ? q.row(row_of(tile, sharing, query))[channel_of(tile, sharing, head, d, query) + c] * scale
            : 0.0f;
    sums[i] = 0.0f;
  }
  // Absent queries are multiplied and scaled beside present ones.
  for (int i = tid; i < kTile * kB; i += kThreads) s.score[i / kB][i % kB] = 0.0f;
  if (tid < kTile) s.correction[tid] = 0.0f, s.shift[tid] = 0.0f;
  __syncthreads();
  for (int query = warp; query < kTile; query += kWarps) {
    float* const values = queries + query * pitch;
    if (kCoded) {  // 8 bits, as Ops::attention says
      float peak = 0.0f;
      for (int c = lane; c < d; c += kWarpSize) peak = fmaxf(peak, fabsf(values[c]));
      peak = warp_reduce(peak, Max{});
      for (int c = lane; c < d; c += kWarpSize) values[c] = round_to_byte(values[c], peak);
    }
    float sum = 0.0f;
    for (int c = lane; c < d; c += kWarpSize) sum += values[c];
    sum = warp_reduce(sum, Sum{});
    if (lane == 0) s.query_sum[query] = sum;
  }
  // Of the warp's queries: in this split, and of the splits before it. All lanes have them.
  float top[kPerWarp], total[kPerWarp], folded_top[kPerWarp] = {}, folded_total[kPerWarp] = {};
#pragma unroll
  for (int i = 0; i < kPerWarp; ++i) top[i] = -INFINITY, total[i] = 0.0f;

  for (int64_t page = tile.first_page; page < tile.last_page; ++page) {
    const bool sealed = is_sealed(page);
    const KvSide side = sealed ? cache.sealed_side : cache.open_side;
    const std::byte* const part = stages + page % kStages * stage_bytes;
    if (kCoded) {
      if (page + 1 < tile.last_page)
        fetch_page(stages + (page + 1) % kStages * stage_bytes, cache, tile.page + page + 1, head,
                   is_sealed(page + 1));
      commit_copies();
      wait_copies<1>();
    }
    __syncthreads();  // the page is here; sums of queries, too

    const int key = tid % kB, first = tid / kB * kHalf;
    if (first < tile.count) {
      float dots[kHalf];
      if constexpr (kCoded) {
        dot_codes(dots, reinterpret_cast<const uint8_t*>(part + side.row_offset(key)), side.row_bits(key),
                  key, queries + first * pitch, d, pitch);
        const KvParameters p = kv_parameters(part, side, key);
#pragma unroll
        for (int i = 0; i < kHalf; ++i)
          s.score[first + i][key] = p.scale * (dots[i] - p.zero * s.query_sum[first + i]);
      } else {
        const float* const k = float_part(cache, tile.page + page, head, 0);
#pragma unroll
        for (int i = 0; i < kHalf; ++i) dots[i] = 0.0f;
        for (int c = 0; c < d; ++c) {
          const float x = k[c * kB + key];
#pragma unroll
          for (int i = 0; i < kHalf; ++i) dots[i] = fmaf(queries[(first + i) * pitch + c], x, dots[i]);
        }
#pragma unroll
        for (int i = 0; i < kHalf; ++i) s.score[first + i][key] = dots[i];
      }
    }
    __syncthreads();
    if (kCoded && sealed) {
      if (tid < tile.count) transform_row<true>(s.score[tid], cache.format.plan, dct);
      __syncthreads();
    }

#pragma unroll
    for (int i = 0; i < kPerWarp; ++i) {
      const int query = warp + i * kWarps;
      float* const t = s.score[query];
      // Keys after the query's own position are hidden, all from an absent query. No branch: shuffles follow.
      const int64_t visible =
          query < tile.count ? tile.position + (tile.first + query) / sharing + 1 - page * kBlock : 0;
      const bool sees[2] = {lane < visible, lane + kWarpSize < visible};
      const float x[2] = {sees[0] ? t[lane] : -INFINITY, sees[1] ? t[lane + kWarpSize] : -INFINITY};
      const float high = fmaxf(top[i], warp_reduce(fmaxf(x[0], x[1]), Max{}));
      const float correction = high > -INFINITY ? expf(top[i] - high) : 1.0f;
      const float p[2] = {sees[0] ? expf(x[0] - high) : 0.0f, sees[1] ? expf(x[1] - high) : 0.0f};
      total[i] = total[i] * correction + warp_reduce(p[0] + p[1], Sum{});
      top[i] = high;
      t[lane] = p[0];
      t[lane + kWarpSize] = p[1];
      if (lane == 0) s.correction[query] = correction;
    }
    if (kCoded && sealed) {
      __syncthreads();
      if (tid < tile.count) transform_row<false>(s.score[tid], cache.format.plan, dct);
      __syncthreads();
    }
    if constexpr (kCoded) {
      const KvParameters p[2] = {kv_parameters(part + side.bytes(), side, lane),
                                 kv_parameters(part + side.bytes(), side, lane + kWarpSize)};
#pragma unroll
      for (int i = 0; i < kPerWarp; ++i) {
        const int query = warp + i * kWarps;
        float* const t = s.score[query];
        float w[2] = {t[lane] * p[0].scale, t[lane + kWarpSize] * p[1].scale};
        const bool narrow[2] = {lane >= side.wide_rows(), lane + kWarpSize >= side.wide_rows()};
        const float peak =
            warp_reduce(fmaxf(narrow[0] ? fabsf(w[0]) : 0.0f, narrow[1] ? fabsf(w[1]) : 0.0f), Max{});
        if (narrow[0]) w[0] = round_to_byte(w[0], peak);
        if (narrow[1]) w[1] = round_to_byte(w[1], peak);
        const float shift = warp_reduce(w[0] * p[0].zero + w[1] * p[1].zero, Sum{});
        t[lane] = w[0];
        t[lane + kWarpSize] = w[1];
        if (lane == 0) s.shift[query] = shift;
      }
    }
    __syncthreads();

    const int pairs = d / 2;  // channels c and c + d / 2 share a byte where codes have 4 bits
    for (int item = tid; item < kTile / 4 * pairs; item += kThreads) {
      const int c = item % pairs, four = item / pairs * 4;
      if (four >= tile.count) break;
      float sum[4][2] = {};
      const auto accumulate = [&](int i, float w, float x, float y) {
        sum[i][0] = fmaf(w, x, sum[i][0]);
        sum[i][1] = fmaf(w, y, sum[i][1]);
      };
      // Rows beyond the sequence have no values yet.
      const int present = kCoded ? kB : int(min(int64_t(kB), tile.length - page * kBlock));
      for (int r = 0; r < present; r += 4) {
        float4 w[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) w[i] = *reinterpret_cast<const float4*>(&s.score[four + i][r]);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if (!kCoded && r + j >= present) break;
          float x, y;
          if constexpr (kCoded) {
            const auto* const codes =
                reinterpret_cast<const uint8_t*>(part + side.bytes() + side.row_offset(r + j));
            const int byte = codes[c];
            const bool wide = side.row_bits(r + j) > 4;
            x = float(wide ? byte : byte & 15);
            y = float(wide ? int(codes[c + pairs]) : byte >> 4);
          } else {
            const float* const v = float_part(cache, tile.page + page, head, 1) + (r + j) * d;
            x = v[c];
            y = v[c + pairs];
          }
#pragma unroll
          for (int i = 0; i < 4; ++i)
            accumulate(i, j == 0 ? w[i].x : j == 1 ? w[i].y : j == 2 ? w[i].z : w[i].w, x, y);
        }
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float& y = sums[(four + i) * pitch + c + h * pairs];
          y = y * s.correction[four + i] + (sum[i][h] - s.shift[four + i]);
        }
      }
    }
    __syncthreads();  // the page's stage and the scores may be overwritten
    if ((page + 1) % kSplitPages != 0 && page + 1 < tile.last_page) continue;

    // The split is complete.
    const bool is_first = page < kSplitPages, is_last = page + 1 == tile.last_page;
#pragma unroll
    for (int i = 0; i < kPerWarp; ++i) {
      const int query = warp + i * kWarps;
      if (query >= tile.count) break;
      if (tile.part >= 0) {
        if (lane == 0)
          partials.softmax[partials.row(tile.part, head) + query] = make_float2(top[i], total[i]);
        continue;
      }
      Fold f{};
      if (is_first) folded_top[i] = top[i], folded_total[i] = total[i];
      else f = fold(folded_top[i], folded_total[i], top[i], total[i]);
      if (lane == 0)
        s.old_weight[query] = f.old_weight, s.new_weight[query] = f.new_weight,
        s.total[query] = folded_total[i];
      top[i] = -INFINITY, total[i] = 0.0f;
    }
    __syncthreads();
    for (int i = tid; i < tile.count * d; i += kThreads) {
      const int query = i / d, c = i % d;
      float& sum = sums[query * pitch + c];
      if (tile.part >= 0) {
        partials.sums[(partials.row(tile.part, head) + query) * d + c] = sum;
        continue;
      }
      float& y = out.row(row_of(tile, sharing, query))[channel_of(tile, sharing, head, d, query) + c];
      const float all = is_first ? sum : folded(y, sum, {s.old_weight[query], s.new_weight[query]});
      y = is_last ? all / s.total[query] : all;
      sum = 0.0f;
    }
  }
}

constexpr int kFoldThreads = 256;

/// A block folds the splits of a tile of few queries, one KV head.
__global__ void __launch_bounds__(kFoldThreads)
    fold_splits_kernel(Mat<float> out, const QueryTile* tiles, Partials partials, int sharing, int d,
                       int most_splits) {
  const QueryTile tile = tiles[blockIdx.x];
  const int splits = int(divide_up(tile.last_page, kSplitPages));
  auto* const softmax = shared_array<float2>(int64_t{most_splits} * kFewQueries);
  for (int i = int(threadIdx.x); i < splits * kFewQueries; i += kFoldThreads)
    if (i % kFewQueries < tile.count)
      softmax[i] = partials.softmax[partials.row(tile.part + i / kFewQueries, blockIdx.y) + i % kFewQueries];
  __syncthreads();
  for (int i = int(threadIdx.x); i < tile.count * d; i += kFoldThreads) {
    const int query = i / d, c = i % d;
    float top = softmax[query].x, total = softmax[query].y,
          y = partials.sums[(partials.row(tile.part, blockIdx.y) + query) * d + c];
    for (int split = 1; split < splits; ++split) {
      const float2 next = softmax[split * kFewQueries + query];
      const Fold f = fold(top, total, next.x, next.y);
      y = folded(y, partials.sums[(partials.row(tile.part + split, blockIdx.y) + query) * d + c], f);
    }
    out.row(row_of(tile, sharing, query))[channel_of(tile, sharing, blockIdx.y, d, query) + c] = y / total;
  }
}

template <bool kCoded, int kTile>
void start(Mat<float> out, Mat<const float> q, const Cache& cache, const QueryTile* tiles, int64_t count,
           const Partials& partials, float scale, const DctTable* dct, cudaStream_t stream) {
  if (count == 0) return;
  const Shape shape{dim3(uint32_t(count), uint32_t(cache.kv_heads)), kThreads,
                    size_t(shared_bytes<kTile>(cache))};
  const char* const name = kCoded                 ? kTile == kFewQueries ? "attention_few" : "attention"
                           : kTile == kFewQueries ? "attention_float_few"
                                                  : "attention_float";
  launch(name, attention_kernel<kCoded, kTile>, shape, stream, out, q, cache, tiles, partials, scale, dct);
}

}  // namespace

void attention(Mat<float> out, Mat<const float> q, const Cache& cache, const AttentionTiles& tiles,
               const Partials& partials, float scale, const DctTable* dct, cudaStream_t stream) {
  const auto run = [&]<bool kCoded>() {
    start<kCoded, kQueries>(out, q, cache, tiles.many, tiles.many_count, partials, scale, dct, stream);
    start<kCoded, kFewQueries>(out, q, cache, tiles.few, tiles.few_count, partials, scale, dct, stream);
  };
  if (cache.format.coded) run.operator()<true>();
  else run.operator()<false>();
  if (tiles.split_count == 0) return;
  const size_t bytes = size_t(tiles.most_splits * kFewQueries) * sizeof(float2);
  launch("fold_splits", fold_splits_kernel,
         {dim3(uint32_t(tiles.split_count), uint32_t(cache.kv_heads)), kFoldThreads, bytes}, stream, out,
         tiles.split, partials, int(q.cols / cache.head_dim / cache.kv_heads), int(cache.head_dim),
         int(tiles.most_splits));
}

}  // namespace stamp::cuda

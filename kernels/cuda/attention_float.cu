// Causal attention over pages of floats: attention.cu's tiles and splits without codes and transforms.
//
// Scores: a thread has one key and half of the queries. Softmax: a warp has one query at a time. Output: a
// thread has two channels and four queries.
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/seq_transform.cuh"

namespace stamp::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarpSize, kQueries = 32;
static_assert(kThreads == 2 * kB && kB == 2 * kWarpSize);

/// Shared memory but for what follows the model's head size: queries and outputs [kTile, d], pages.
template <int kTile>
struct Softmax {
  // Scores, softmax weights and their coefficients in turn. The pitch keeps rows on 16 bytes and eight of
  // them, which eight lanes read at once, in different banks.
  alignas(16) float score[kTile][kB + 4];
  float correction[kTile];
  float old_weight[kTile], new_weight[kTile], total[kTile];  // of a fold
};

STAMP_INLINE int64_t pitch_of(const Cache& cache) { return round_up(cache.head_dim, 4); }
template <int kTile>
STAMP_INLINE int64_t shared_bytes(const Cache& cache) {
  return int64_t{sizeof(Softmax<kTile>)} + 2 * kTile * pitch_of(cache) * 4;
}

template <int kTile>
__global__ void __launch_bounds__(kThreads, kTile == kFewQueries ? 3 : 2)
    attention_float_kernel(Mat<float> out, Mat<const float> q, Cache cache, const QueryTile* tiles,
                           Partials partials, float scale) {
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
  if (tid < kTile) s.correction[tid] = 0.0f;
  // Of the warp's queries: in this split, and of the splits before it. All lanes have them.
  float top[kPerWarp], total[kPerWarp], folded_top[kPerWarp] = {}, folded_total[kPerWarp] = {};
#pragma unroll
  for (int i = 0; i < kPerWarp; ++i) top[i] = -INFINITY, total[i] = 0.0f;

  for (int64_t page = tile.first_page; page < tile.last_page; ++page) {
    __syncthreads();  // queries
    const int key = tid % kB, first = tid / kB * kHalf;
    if (first < tile.count) {
      float dots[kHalf];
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
    __syncthreads();
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
      const float correction = high > -INFINITY ? exp2_approx(top[i] - high) : 1.0f;
      const float p[2] = {sees[0] ? exp2_approx(x[0] - high) : 0.0f,
                          sees[1] ? exp2_approx(x[1] - high) : 0.0f};
      total[i] = total[i] * correction + warp_reduce(p[0] + p[1], Sum{});
      top[i] = high;
      t[lane] = p[0];
      t[lane + kWarpSize] = p[1];
      if (lane == 0) s.correction[query] = correction;
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
      const int present = int(min(int64_t(kB), tile.length - page * kBlock));
      for (int r = 0; r < present; r += 4) {
        float4 w[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) w[i] = *reinterpret_cast<const float4*>(&s.score[four + i][r]);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          if (r + j >= present) break;
          const float* const v = float_part(cache, tile.page + page, head, 1) + (r + j) * d;
          const float x = v[c], y = v[c + pairs];
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
          y = y * s.correction[four + i] + sum[i][h];
        }
      }
    }
    __syncthreads();  // the scores may be overwritten
    if ((page + 1) % kSplitPages != 0 && page + 1 < tile.last_page) continue;

    // The split is complete.
    const bool is_first = page < kSplitPages, is_last = page + 1 == tile.last_page;
#pragma unroll
    for (int i = 0; i < kPerWarp; ++i) {
      const int query = warp + i * kWarps;
      if (query >= tile.count) break;
      if (tile.part >= 0) {
        if (lane == 0)
          partials.softmax[partials.softmax_at(tile.part, head, query)] = make_float2(top[i], total[i]);
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

template <int kTile>
void start(Mat<float> out, Mat<const float> q, const Cache& cache, const QueryTile* tiles, int64_t count,
           const Partials& partials, float scale, cudaStream_t stream) {
  if (count == 0) return;
  const Shape shape{dim3(uint32_t(count), uint32_t(cache.kv_heads)), kThreads,
                    size_t(shared_bytes<kTile>(cache))};
  launch(kTile == kFewQueries ? "attention_float_few" : "attention_float", attention_float_kernel<kTile>,
         shape, stream, out, q, cache, tiles, partials, scale);
}

}  // namespace

void attention_float(Mat<float> out, Mat<const float> q, const Cache& cache, const AttentionTiles& tiles,
                     const Partials& partials, float scale, cudaStream_t stream) {
  start<kQueries>(out, q, cache, tiles.many, tiles.many_count, partials, scale, stream);
  start<kFewQueries>(out, q, cache, tiles.few, tiles.few_count, partials, scale, stream);
}

}  // namespace stamp::cuda

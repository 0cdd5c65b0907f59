// Causal attention over the pages of a sequence, 64 keys at a time, with the softmax kept up as pages go by.
// A block handles a tile of queries that share a KV head; coded pages travel to shared memory as they are and
// are never turned into tokens: scores = L^-1 (K~ q), output = (L p)^T V~ (STaMP on the cache, design section
// 3).
//
// Scores: a thread has one key and half of the queries. Softmax and transforms: a thread has one query and
// all 64 keys in registers. Output: a thread has one channel and four queries. Every sum of a query is in an
// order that depends on nothing but the query's own sequence.
#include "kernels/cuda/kv_page.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/seq_transform.cuh"

namespace stamp::cuda {
namespace {

constexpr int kThreads = 128, kHalf = kQueries / 2, kStages = 2;
static_assert(kThreads == 2 * kB);

/// Shared memory but for what follows the model's head size: queries and outputs [kQueries, d], pages.
struct Softmax {
  float score[kQueries][kB + 1];  // a lane reads its own row
  alignas(
      16) float weight[kB][kQueries + 4];  // softmax weights or their coefficients, times the rows' scales
  float query_sum[kQueries], correction[kQueries], shift[kQueries], total[kQueries];
};

STAMP_INLINE int64_t page_stage_bytes(const Cache& cache) {
  return !cache.format.coded
             ? 0
             : 2 * (cache.open_side.bytes() > cache.sealed_side.bytes() ? cache.open_side.bytes()
                                                                        : cache.sealed_side.bytes());
}
STAMP_INLINE int64_t shared_bytes(const Cache& cache) {
  const int64_t pitch = round_up(cache.head_dim, 4);
  return int64_t{sizeof(Softmax)} + 2 * kQueries * pitch * 4 + kStages * page_stage_bytes(cache);
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

/// dots[i] = query i . codes of row r, for this thread's half of the queries. Lanes begin at different words
/// of their rows, so that rows a power of two apart do not meet in one bank.
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
  const int count = bits > 4 ? d / 4 : d / 8;
  for (int j = 0; j < count; ++j) {
    const int at = (j + r * count / kWarpSize) % count;
    const uint32_t word = words[at];
    const auto add = [&](uint32_t four, const float* channels) {
      const float code[4] = {float(four & 255), float(four >> 8 & 255), float(four >> 16 & 255),
                             float(four >> 24)};
#pragma unroll
      for (int i = 0; i < kHalf; ++i) {
        const float4 x = *reinterpret_cast<const float4*>(channels + i * pitch);
        dots[i] = fmaf(x.x, code[0], dots[i]);
        dots[i] = fmaf(x.y, code[1], dots[i]);
        dots[i] = fmaf(x.z, code[2], dots[i]);
        dots[i] = fmaf(x.w, code[3], dots[i]);
      }
    };
    if (bits > 4) {
      add(word, q + 4 * at);
    } else {
      add(word & 0x0f0f0f0fu, q + 4 * at);
      add(word >> 4 & 0x0f0f0f0fu, q + d / 2 + 4 * at);
    }
  }
}

template <bool kCoded>
__global__ void __launch_bounds__(kThreads)
    attention_kernel(Mat<float> out, Mat<const float> q, Cache cache, const QueryTile* tiles, float scale,
                     const DctTable* dct) {
  const QueryTile tile = tiles[blockIdx.x];
  const int tid = int(threadIdx.x), d = int(cache.head_dim), pitch = int(round_up(cache.head_dim, 4));
  const int64_t head = blockIdx.y, heads = q.cols / d, sharing = heads / cache.kv_heads;
  std::byte* const memory = shared_array<std::byte>(shared_bytes(cache));
  auto& s = *reinterpret_cast<Softmax*>(memory);
  auto* const queries = reinterpret_cast<float*>(memory + sizeof(Softmax));
  float* const sums = queries + kQueries * pitch;
  std::byte* const stages = memory + sizeof(Softmax) + 2 * kQueries * pitch * sizeof(float);
  const int64_t stage_bytes = page_stage_bytes(cache);

  // Row of the batch and first channel of query i.
  const auto row_of = [&](int i) { return tile.row + (tile.first + i) / sharing; };
  const auto channel_of = [&](int i) { return (head * sharing + (tile.first + i) % sharing) * d; };
  const auto is_sealed = [&](int64_t page) {
    return cache.format.seals(page) && (page + 1) * kBlock <= tile.length;
  };

  for (int i = tid; i < kQueries * pitch; i += kThreads) {
    const int query = i / pitch, c = i % pitch;
    queries[i] = query < tile.count && c < d ? q.row(row_of(query))[channel_of(query) + c] * scale : 0.0f;
    sums[i] = 0.0f;
  }
  const int64_t last_row = (tile.first + tile.count - 1) / sharing;
  const int64_t pages = divide_up(tile.position + last_row + 1, kBlock);
  if (kCoded) {
    fetch_page(stages, cache, tile.page, head, is_sealed(0));
    commit_copies();
  }
  __syncthreads();
  float top = -INFINITY, total = 0.0f;  // of query tid
  for (int query = tid / kWarpSize; query < kQueries; query += kThreads / kWarpSize) {
    float* const values = queries + query * pitch;
    if (kCoded) {  // 8 bits, as Ops::attention says
      float peak = 0.0f;
      for (int c = tid % kWarpSize; c < d; c += kWarpSize) peak = fmaxf(peak, fabsf(values[c]));
      for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2)
        peak = fmaxf(peak, __shfl_xor_sync(kFullWarp, peak, lanes));
      for (int c = tid % kWarpSize; c < d; c += kWarpSize) values[c] = round_to_byte(values[c], peak);
    }
    float sum = 0.0f;
    for (int c = tid % kWarpSize; c < d; c += kWarpSize) sum += values[c];
    for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kFullWarp, sum, lanes);
    if (tid % kWarpSize == 0) s.query_sum[query] = sum;
  }

  for (int64_t page = 0; page < pages; ++page) {
    const bool sealed = is_sealed(page);
    const KvSide side = sealed ? cache.sealed_side : cache.open_side;
    const std::byte* const part = stages + page % kStages * stage_bytes;
    if (kCoded) {
      if (page + 1 < pages)
        fetch_page(stages + (page + 1) % kStages * stage_bytes, cache, tile.page + page + 1, head,
                   is_sealed(page + 1));
      commit_copies();
      wait_copies<1>();
    }
    __syncthreads();  // the page is here; sums of queries, too

    const int key = tid % kB, first = tid / kB * kHalf;
    float dots[kHalf];
    if constexpr (kCoded) {
      dot_codes(dots, reinterpret_cast<const uint8_t*>(part + side.row_offset(key)), side.row_bits(key), key,
                queries + first * pitch, d, pitch);
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
    __syncthreads();

    if (tid < kQueries) {
      float t[kB];
#pragma unroll
      for (int r = 0; r < kB; ++r) t[r] = s.score[tid][r];
      if (kCoded && sealed) transform<true>(t, cache.format.plan, dct);
      // Keys after the query's own position are hidden, those of an absent query all.
      const int64_t visible =
          tid < tile.count ? tile.position + (tile.first + tid) / sharing + 1 - page * kBlock : 0;
      float high = top;
#pragma unroll
      for (int r = 0; r < kB; ++r)
        if (r < visible) high = fmaxf(high, t[r]);
      const float correction = high > -INFINITY ? expf(top - high) : 1.0f;
      top = high;
      float sum = 0.0f;
#pragma unroll
      for (int r = 0; r < kB; ++r) {
        t[r] = r < visible ? expf(t[r] - high) : 0.0f;
        sum += t[r];
      }
      total = total * correction + sum;
      if (kCoded && sealed) transform<false>(t, cache.format.plan, dct);
      float shift = 0.0f, peak = 0.0f;
#pragma unroll
      for (int r = 0; r < kB; ++r) {
        if constexpr (kCoded) {
          t[r] *= kv_parameters(part + side.bytes(), side, r).scale;
          if (r >= side.wide_rows()) peak = fmaxf(peak, fabsf(t[r]));
        }
      }
#pragma unroll
      for (int r = 0; r < kB; ++r) {
        if constexpr (kCoded) {
          if (r >= side.wide_rows()) t[r] = round_to_byte(t[r], peak);
          shift = fmaf(t[r], kv_parameters(part + side.bytes(), side, r).zero, shift);
        }
        s.weight[r][tid] = t[r];
      }
      s.correction[tid] = correction;
      s.shift[tid] = shift;
      s.total[tid] = total;
    }
    __syncthreads();

    for (int item = tid; item < kQueries / 4 * d; item += kThreads) {
      const int c = item % d, four = item / d * 4;
      if (four >= tile.count) break;
      float sum[4] = {};
      const auto accumulate = [&](int r, float x) {
        const float4 w = *reinterpret_cast<const float4*>(&s.weight[r][four]);
        sum[0] = fmaf(w.x, x, sum[0]);
        sum[1] = fmaf(w.y, x, sum[1]);
        sum[2] = fmaf(w.z, x, sum[2]);
        sum[3] = fmaf(w.w, x, sum[3]);
      };
      if constexpr (kCoded) {
        const auto* const values = reinterpret_cast<const uint8_t*>(part + side.bytes());
        for (int r = 0; r < kB; ++r)
          accumulate(r, float(kv_code(values + side.row_offset(r), side.row_bits(r), c, d)));
      } else {
        // Rows beyond the sequence have no values yet.
        const int present = int(min(int64_t(kB), tile.length - page * kBlock));
        const float* const v = float_part(cache, tile.page + page, head, 1);
        for (int r = 0; r < present; ++r) accumulate(r, v[r * d + c]);
      }
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& y = sums[(four + i) * pitch + c];
        y = y * s.correction[four + i] + (sum[i] - s.shift[four + i]);
      }
    }
    __syncthreads();  // the page's stage and the scores may be overwritten
  }
  for (int i = tid; i < tile.count * d; i += kThreads) {
    const int query = i / d, c = i % d;
    out.row(row_of(query))[channel_of(query) + c] = sums[query * pitch + c] / s.total[query];
  }
}

}  // namespace

void attention(Mat<float> out, Mat<const float> q, const Cache& cache, const QueryTile* tiles, int64_t count,
               float scale, const DctTable* dct, cudaStream_t stream) {
  const Shape shape{dim3(uint32_t(count), uint32_t(cache.kv_heads)), kThreads, size_t(shared_bytes(cache))};
  if (cache.format.coded)
    launch("attention", attention_kernel<true>, shape, stream, out, q, cache, tiles, scale, dct);
  else launch("attention_float", attention_kernel<false>, shape, stream, out, q, cache, tiles, scale, dct);
}

}  // namespace stamp::cuda

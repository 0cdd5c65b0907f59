#pragma once
#include "kernels/cuda/attention_page.cuh"

/// page_weights() by four neighbouring lanes for a query, where few queries would leave most lanes idle and a
/// thread's code for 64 rows is longer than what an instruction cache holds. The same sums in the same order,
/// so the same bits.
///
/// Of tokens, lane q of the four has row 4 k + q in t[k]. Of coefficients of Haar's transform it has 16
/// neighbouring rows, or, for the stages of the transform, lane 0 rows k, lane 2 rows 16 + k, lane 1 rows
/// 32 + 2 k and lane 3 rows 33 + 2 k: then both operands of a butterfly are in one register of two lanes.
namespace stamp::cuda {

__device__ __forceinline__ float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullWarp, x, 2));
}
/// (x0 + x1) + (x2 + x3)
template <class T>
__device__ __forceinline__ T quad_sum(T x) {
  x += __shfl_xor_sync(kFullWarp, x, 1);
  return x + __shfl_xor_sync(kFullWarp, x, 2);
}
/// Sums in one of two lanes, differences in the other.
__device__ __forceinline__ void lane_butterflies(float (&t)[kQuadRows], int lanes, bool second, bool here) {
#pragma unroll
  for (float& x : t) {
    const float other = __shfl_xor_sync(kFullWarp, x, lanes);
    if (here) x = second ? other - x : x + other;
  }
}

/// S^T t, from lane q's 16 neighbouring coefficients to its tokens, and S t, the way back. `coarse`: sums of
/// the transform, at most 16.
__device__ __forceinline__ void quad_sums_transposed(float (&t)[kQuadRows], int q, int coarse) {
  constexpr int kHalf = kQuadRows / 2;
  const bool detail = q % 2 == 1, upper = q == 3;
  float x[kQuadRows];
#pragma unroll
  for (int k = 0; k < kHalf; ++k) {  // lane 1 gives its odd rows for the even ones of lane 3
    const float got = __shfl_xor_sync(kFullWarp, upper ? t[2 * k] : t[2 * k + 1], 2);
    const float first = upper ? got : t[2 * k], second = upper ? t[2 * k + 1] : got;
    x[k] = detail ? first : t[k];
    x[kHalf + k] = detail ? second : t[kHalf + k];
  }
  if (q == 0) {
    if (coarse < 2) haar_step_transposed<2>(x);
    if (coarse < 4) haar_step_transposed<4>(x);
    if (coarse < 8) haar_step_transposed<8>(x);
    if (coarse < 16) haar_step_transposed<16>(x);
  }
  lane_butterflies(x, 2, q >= 2, !detail);
  lane_butterflies(x, 1, detail, true);
#pragma unroll
  for (int k = 0; k < kQuadRows; ++k) t[k] = x[k];
}
__device__ __forceinline__ void quad_sums(float (&t)[kQuadRows], int q, int coarse) {
  constexpr int kHalf = kQuadRows / 2;
  const bool detail = q % 2 == 1, upper = q == 3;
  lane_butterflies(t, 1, detail, true);
  lane_butterflies(t, 2, q >= 2, !detail);
  if (q == 0) {
    if (coarse < 16) haar_step<16>(t);
    if (coarse < 8) haar_step<8>(t);
    if (coarse < 4) haar_step<4>(t);
    if (coarse < 2) haar_step<2>(t);
  }
  float x[kQuadRows];
#pragma unroll
  for (int k = 0; k < kHalf; ++k) {
    const float got = __shfl_xor_sync(kFullWarp, upper ? t[k] : t[kHalf + k], 2);
    const float first = upper ? got : t[k], second = upper ? t[kHalf + k] : got;
    x[2 * k] = detail ? first : t[2 * k];
    x[2 * k + 1] = detail ? second : t[2 * k + 1];
  }
#pragma unroll
  for (int k = 0; k < kQuadRows; ++k) t[k] = x[k];
}

/// The lane's part of one page and query: its place among the four, and the query's row of scores.
struct QuadRow {
  int q = int(threadIdx.x) % kQuad, row = int(threadIdx.x) % kWarpSize / kQuad;
  /// First of its neighbouring coefficients.
  __device__ __forceinline__ int first() const { return q % 2 * (kB / 2) + q / 2 * kQuadRows; }
};

/// A page of tokens, all of whose rows are wide: the weights t to 16 bits.
__device__ __forceinline__ void store_token_weights(PageWeights& result, int32_t* scores,
                                                    const float (&t)[kQuadRows], const PageTables& tables,
                                                    const QuadRow& at) {
  float peak = 0.0f, zeros = 0.0f;
#pragma unroll
  for (float x : t) peak = fmaxf(peak, fabsf(x));
  peak = quad_max(peak);
  const float factor = peak > kLeastPeak ? kMostWideWeight / peak : 0.0f;
  auto* const bytes = reinterpret_cast<uint8_t*>(scores + at.row * kRowWords);
  const int turn = weight_turn(at.row);
#pragma unroll
  for (int k = 0; k < kQuadRows; ++k) {
    const int weight = __float2int_rn(t[k] * factor), moved = weight + 128;
    zeros = fmaf(float(weight), tables.v_zero[table_place(kQuad * k + at.q)], zeros);
    const int byte = k % 4 * 4 + ((at.q - k) & 3);  // see value_row()
    bytes[((4 * kWideHigh + k / 4) ^ turn) * 16 + byte] = uint8_t(moved >> 8);
    bytes[((4 * kWideLow + k / 4) ^ turn) * 16 + byte] = uint8_t(moved ^ 0x80);
  }
  result.wide_step = peak * (1.0f / kMostWideWeight);
  result.shift = quad_sum(zeros) * result.wide_step;
}

/// A page of coefficients: weights of wide rows to 16 bits, of the others to 8.
__device__ __forceinline__ void store_coefficient_weights(PageWeights& result, int32_t* scores,
                                                          float (&t)[kQuadRows], int wide,
                                                          const PageTables& tables, const QuadRow& at) {
  auto* const words = reinterpret_cast<uint4*>(scores + at.row * kRowWords);
  const int turn = weight_turn(at.row), first = at.first(), chunk = first / kQuadRows;
  if (wide > 0) {
    float peak = 0.0f;
#pragma unroll
    for (int k = 0; k < kQuadRows; ++k) peak = fmaxf(peak, first + k < wide ? fabsf(t[k]) : 0.0f);
    peak = quad_max(peak);
    const float factor = peak > kLeastPeak ? kMostWideWeight / peak : 0.0f;
    uint32_t high[4] = {}, low[4] = {};
    float zeros[4] = {};
    if (first < wide) {
#pragma unroll
      for (int w = 0; w < 4; ++w) wide_word(high[w], low[w], zeros, t, w, first, wide, factor, tables);
    }
    words[(4 * kWideHigh + chunk) ^ turn] = make_uint4(high[0], high[1], high[2], high[3]);
    words[(4 * kWideLow + chunk) ^ turn] = make_uint4(low[0], low[1], low[2], low[3]);
    result.wide_step = peak * (1.0f / kMostWideWeight);
    const float shift = ((zeros[0] + zeros[1]) + (zeros[2] + zeros[3])) * result.wide_step;
    result.shift = __shfl_sync(kFullWarp, shift, int(threadIdx.x) % kWarpSize & -kQuad);
  }
  float peak = 0.0f;
#pragma unroll
  for (float x : t) peak = fmaxf(peak, fabsf(x));
  peak = quad_max(peak);
  const float factor = peak > kLeastPeak ? 127.0f / peak : 0.0f;
  const uint4 points = reinterpret_cast<const uint4*>(tables.v_zeros)[chunk];
  int32_t zeros = 0;
  words[(4 * kNarrow + chunk) ^ turn] = narrow_chunk([&](int k) { return t[k]; }, factor, points, zeros);
  result.narrow_step = peak * (1.0f / 127.0f);
  result.shift = fmaf(float(quad_sum(zeros)), result.narrow_step * (1.0f / 16.0f), result.shift);
}

/// As page_weights(), of eight rows of scores, a warp together: every lane gets the result of row lane / 4.
/// Of tokens all rows are wide.
__device__ __forceinline__ PageWeights quad_weights(int32_t* scores, const PageTables& tables,
                                                    const Query& query, int64_t visible, int wide,
                                                    const BitPlan& plan, bool sealed) {
  const QuadRow at;
  const int coarse = kB >> plan.levels;
  const auto score = [&](int32_t dot, float scale, float zero) {
    return fmaf(-zero, query.sum, float(dot)) * scale;
  };
  float t[kQuadRows];
  if (sealed) {
    const auto* const words = reinterpret_cast<const int4*>(scores + at.row * kRowWords);
#pragma unroll
    for (int k = 0; k < kQuadRows; k += 4) {
      const int r = at.first() + k;
      const int4 dot = words[score_place(at.row, r / 4)];
      const auto scale = *reinterpret_cast<const float4*>(&tables.k_scale[table_place(r)]),
                 zero = *reinterpret_cast<const float4*>(&tables.k_zero[table_place(r)]);
      t[k] = score(dot.x, scale.x, zero.x), t[k + 1] = score(dot.y, scale.y, zero.y);
      t[k + 2] = score(dot.z, scale.z, zero.z), t[k + 3] = score(dot.w, scale.w, zero.w);
    }
    quad_sums_transposed(t, at.q, coarse);
  } else {
#pragma unroll
    for (int k = 0; k < kQuadRows; ++k) {
      const int place = table_place(kQuad * k + at.q);
      t[k] = score(scores[at.row * kRowWords + score_place(at.row, k) * 4 + at.q], tables.k_scale[place],
                   tables.k_zero[place]);
    }
  }
  float top = -INFINITY, total = 0.0f;
#pragma unroll
  for (int k = 0; k < kQuadRows; ++k) {
    if (kQuad * k + at.q >= visible) t[k] = -INFINITY;
    top = fmaxf(top, t[k]);
  }
  top = quad_max(top) * query.step;
  const float base = top > -INFINITY ? top : 0.0f;
#pragma unroll
  for (int k = 0; k < kQuadRows; ++k) {
    t[k] = exp2_approx(fmaf(t[k], query.step, -base));
    total = k == 0 ? t[k] : total + t[k];
  }
  PageWeights result{top, quad_sum(total), 0.0f, 0.0f, 0.0f};
  __syncwarp();  // all scores have been read, weights take their place
  if (sealed) {
    quad_sums(t, at.q, coarse);
#pragma unroll
    for (int k = 0; k < kQuadRows; k += 4) {
      const auto scale = *reinterpret_cast<const float4*>(&tables.v_scale[table_place(at.first() + k)]);
      t[k] *= scale.x, t[k + 1] *= scale.y, t[k + 2] *= scale.z, t[k + 3] *= scale.w;
    }
    store_coefficient_weights(result, scores, t, wide, tables, at);
  } else {
#pragma unroll
    for (int k = 0; k < kQuadRows; ++k) t[k] *= tables.v_scale[table_place(kQuad * k + at.q)];
    store_token_weights(result, scores, t, tables, at);
  }
  return result;
}

}  // namespace stamp::cuda

// Bodies of CpuKernels over the vector type V of the including file (vec_*.h). Included once per instruction
// set, inside a namespace of its own.

/// Asks for a line, or from farther away: into the second-level cache.
// Always inlined: GCC takes a call that only prefetches for one without effect and drops it.
__attribute__((always_inline)) inline void prefetch(const void* p) { __builtin_prefetch(p); }
__attribute__((always_inline)) inline void prefetch_far(const void* p) { __builtin_prefetch(p, 0, 2); }

// ---- elementwise ------------------------------------------------------------------------------------------

/// body(i, n): n lanes are live at offset i; n == kLanes but for the last.
template <class Body>
inline void for_lanes(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, int64_t(kLanes));
  if (i < n) body(i, n - i);
}
inline V load_some(const float* p, int64_t n) { return n == kLanes ? load(p) : load_n(p, n); }
inline void store_some(float* p, V v, int64_t n) { n == kLanes ? store(p, v) : store_n(p, v, n); }

#include "kernels/cpu/linear.inl"

/// exp(x) for x in [-87.3, 88], clamped outside; relative error below 2e-7. Cody-Waite reduction by ln 2 and
/// a Taylor polynomial of degree 7 on [-ln2/2, ln2/2] (its remainder there is below 6e-9).
inline V exp(V x) {
  x = min(max(x, set1(-87.3f)), set1(88.0f));
  const V n = round_nearest(mul(x, set1(1.44269504f)));
  V r = fma(n, set1(-0.693359375f), x);
  r = fma(n, set1(2.12194440e-4f), r);
  V p = set1(1.0f / 5040);
  p = fma(p, r, set1(1.0f / 720));
  p = fma(p, r, set1(1.0f / 120));
  p = fma(p, r, set1(1.0f / 24));
  p = fma(p, r, set1(1.0f / 6));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  return scale_by_power(p, n);
}

void rms_norm(float* out, const float* in, const float* gain, int64_t n, float eps) {
  V sum = set1(0.0f);
  for_lanes(n, [&](int64_t i, int64_t live) {
    const V x = load_some(in + i, live);
    sum = fma(x, x, sum);
  });
  const V inverse = set1(1.0f / __builtin_sqrtf(reduce_add(sum) / float(n) + eps));
  for_lanes(n, [&](int64_t i, int64_t live) {
    store_some(out + i, mul(mul(load_some(in + i, live), inverse), load_some(gain + i, live)), live);
  });
}

void rope(float* x, int64_t heads, int64_t head_dim, const float* cos, const float* sin) {
  const int64_t half = head_dim / 2;
  for (int64_t h = 0; h < heads; ++h, x += head_dim) {
    for_lanes(half, [&](int64_t i, int64_t live) {
      const V a = load_some(x + i, live), b = load_some(x + half + i, live);
      const V c = load_some(cos + i, live), s = load_some(sin + i, live);
      store_some(x + i, sub(mul(a, c), mul(b, s)), live);
      store_some(x + half + i, fma(a, s, mul(b, c)), live);
    });
  }
}

void silu_mul(float* gate, const float* up, int64_t n) {
  for_lanes(n, [&](int64_t i, int64_t live) {
    const V g = load_some(gate + i, live);
    const V silu = div(g, add(set1(1.0f), exp(sub(set1(0.0f), g))));
    store_some(gate + i, mul(silu, load_some(up + i, live)), live);
  });
}

void add_to(float* x, const float* y, int64_t n) {
  for_lanes(n, [&](int64_t i, int64_t live) {
    store_some(x + i, add(load_some(x + i, live), load_some(y + i, live)), live);
  });
}

/// The sum over [0, n) of what add_term(sum, i, live) adds to a register of sums: short sums in float, a
/// double carries the rest.
template <class AddTerm>
inline double long_sum(int64_t n, AddTerm add_term) {
  constexpr int64_t kChunk = 1024;
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    V sum = set1(0.0f);
    for_lanes(n - begin < kChunk ? n - begin : kChunk,
              [&](int64_t i, int64_t live) { sum = add_term(sum, begin + i, live); });
    total += double(reduce_add(sum));
  }
  return total;
}

double weighted_difference(const float* p, const float* q, int64_t n, double log_sum_p) {
  const V shift = set1(float(log_sum_p));
  return long_sum(n, [&](V sum, int64_t i, int64_t live) {
    const V x = load_some(p + i, live), y = load_some(q + i, live);
    return fma(exp(sub(x, shift)), sub(x, y), sum);  // dead lanes: x = y = 0
  });
}

double log_sum_exp(const float* x, int64_t n) {
  V top = set1(x[0]);
  for_lanes(n,
            [&](int64_t i, int64_t live) { top = max(top, keep_first(load_some(x + i, live), live, x[0])); });
  const V peak = set1(reduce_max(top));
  const double total = long_sum(n, [&](V sum, int64_t i, int64_t live) {
    return add(sum, keep_first(exp(sub(load_some(x + i, live), peak)), live, 0.0f));
  });
  return double(reduce_max(peak)) + __builtin_log(total);
}

// ---- attention --------------------------------------------------------------------------------------------

/// c [R, N vectors] (+)= a b: each element is one chain over k. Element (r, i) of a is a[r * a_row + i *
/// a_col].
template <int R, int N>
inline __attribute__((always_inline)) void multiply_tile(float* c, int64_t ldc, const float* a, int64_t a_row,
                                                         int64_t a_col, const float* b, int64_t ldb,
                                                         int64_t k, bool accumulate) {
  V acc[R][N];
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < N; ++j) acc[r][j] = accumulate ? load(c + r * ldc + j * kLanes) : set1(0.0f);
  for (int64_t i = 0; i < k; ++i) {
    V row[N];
    for (int j = 0; j < N; ++j) row[j] = load(b + i * ldb + j * kLanes);
    for (int r = 0; r < R; ++r) {
      const V x = set1(a[r * a_row + i * a_col]);
      for (int j = 0; j < N; ++j) acc[r][j] = fma(x, row[j], acc[r][j]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int j = 0; j < N; ++j) store(c + r * ldc + j * kLanes, acc[r][j]);
}

template <int N>
void multiply_columns(float* c, int64_t ldc, const float* a, int64_t a_row, int64_t a_col, const float* b,
                      int64_t ldb, int64_t rows, int64_t k, bool accumulate) {
  int64_t r = 0;
  for (; r + kMulRows <= rows; r += kMulRows)
    multiply_tile<kMulRows, N>(c + r * ldc, ldc, a + r * a_row, a_row, a_col, b, ldb, k, accumulate);
  for (; r + 3 <= rows; r += 3)
    multiply_tile<3, N>(c + r * ldc, ldc, a + r * a_row, a_row, a_col, b, ldb, k, accumulate);
  for (; r < rows; ++r)
    multiply_tile<1, N>(c + r * ldc, ldc, a + r * a_row, a_row, a_col, b, ldb, k, accumulate);
}

/// One vector column whose last lanes are dead.
inline void multiply_last_column(float* c, int64_t ldc, const float* a, int64_t a_row, int64_t a_col,
                                 const float* b, int64_t ldb, int64_t rows, int64_t live, int64_t k,
                                 bool accumulate) {
  for (int64_t r = 0; r < rows; ++r) {
    V acc = accumulate ? load_n(c + r * ldc, live) : set1(0.0f);
    for (int64_t i = 0; i < k; ++i) acc = fma(set1(a[r * a_row + i * a_col]), load_n(b + i * ldb, live), acc);
    store_n(c + r * ldc, acc, live);
  }
}

/// c [rows, n] (+)= a [rows, k] b [k, n]
void multiply(float* c, int64_t ldc, const float* a, int64_t a_row, int64_t a_col, const float* b,
              int64_t ldb, int64_t rows, int64_t n, int64_t k, bool accumulate) {
  int64_t j = 0;
  for (; j + kMulVecs * kLanes <= n; j += kMulVecs * kLanes)
    multiply_columns<kMulVecs>(c + j, ldc, a, a_row, a_col, b + j, ldb, rows, k, accumulate);
  if (kMulVecs > 3 && n - j >= 3 * kLanes) {
    multiply_columns<3>(c + j, ldc, a, a_row, a_col, b + j, ldb, rows, k, accumulate);
    j += 3 * kLanes;
  }
  if (kMulVecs > 2 && n - j >= 2 * kLanes) {
    multiply_columns<2>(c + j, ldc, a, a_row, a_col, b + j, ldb, rows, k, accumulate);
    j += 2 * kLanes;
  }
  if (n - j >= kLanes) {
    multiply_columns<1>(c + j, ldc, a, a_row, a_col, b + j, ldb, rows, k, accumulate);
    j += kLanes;
  }
  if (j < n) multiply_last_column(c + j, ldc, a, a_row, a_col, b + j, ldb, rows, n - j, k, accumulate);
}

/// One row of online softmax over a page: s[0, kBlock) becomes probabilities relative to the running maximum,
/// of which keys >= visible are zero; the row's output and sum are rescaled when the maximum moves.
inline void softmax_page(float* s, int64_t visible, float* peak, float* sum, float* out, int64_t head_dim) {
  const float lowest = -__builtin_inff();
  V top = set1(lowest);
  for (int64_t i = 0; i < kBlock; i += kLanes) top = max(top, keep_first(load(s + i), visible - i, lowest));
  const float page_peak = reduce_max(top);
  if (page_peak > *peak) {
    const V shift =
        exp(set1(*peak - page_peak));  // the first page's peak is -inf: sum and out are still zero
    *sum *= reduce_max(shift);
    for_lanes(head_dim, [&](int64_t i, int64_t live) {
      store_some(out + i, mul(load_some(out + i, live), shift), live);
    });
    *peak = page_peak;
  }
  const V base = set1(*peak);
  V total = set1(0.0f);
  for (int64_t i = 0; i < kBlock; i += kLanes) {
    const V p = keep_first(exp(sub(load(s + i), base)), visible - i, 0.0f);
    total = add(total, p);
    store(s + i, p);
  }
  *sum += reduce_add(total);
}

void attend(const AttendTile& t) {
  const int64_t rows = t.tokens * t.group, d = t.head_dim;
  float* q = t.scratch;            // [rows, head_dim], scaled
  float* out = q + rows * d;       // [rows, head_dim], not yet divided by the sum
  float* scores = out + rows * d;  // [rows, kBlock]
  float* peak = scores + rows * kBlock;
  float* sum = peak + rows;
  const V scale = set1(t.scale);
  for (int64_t r = 0; r < rows; ++r) {
    const float* source = t.q + r / t.group * t.q_stride + r % t.group * d;
    for_lanes(d, [&](int64_t i, int64_t live) {
      store_some(q + r * d + i, mul(load_some(source + i, live), scale), live);
      store_some(out + r * d + i, set1(0.0f), live);
    });
    peak[r] = -__builtin_inff();
    sum[r] = 0.0f;
  }
  const int64_t last_page = (t.position + t.tokens - 1) / kBlock;
  for (int64_t page = 0; page <= last_page; ++page) {
    const auto* base = reinterpret_cast<const float*>(t.page_base[t.pages[page]]);
    multiply(scores, kBlock, q, d, 1, base + t.k_offset, kBlock, rows, kBlock, d, false);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t visible = t.position + r / t.group + 1 - page * kBlock;
      softmax_page(scores + r * kBlock, visible < kBlock ? visible : kBlock, peak + r, sum + r, out + r * d,
                   d);
    }
    // Keys beyond the last position have probability zero; not reading them keeps stale values (NaN?) out.
    const int64_t keys = t.position + t.tokens - page * kBlock;
    multiply(out, d, scores, kBlock, 1, base + t.v_offset, d, rows, d, keys < kBlock ? keys : kBlock, true);
  }
  for (int64_t r = 0; r < rows; ++r) {
    float* target = t.out + r / t.group * t.out_stride + r % t.group * d;
    const V inverse = set1(1.0f / sum[r]);
    for_lanes(d, [&](int64_t i, int64_t live) {
      store_some(target + i, mul(load_some(out + r * d + i, live), inverse), live);
    });
  }
}

// In this order: each uses what the ones before define.
#include "kernels/cpu/seq_transform.inl"

#include "kernels/cpu/quantize.inl"

#include "kernels/cpu/linear_int.inl"

#include "kernels/cpu/kv_codec.inl"

#include "kernels/cpu/attend_page.inl"

#include "kernels/cpu/attend_tiles.inl"

#include "kernels/cpu/attend_ahead.inl"

#include "kernels/cpu/attend_few.inl"

#include "kernels/cpu/attend_open.inl"

#include "kernels/cpu/attend_coded.inl"

const CpuKernels kKernels = {.name = isa::kName,
                             .few_rows = 8 * kRowTile,
                             .tile_rows = kPackRows,
                             .tile_cols = kPackVecs * kLanes,
                             .lanes = kLanes,
                             .summed_rows = kPairSums ? INT64_MAX : int64_t{kStoredRows},
                             .widen = widen,
                             .linear = linear,
                             .linear_packed = linear_packed,
                             .pack_rows = pack_rows,
                             .pack_cols = pack_cols,
                             .rms_norm = rms_norm,
                             .rope = rope,
                             .silu_mul = silu_mul,
                             .add = add_to,
                             .attend = attend,
                             .log_sum_exp = log_sum_exp,
                             .weighted_difference = weighted_difference,
                             .transform = transform,
                             .quantize_row = quantize_row,
                             .dequantize_row = dequantize_row,
                             .group_sums = group_sums,
                             .hadamard = hadamard,
                             .int_linear = int_linear,
                             .widen_rows = widen_rows,
                             .kv_write_row = kv_write_row,
                             .kv_unpack = kv_unpack,
                             .kv_seal = kv_seal,
                             .attend_coded = attend_coded,
                             .finish_coded = finish_coded};

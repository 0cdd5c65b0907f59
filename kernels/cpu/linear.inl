// Float products. Every element of the output is kLanes chains of fma, chain l over the inputs l, l + kLanes,
// ..., folded like reduce_add, whichever of the two forms below computes it: a row's bits do not depend on
// how many rows there are.

struct F32Weights {
  using T = float;
  static V load(const T* p) { return isa::load(p); }
  static V load_n(const T* p, int64_t n) { return isa::load_n(p, n); }
};
struct F16Weights {
  using T = uint16_t;
  static V load(const T* p) { return load_f16(p); }
  static V load_n(const T* p, int64_t n) { return load_f16_n(p, n); }
};
struct Bf16Weights {
  using T = uint16_t;
  static V load(const T* p) { return load_bf16(p); }
  static V load_n(const T* p, int64_t n) { return load_bf16_n(p, n); }
};

// ---- few rows: weights as they are stored, the lanes of a register are the chains
// ---------------------------

/// R x C dot products of length k, all accumulators in registers. kFar: the weights are in no cache.
template <class W, int R, int C, bool kFar>
inline __attribute__((always_inline)) void dot_tile(float* out, int64_t ldo, const float* in, int64_t ldi,
                                                    const typename W::T* w, int64_t ldw, int64_t k,
                                                    const float* bias) {
  constexpr int64_t kLine = 64 / int64_t(sizeof(*w));
  V acc[R][C];
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) acc[r][c] = set1(0.0f);
  // The weights come from memory, in more streams than the hardware follows, each as short as a row. Tiles
  // lie one behind the other, so lines are asked for in the order of their addresses, a tile ahead and far
  // enough to arrive.
  const int64_t ahead = C * k > 128 * kLine ? C * k : 128 * kLine;
  const int64_t whole = k / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) {
    V a[R];
    for (int r = 0; r < R; ++r) a[r] = load(in + r * ldi + i);
    for (int c = 0; c < C; ++c) {
      if (kFar && i % kLine == 0) prefetch_far(w + i * C + c * kLine + ahead);
      const V b = W::load(w + c * ldw + i);
      for (int r = 0; r < R; ++r) acc[r][c] = fma(a[r], b, acc[r][c]);
    }
  }
  if (whole < k) {
    V a[R];
    for (int r = 0; r < R; ++r) a[r] = load_n(in + r * ldi + whole, k - whole);
    for (int c = 0; c < C; ++c) {
      const V b = W::load_n(w + c * ldw + whole, k - whole);
      for (int r = 0; r < R; ++r) acc[r][c] = fma(a[r], b, acc[r][c]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int c = 0; c < C; ++c) out[r * ldo + c] = reduce_add(acc[r][c]) + (bias ? bias[c] : 0.0f);
}

template <class W, int R, bool kFar>
void dot_rows(float* out, int64_t ldo, const float* in, int64_t ldi, const typename W::T* w, int64_t ldw,
              int64_t cols, int64_t k, const float* bias) {
  constexpr int C = R == 1 ? kColTileOneRow : kColTile;
  int64_t c = 0;
  for (; c + C <= cols; c += C)
    dot_tile<W, R, C, kFar>(out + c, ldo, in, ldi, w + c * ldw, ldw, k, bias ? bias + c : nullptr);
  for (; c < cols; ++c)
    dot_tile<W, R, 1, kFar>(out + c, ldo, in, ldi, w + c * ldw, ldw, k, bias ? bias + c : nullptr);
}

/// The first tile of rows brings the weights, for the others they are near.
template <class W, bool kFar>
void some_rows(float* out, int64_t ldo, const float* in, int64_t ldi, int64_t rows, const typename W::T* w,
               int64_t ldw, int64_t cols, int64_t k, const float* bias) {
  if (rows >= kRowTile) {
    dot_rows<W, kRowTile, kFar>(out, ldo, in, ldi, w, ldw, cols, k, bias);
    if (rows > kRowTile)
      some_rows<W, false>(out + kRowTile * ldo, ldo, in + kRowTile * ldi, ldi, rows - kRowTile, w, ldw, cols,
                          k, bias);
  } else if (kRowTile > 3 && rows == 3) {
    dot_rows<W, 3, kFar>(out, ldo, in, ldi, w, ldw, cols, k, bias);
  } else if (kRowTile > 2 && rows == 2) {
    dot_rows<W, 2, kFar>(out, ldo, in, ldi, w, ldw, cols, k, bias);
  } else {
    dot_rows<W, 1, kFar>(out, ldo, in, ldi, w, ldw, cols, k, bias);
  }
}

template <class W>
void linear_of(float* out, int64_t ldo, const float* in, int64_t ldi, int64_t rows, const void* weights,
               int64_t ldw, int64_t cols, int64_t k, const float* bias) {
  const auto* w = static_cast<const typename W::T*>(weights);
  if (rows <= kRowTile) return some_rows<W, true>(out, ldo, in, ldi, rows, w, ldw, cols, k, bias);
  constexpr int64_t kCols = 48;  // whole tiles, and near until all rows have passed
  for (int64_t c = 0; c < cols; c += kCols)
    some_rows<W, true>(out + c, ldo, in, ldi, rows, w + c * ldw, ldw, cols - c < kCols ? cols - c : kCols, k,
                       bias ? bias + c : nullptr);
}

void linear(float* out, int64_t ldo, const float* in, int64_t ldi, int64_t rows, const void* w, DType dtype,
            int64_t ldw, int64_t cols, int64_t k, const float* bias) {
  switch (dtype) {
    case DType::kF32:
      return linear_of<F32Weights>(out, ldo, in, ldi, rows, w, ldw, cols, k, bias);
    case DType::kF16:
      return linear_of<F16Weights>(out, ldo, in, ldi, rows, w, ldw, cols, k, bias);
    case DType::kBF16:
      return linear_of<Bf16Weights>(out, ldo, in, ldi, rows, w, ldw, cols, k, bias);
    default:
      __builtin_unreachable();  // quantised types come through widen_rows
  }
}

// ---- many rows: both sides packed chain by chain, the lanes of a register are output columns
// ---------------

/// Chains are packed in the order in which a stack of partial sums folds them like reduce_add: bits reversed.
constexpr int chain_place(int lane) {
  int place = 0;
  for (int bit = 1; bit < kLanes; bit *= 2) place = 2 * place + (lane & bit ? 1 : 0);
  return place;
}

/// packed[chain][step][i] = source[i][step * kLanes + lane of the chain], `live` of kWidth rows of length k,
/// the others and what is beyond k zero. kPackPad floats after each chain keep the chains, which are written
/// side by side, out of each other's cache sets.
template <class W, int kWidth>
void pack(float* packed, const typename W::T* source, int64_t ld, int64_t live, int64_t k) {
  constexpr int64_t kAhead = 512 / int64_t(sizeof(*source));  // of a row: sixteen are too many to follow
  const int64_t steps = (k + kLanes - 1) / kLanes;
  for (int64_t first = 0; first < kWidth; first += kLanes) {
    for (int64_t step = 0; step < steps; ++step) {
      const int64_t i = step * kLanes, n = k - i;
      V block[kLanes];
      for (int64_t r = 0; r < kLanes; ++r) {
        const auto* p = source + (first + r) * ld + i;
        if (i % (64 / int64_t(sizeof(*p))) == 0) prefetch_far(p + kAhead);
        block[r] = first + r >= live ? set1(0.0f) : n >= kLanes ? W::load(p) : W::load_n(p, n);
      }
      transpose(block);
      for (int lane = 0; lane < kLanes; ++lane) {
        float* target = packed + chain_place(lane) * (steps * kWidth + kPackPad) + step * kWidth + first;
        if (kWidth - first >= kLanes) store(target, block[lane]);
        else store_n(target, block[lane], kWidth - first);
      }
    }
  }
}

void pack_rows(float* packed, const float* in, int64_t ldi, int64_t rows, int64_t k) {
  pack<F32Weights, kPackRows>(packed, in, ldi, rows, k);
}

void pack_cols(float* packed, const void* w, DType dtype, int64_t ldw, int64_t cols, int64_t k) {
  constexpr int kCols = kPackVecs * kLanes;
  switch (dtype) {
    case DType::kF32:
      return pack<F32Weights, kCols>(packed, static_cast<const float*>(w), ldw, cols, k);
    case DType::kF16:
      return pack<F16Weights, kCols>(packed, static_cast<const uint16_t*>(w), ldw, cols, k);
    case DType::kBF16:
      return pack<Bf16Weights, kCols>(packed, static_cast<const uint16_t*>(w), ldw, cols, k);
    default:
      __builtin_unreachable();
  }
}

/// out [rows, cols] = one packed tile of rows times one packed panel of columns.
void linear_packed(float* out, int64_t ldo, int64_t rows, int64_t cols, const float* a, const float* w,
                   int64_t k, const float* bias) {
  constexpr int R = kPackRows, N = kPackVecs;
  const int64_t steps = (k + kLanes - 1) / kLanes;
  V stack[5][R][N];  // partial sums of 1, 2, 4, ... chains
  for (int chain = 0; chain < kLanes; ++chain, a += kPackPad, w += kPackPad) {
    V acc[R][N];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < N; ++v) acc[r][v] = set1(0.0f);
    for (int64_t step = 0; step < steps; ++step, a += R, w += N * kLanes) {
      V b[N];
      for (int v = 0; v < N; ++v) b[v] = load(w + v * kLanes);
      for (int r = 0; r < R; ++r) {
        const V x = set1(a[r]);
        for (int v = 0; v < N; ++v) acc[r][v] = fma(x, b[v], acc[r][v]);
      }
    }
    int level = 0;
    for (int bits = chain; bits % 2 == 1; bits /= 2, ++level)
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < N; ++v) acc[r][v] = add(stack[level][r][v], acc[r][v]);
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < N; ++v) stack[level][r][v] = acc[r][v];
  }
  constexpr int kAll = kLanes == 16 ? 4 : kLanes == 8 ? 3 : 2;
  for (int v = 0; v < N && v * kLanes < cols; ++v) {
    const int64_t n = cols - v * kLanes < kLanes ? cols - v * kLanes : int64_t(kLanes);
    const V b = bias ? load_some(bias + v * kLanes, n) : set1(0.0f);
    for (int64_t r = 0; r < rows; ++r) store_some(out + r * ldo + v * kLanes, add(stack[kAll][r][v], b), n);
  }
}

template <class W>
void widen_of(float* dst, const void* src, int64_t n) {
  const auto* p = static_cast<const typename W::T*>(src);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(dst + i, W::load(p + i));
  if (i < n) store_n(dst + i, W::load_n(p + i, n - i), n - i);
}

void widen(float* dst, const void* src, DType dtype, int64_t n) {
  switch (dtype) {
    case DType::kF32:
      return widen_of<F32Weights>(dst, src, n);
    case DType::kF16:
      return widen_of<F16Weights>(dst, src, n);
    case DType::kBF16:
      return widen_of<Bf16Weights>(dst, src, n);
    default:
      __builtin_unreachable();
  }
}

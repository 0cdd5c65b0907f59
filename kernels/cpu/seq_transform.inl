// The transform along the sequence, one vector of channels at a time: t[0..kBlock) are a block's tokens.
// Every addition and product is rounded by itself in the same order on every instruction set, so all give the
// same bits.

constexpr int kB = int(kBlock);

/// Haar's sums and differences, here and in haar_inverse without their scales (transform_scale); a tree of
/// kTokens tokens stays in registers. Forward gives the sum of the tokens.
template <int kTokens, class Get, class Put>
inline __attribute__((always_inline)) V haar_forward(int levels, const Get& get, const Put& put) {
  constexpr int kTrees = kB / kTokens;
  V coarse[kTrees];
  for (int tree = 0; tree < kTrees; ++tree) {
    V x[kTokens];
#pragma GCC unroll 8
    for (int i = 0; i < kTokens; ++i) x[i] = get(tree * kTokens + i);
#pragma GCC unroll 3
    for (int n = kTokens / 2; n > 0; n /= 2) {
#pragma GCC unroll 4
      for (int i = 0; i < n; ++i) {
        const V a = x[2 * i], b = x[2 * i + 1];
        put((kTrees + tree) * n + i, sub(a, b));
        x[i] = add(a, b);
      }
    }
    coarse[tree] = x[0];
  }
  int n = kTrees;
  for (; n > kB >> levels; n /= 2) {
    for (int i = 0; i < n / 2; ++i) {
      const V a = coarse[2 * i], b = coarse[2 * i + 1];
      put(n / 2 + i, sub(a, b));
      coarse[i] = add(a, b);
    }
  }
  V sum = set1(0.0f);
  for (int i = 0; i < n; ++i) {
    put(i, coarse[i]);
    sum = add(sum, coarse[i]);
  }
  return sum;
}

/// The inverse begins with the sum of each tree's tokens.
template <int kTokens, class Get>
inline __attribute__((always_inline)) void haar_tree_sums(V (&sums)[kB / kTokens], int levels,
                                                          const Get& get) {
  int n = kB >> levels;
  for (int i = 0; i < n; ++i) sums[i] = get(i);
  // Sums spread out from the back, where they are no longer needed.
  for (; n < kB / kTokens; n *= 2) {
    for (int i = n - 1; i >= 0; --i) {
      const V a = sums[i], d = get(n + i);
      sums[2 * i] = add(a, d);
      sums[2 * i + 1] = sub(a, d);
    }
  }
}
/// The tokens of one tree.
template <int kTokens, class Get, class Put>
inline __attribute__((always_inline)) void haar_tree(V sum, int64_t tree, const Get& get, const Put& put) {
  V x[kTokens];
  x[0] = sum;
#pragma GCC unroll 3
  for (int half = 1; half < kTokens; half *= 2) {
    const int64_t first = (kB / kTokens + tree) * half;
#pragma GCC unroll 4
    for (int i = half - 1; i >= 0; --i) {
      const V a = x[i], d = get(first + i);
      x[2 * i] = add(a, d);
      x[2 * i + 1] = sub(a, d);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < kTokens; ++i) put(tree * kTokens + i, x[i]);
}

template <int kTokens, class Get, class Put>
inline __attribute__((always_inline)) void haar_inverse(int levels, const Get& get, const Put& put) {
  V sums[kB / kTokens];
  haar_tree_sums<kTokens>(sums, levels, get);
  for (int tree = 0; tree < kB / kTokens; ++tree) haar_tree<kTokens>(sums[tree], tree, get, put);
}

/// Row r of the Walsh matrix in sequency order is this row of Hadamard's: the Gray code of r, its bits
/// reversed.
constexpr int walsh_row(int r) {
  int gray = r ^ (r >> 1), row = 0;
  for (int bit = 0; bit < 6; ++bit) row |= ((gray >> bit) & 1) << (5 - bit);
  return row;
}

/// Hadamard's matrix of +-1, its own inverse but for the scale.
inline void butterflies(V* t) {
  for (int h = 1; h < kB; h *= 2) {
    for (int i = 0; i < kB; i += 2 * h) {
      for (int j = i; j < i + h; ++j) {
        const V a = t[j], b = t[j + h];
        t[j] = add(a, b);
        t[j + h] = sub(a, b);
      }
    }
  }
}

/// Lee's recursion (IEEE Trans. ASSP 32, 1984): a DCT-II of n is one of the sums of mirrored pairs, the even
/// coefficients, and one of their weighted differences, the odd ones as sums of neighbours.
template <int N>
inline void dct_forward(V* t) {
  if constexpr (N > 1) {
    constexpr int kHalf = N / 2;
    V even[kHalf], odd[kHalf];
    for (int i = 0; i < kHalf; ++i) {
      even[i] = add(t[i], t[N - 1 - i]);
      odd[i] = mul(sub(t[i], t[N - 1 - i]), set1(kDct.secant[kHalf - 1 + i]));
    }
    dct_forward<kHalf>(even);
    dct_forward<kHalf>(odd);
    for (int i = 0; i < kHalf; ++i) {
      t[2 * i] = even[i];
      t[2 * i + 1] = i + 1 < kHalf ? add(odd[i], odd[i + 1]) : odd[i];
    }
  }
}

/// The transpose of dct_forward, step by step backwards.
template <int N>
inline void dct_transposed(V* t) {
  if constexpr (N > 1) {
    constexpr int kHalf = N / 2;
    V even[kHalf], odd[kHalf];
    for (int i = 0; i < kHalf; ++i) {
      even[i] = t[2 * i];
      odd[i] = i > 0 ? add(t[2 * i + 1], t[2 * i - 1]) : t[1];
    }
    dct_transposed<kHalf>(even);
    dct_transposed<kHalf>(odd);
    for (int i = 0; i < kHalf; ++i) {
      const V weighted = mul(odd[i], set1(kDct.secant[kHalf - 1 + i]));
      t[i] = add(even[i], weighted);
      t[N - 1 - i] = sub(even[i], weighted);
    }
  }
}

/// The factors of all rows, which transform_forward and transform_inverse leave to their callers, after the
/// one and before the other.
inline const float* row_scales(SeqTransform kind, int levels) { return kRowScales.scales[int(kind)][levels]; }

/// Rows of L t, but for their scales, go to put(row, x), as soon as the tokens get(i) they come from are
/// read; of the identity the first `rows`. Returns the sum of the tokens; the identity's are summed up as
/// four sums, of every fourth token.
template <class Get, class Put>
inline __attribute__((always_inline)) V transform_forward(SeqTransform kind, int levels, int64_t rows,
                                                          const Get& get, const Put& put) {
  V t[kB], sums[4] = {set1(0.0f), set1(0.0f), set1(0.0f), set1(0.0f)};
  switch (kind) {
    case SeqTransform::kIdentity:
      for (int r = 0; r < rows; ++r) {
        const V x = get(r);
        sums[r % 4] = add(sums[r % 4], x);
        put(r, x);
      }
      return add(add(sums[0], sums[1]), add(sums[2], sums[3]));
    case SeqTransform::kHaar:
      return levels >= 3 ? haar_forward<8>(levels, get, put) : haar_forward<2>(levels, get, put);
    case SeqTransform::kWalshHadamard:
      for (int r = 0; r < kB; ++r) t[r] = get(r);
      butterflies(t);
      for (int r = 0; r < kB; ++r) put(r, t[walsh_row(r)]);
      return t[0];
    case SeqTransform::kDct:
      for (int r = 0; r < kB; ++r) t[r] = get(r);
      dct_forward<kB>(t);
      for (int r = 0; r < kB; ++r) put(r, t[r]);
      return t[0];
  }
  __builtin_unreachable();
}

/// The tokens of L^-1 t, which is L^T t, go to put(i, x); get(row) is t[row] with its scale.
template <class Get, class Put>
inline __attribute__((always_inline)) void transform_inverse(SeqTransform kind, int levels, int64_t rows,
                                                             const Get& get, const Put& put) {
  V t[kB];
  switch (kind) {
    case SeqTransform::kIdentity:
      for (int r = 0; r < rows; ++r) put(r, get(r));
      return;
    case SeqTransform::kHaar:
      if (levels >= 3) haar_inverse<8>(levels, get, put);
      else haar_inverse<2>(levels, get, put);
      return;
    case SeqTransform::kWalshHadamard:
      for (int r = 0; r < kB; ++r) t[walsh_row(r)] = get(r);
      butterflies(t);
      for (int r = 0; r < kB; ++r) put(r, t[r]);
      return;
    case SeqTransform::kDct:
      for (int r = 0; r < kB; ++r) t[r] = get(r);
      dct_transposed<kB>(t);
      for (int r = 0; r < kB; ++r) put(r, t[r]);
      return;
  }
}

/// A vector of columns of a [kBlock, cols] matrix: out = L in or L^-1 in. May be in place.
template <bool kInverse, class Load, class Store>
inline __attribute__((always_inline)) void transform_columns(const float* scales, SeqTransform kind,
                                                             int levels, const Load& load_row,
                                                             const Store& store_row) {
  V t[kB];
  for (int r = 0; r < kB; ++r) t[r] = load_row(r);
  if constexpr (kInverse)
    transform_inverse(
        kind, levels, kB, [&](int r) __attribute__((always_inline)) { return mul(t[r], set1(scales[r])); },
        store_row);
  else
    transform_forward(
        kind, levels, kB, [&](int i) __attribute__((always_inline)) { return t[i]; },
        [&](int r, V x) __attribute__((always_inline)) { store_row(r, mul(x, set1(scales[r]))); });
}

template <bool kInverse>
void transform_block(float* out, int64_t ldo, const float* in, int64_t ldi, int64_t cols, SeqTransform kind,
                     int levels) {
  const float* const scales = row_scales(kind, levels);
  int64_t c = 0;
  for (; c + kLanes <= cols; c += kLanes)
    transform_columns<kInverse>(
        scales, kind, levels, [&](int r) __attribute__((always_inline)) { return load(in + r * ldi + c); },
        [&](int r, V x) __attribute__((always_inline)) { store(out + r * ldo + c, x); });
  if (const int64_t live = cols - c; live > 0)
    transform_columns<kInverse>(
        scales, kind,
        levels, [&](int r) __attribute__((always_inline)) { return load_some(in + r * ldi + c, live); },
        [&](int r, V x) __attribute__((always_inline)) { store_some(out + r * ldo + c, x, live); });
}

void transform(float* out, int64_t ldo, const float* in, int64_t ldi, int64_t cols, SeqTransform kind,
               int levels, bool inverse) {
  if (inverse) transform_block<true>(out, ldo, in, ldi, cols, kind, levels);
  else transform_block<false>(out, ldo, in, ldi, cols, kind, levels);
}

// The transform along the sequence, one vector of channels at a time: t[0..kBlock) are a block's tokens.
// Every addition and product is rounded by itself in the same order on every instruction set, so all give the
// same bits.

constexpr int kB = int(kBlock);
constexpr float kRootHalf = 0.70710678118654752f;

/// Haar's rows are scaled by 2^(-level / 2), level 1 being the finest; the coarse band like the last level's
/// details. The details of n tokens are rows [n / 2, n).
inline void haar_forward(V* t, int levels) {
  V detail[kB];
  float scale = 1.0f;
  for (int level = 1, n = kB; level <= levels; ++level, n /= 2) {
    const V s = set1(scale *= kRootHalf);
    for (int i = 0; i < n / 2; ++i) {
      const V a = t[2 * i], b = t[2 * i + 1];
      detail[n / 2 + i] = mul(sub(a, b), s);
      t[i] = add(a, b);
    }
  }
  const V s = set1(scale);
  for (int i = 0; i < kB >> levels; ++i) t[i] = mul(t[i], s);
  for (int i = kB >> levels; i < kB; ++i) t[i] = detail[i];
}

inline void haar_inverse(V* t, int levels) {
  V coarse[kB / 2];
  float scale = 1.0f, scales[6];
  for (int level = 0; level < levels; ++level) scales[level] = scale *= kRootHalf;
  for (int i = 0; i < kB >> levels; ++i) coarse[i] = mul(t[i], set1(scale));
  // Sums spread out from the back, where they are no longer needed; the last level's details are read before
  // their places are taken.
  for (int level = levels - 1, n = kB >> level; level > 0; --level, n *= 2) {
    const V s = set1(scales[level]);
    for (int i = n / 2 - 1; i >= 0; --i) {
      const V a = coarse[i], d = mul(t[n / 2 + i], s);
      coarse[2 * i] = add(a, d);
      coarse[2 * i + 1] = sub(a, d);
    }
  }
  const V s = set1(kRootHalf);
  for (int i = 0; i < kB / 2; ++i) {
    const V a = coarse[i], d = mul(t[kB / 2 + i], s);
    t[2 * i] = add(a, d);
    t[2 * i + 1] = sub(a, d);
  }
}

/// Row r of the Walsh matrix in sequency order is this row of Hadamard's: the Gray code of r, its bits
/// reversed.
constexpr int walsh_row(int r) {
  int gray = r ^ (r >> 1), row = 0;
  for (int bit = 0; bit < 6; ++bit) row |= ((gray >> bit) & 1) << (5 - bit);
  return row;
}

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

inline void walsh_forward(V* t) {
  butterflies(t);
  V ordered[kB];
  for (int i = 0; i < kB; ++i) ordered[i] = mul(t[walsh_row(i)], set1(0.125f));
  for (int i = 0; i < kB; ++i) t[i] = ordered[i];
}

inline void walsh_inverse(V* t) {
  V natural[kB];
  for (int i = 0; i < kB; ++i) natural[walsh_row(i)] = mul(t[i], set1(0.125f));
  for (int i = 0; i < kB; ++i) t[i] = natural[i];
  butterflies(t);
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

/// Makes the rows orthonormal: sqrt(1/64) for the first, sqrt(2/64) for the others.
inline void dct_scale(V* t) {
  t[0] = mul(t[0], set1(0.125f));
  for (int i = 1; i < kB; ++i) t[i] = mul(t[i], set1(0.125f * 1.41421356237309505f));
}

/// t = L t
inline void transform_forward(V* t, SeqTransform kind, int levels) {
  switch (kind) {
    case SeqTransform::kIdentity:
      return;
    case SeqTransform::kHaar:
      return haar_forward(t, levels);
    case SeqTransform::kWalshHadamard:
      return walsh_forward(t);
    case SeqTransform::kDct:
      dct_forward<kB>(t);
      return dct_scale(t);
  }
}

/// t = L^-1 t, which is L^T t
inline void transform_inverse(V* t, SeqTransform kind, int levels) {
  switch (kind) {
    case SeqTransform::kIdentity:
      return;
    case SeqTransform::kHaar:
      return haar_inverse(t, levels);
    case SeqTransform::kWalshHadamard:
      return walsh_inverse(t);
    case SeqTransform::kDct:
      dct_scale(t);
      return dct_transposed<kB>(t);
  }
}

/// A [kBlock, cols] matrix, column vector by column vector: out = L in or L^-1 in. May be in place.
template <bool kInverse>
void transform_block(float* out, int64_t ldo, const float* in, int64_t ldi, int64_t cols, SeqTransform kind,
                     int levels) {
  for (int64_t c = 0; c < cols; c += kLanes) {
    const int64_t live = cols - c < kLanes ? cols - c : kLanes;
    V t[kB];
    for (int r = 0; r < kB; ++r) t[r] = load_some(in + r * ldi + c, live);
    if (kInverse) transform_inverse(t, kind, levels);
    else transform_forward(t, kind, levels);
    for (int r = 0; r < kB; ++r) store_some(out + r * ldo + c, t[r], live);
  }
}

void transform(float* out, int64_t ldo, const float* in, int64_t ldi, int64_t cols, SeqTransform kind,
               int levels, bool inverse) {
  if (inverse) transform_block<true>(out, ldo, in, ldi, cols, kind, levels);
  else transform_block<false>(out, ldo, in, ldi, cols, kind, levels);
}

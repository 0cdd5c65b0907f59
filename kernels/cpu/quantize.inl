// Quantising rows, and Hadamard rotations of channels.

/// q [n] = code(i, live) rounded to nearest, those below 0 as 0; see for_lanes().
template <class Code>
inline void store_codes(uint8_t* q, int64_t n, const Code& code) {
  V four[4];
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int v = 0; v < 4; ++v) four[v] = code(i + v * kLanes, int64_t(kLanes));
    store_four_u8(q + i, four);
  }
  if (i == n) return;
  for (V& v : four) v = set1(0.0f);
  uint8_t last[4 * kLanes];
  for_lanes(n - i, [&](int64_t j, int64_t live) { four[j / kLanes] = code(i + j, live); });
  store_four_u8(last, four);
  __builtin_memcpy(q + i, last, size_t(n - i));
}

/// q = round((x - low) * steps / width), within code_range() of the row's extremes; zeros fill q up to
/// `padded`.
void quantize_row(uint8_t* q, float* scale, float* offset, const float* x, int64_t n, int64_t padded,
                  int bits) {
  constexpr int64_t kVecs = 4;  // each extreme waits for the one before
  V low[kVecs], high[kVecs];
  for (int v = 0; v < kVecs; ++v) low[v] = high[v] = set1(x[0]);
  const auto meet = [&](int64_t v, V y) {
    low[v] = min(low[v], y);
    high[v] = max(high[v], y);
  };
  const int64_t whole = n / (kVecs * kLanes) * kVecs * kLanes;
  for (int64_t i = 0; i < whole; i += kVecs * kLanes)
    for (int64_t v = 0; v < kVecs; ++v) meet(v, load(x + i + v * kLanes));
  for_lanes(n - whole, [&](int64_t i, int64_t live) {
    meet(0, keep_first(load_some(x + whole + i, live), live, x[0]));
  });
  const V least = min(min(low[0], low[1]), min(low[2], low[3]));
  const V most = max(max(high[0], high[1]), max(high[2], high[3]));
  const auto [begin, width] = code_range(-reduce_max(sub(set1(0.0f), least)), reduce_max(most), bits, n);
  const float steps = float((1 << bits) - 1);
  const V base = set1(begin), factor = set1(width > 0 ? steps / width : 0.0f), top = set1(steps);
  *scale = width / steps;
  *offset = begin;
  store_codes(q, n, [&](int64_t i, int64_t live) {
    return min(mul(sub(load_some(x + i, live), base), factor), top);
  });
  __builtin_memset(q + n, 0, size_t(padded - n));
}

/// x = scale * q + offset
void dequantize_row(float* x, const uint8_t* q, int64_t n, float scale, float offset) {
  const V s = set1(scale), o = set1(offset);
  for_lanes(n, [&](int64_t i, int64_t live) {
    uint8_t some[kLanes] = {};
    if (live < kLanes) __builtin_memcpy(some, q + i, size_t(live));
    store_some(x + i, add(mul(load_u8(live < kLanes ? some : q + i), s), o), live);
  });
}

/// The butterfly inside a register, from stage H on: lanes i and i ^ H become their sum and difference.
template <int H>
inline V lane_stages(V x) {
  if constexpr (H == kLanes) {
    return x;
  } else {
    float sign[kLanes];
    for (int i = 0; i < kLanes; ++i) sign[i] = (i & H) != 0 ? -1.0f : 1.0f;
    return lane_stages<2 * H>(fma(load(sign), x, swap_lanes<H>(x)));  // the product is exact
  }
}

/// Two stages of the butterfly: a, b, c, d are a quarter of it apart.
inline void two_stages(V& a, V& b, V& c, V& d) {
  const V sum = add(a, b), other_sum = add(c, d), rest = sub(a, b), other_rest = sub(c, d);
  a = add(sum, other_sum);
  b = add(rest, other_rest);
  c = sub(sum, other_sum);
  d = sub(rest, other_rest);
}

/// x = scale * H x in place, n a power of two, H Sylvester's matrix of +-1.
void hadamard(float* x, int64_t n, float scale) {
  const auto in_lanes = [&](const float* p) { return mul(lane_stages<1>(load(p)), set1(scale)); };
  int64_t h = kLanes;
  if (n >= 4 * kLanes) {
    for (int64_t i = 0; i < n; i += 4 * h) {
      V y[4];
      for (int j = 0; j < 4; ++j) y[j] = in_lanes(x + i + j * h);
      two_stages(y[0], y[1], y[2], y[3]);
      for (int j = 0; j < 4; ++j) store(x + i + j * h, y[j]);
    }
    h *= 4;
  } else if (n >= kLanes) {
    for (int64_t i = 0; i < n; i += kLanes) store(x + i, in_lanes(x + i));
  } else {
    for (int64_t i = 0; i < n; ++i) x[i] *= scale;
    h = 1;
  }
  for (; 4 * h <= n; h *= 4) {  // two stages on the way through memory
    for (int64_t i = 0; i < n; i += 4 * h) {
      for_lanes(h, [&](int64_t j, int64_t live) {
        float* y = x + i + j;
        V a = load_some(y, live), b = load_some(y + h, live);
        V c = load_some(y + 2 * h, live), d = load_some(y + 3 * h, live);
        two_stages(a, b, c, d);
        store_some(y, a, live);
        store_some(y + h, b, live);
        store_some(y + 2 * h, c, live);
        store_some(y + 3 * h, d, live);
      });
    }
  }
  if (h < n) {
    for (int64_t i = 0; i < n; i += 2 * h) {
      for_lanes(h, [&](int64_t j, int64_t live) {
        const V a = load_some(x + i + j, live), b = load_some(x + i + j + h, live);
        store_some(x + i + j, add(a, b), live);
        store_some(x + i + j + h, sub(a, b), live);
      });
    }
  }
}

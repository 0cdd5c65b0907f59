// Quantising rows, and Hadamard rotations of channels.

inline void store_some_u8(uint8_t* p, V v, int64_t n) {
  if (n == kLanes) return store_u8(p, v);
  uint8_t last[kLanes];
  store_u8(last, v);
  __builtin_memcpy(p, last, size_t(n));
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
  for_lanes(n, [&](int64_t i, int64_t live) {
    const V v = min(max(mul(sub(load_some(x + i, live), base), factor), set1(0.0f)), top);
    store_some_u8(q + i, v, live);
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
    return lane_stages<2 * H>(add(mul(load(sign), x), swap_lanes<H>(x)));
  }
}

/// x = scale * H x in place, n a power of two, H Sylvester's matrix of +-1.
void hadamard(float* x, int64_t n, float scale) {
  int64_t h = 1;
  if (n >= kLanes) {
    for (int64_t i = 0; i < n; i += kLanes) store(x + i, mul(lane_stages<1>(load(x + i)), set1(scale)));
    h = kLanes;
  } else {
    for (int64_t i = 0; i < n; ++i) x[i] *= scale;
  }
  for (; 4 * h <= n; h *= 4) {  // two stages on the way through memory
    for (int64_t i = 0; i < n; i += 4 * h) {
      for_lanes(h, [&](int64_t j, int64_t live) {
        float* y = x + i + j;
        const V a = load_some(y, live), b = load_some(y + h, live);
        const V c = load_some(y + 2 * h, live), d = load_some(y + 3 * h, live);
        const V sum = add(a, b), other_sum = add(c, d), rest = sub(a, b), other_rest = sub(c, d);
        store_some(y, add(sum, other_sum), live);
        store_some(y + h, add(rest, other_rest), live);
        store_some(y + 2 * h, sub(sum, other_sum), live);
        store_some(y + 3 * h, sub(rest, other_rest), live);
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

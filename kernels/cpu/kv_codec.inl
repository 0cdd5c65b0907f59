// Rows of a coefficient page (KvSide): quantising them, and unpacking them to whole numbers.

/// Writes row r of a side. Zero lies inside the row's range, so that a zero point is a byte.
void kv_write_row(std::byte* side, const KvSide& format, int64_t r, const float* x) {
  const int64_t d = format.head_dim;
  const int bits = format.row_bits(r);
  V low = set1(0.0f), high = set1(0.0f);
  for_lanes(d, [&](int64_t i, int64_t live) {
    const V v = load_some(x + i, live);
    low = min(low, keep_first(v, live, 0.0f));
    high = max(high, keep_first(v, live, 0.0f));
  });
  const float minimum = -reduce_max(sub(set1(0.0f), low)), maximum = reduce_max(high);
  const float steps = float((1 << bits) - 1), zero_unit = float(zero_steps(bits));
  const uint16_t half = float_to_half((maximum - minimum) / steps);
  const float scale = half_to_float(half), inverse = scale > 0 ? 1.0f / scale : 0.0f;
  float zero = __builtin_rintf(-minimum * inverse * zero_unit);
  zero = zero < 255.0f ? zero : 255.0f;
  __builtin_memcpy(side + KvSide::kScales + 2 * r, &half, 2);
  side[KvSide::kZeros + r] = std::byte(uint8_t(zero));

  const V factor = set1(inverse), shift = set1(zero / zero_unit), top = set1(steps), bottom = set1(0.0f);
  uint8_t* q = reinterpret_cast<uint8_t*>(side + format.row_offset(r));
  const auto coded = [&](int64_t i, int64_t live) {
    return min(max(add(mul(load_some(x + i, live), factor), shift), bottom), top);
  };
  if (bits > 4) {
    store_codes(q, d, coded);
  } else {
    store_codes(q, d / 2, [&](int64_t i, int64_t live) {
      const V low_nibble = round_nearest(coded(i, live)), high_nibble = round_nearest(coded(d / 2 + i, live));
      return fma(high_nibble, set1(16.0f), low_nibble);
    });
  }
}

/// Of kLanes rows from r on: value = scale * (q - zero).
struct RowParameters {
  V scale, zero;
};
inline RowParameters kv_parameters(const std::byte* side, const KvSide& format, int64_t r) {
  const auto* halves = reinterpret_cast<const uint16_t*>(side + KvSide::kScales);
  const auto* zeros = reinterpret_cast<const uint8_t*>(side + KvSide::kZeros);
  const V high = set1(1.0f / float(zero_steps(format.high_bits)));
  const float low = 1.0f / float(zero_steps(format.low_bits));
  return {.scale = load_f16(halves + r),
          .zero = mul(load_u8(zeros + r), keep_first(high, format.high_rows - r, low))};
}

/// out [head_dim] = the q of row r as floats
inline void kv_unpack_row(float* out, const std::byte* side, const KvSide& format, int64_t r) {
  const int64_t d = format.head_dim;
  const auto* q = reinterpret_cast<const uint8_t*>(side + format.row_offset(r));
  if (format.row_bits(r) > 4) {
    for_lanes(d, [&](int64_t i, int64_t live) {
      uint8_t some[kLanes] = {};
      if (live < kLanes) __builtin_memcpy(some, q + i, size_t(live));
      store_some(out + i, load_u8(live < kLanes ? some : q + i), live);
    });
  } else {
    for (int64_t i = 0; i < d / 2; ++i) out[i] = float(q[i] & 15), out[d / 2 + i] = float(q[i] >> 4);
  }
}

/// out [kBlock, head_dim] = the values of rows [0, rows)
void kv_unpack(float* out, const std::byte* side, const KvSide& format, int64_t rows) {
  float scale[kBlock], zero[kBlock];
  for (int64_t r = 0; r < rows; r += kLanes) {
    const RowParameters p = kv_parameters(side, format, r);
    store(scale + r, p.scale);
    store(zero + r, p.zero);
  }
  for (int64_t r = 0; r < rows; ++r) {
    float* x = out + r * format.head_dim;
    kv_unpack_row(x, side, format, r);
    for (int64_t c = 0; c < format.head_dim; ++c) x[c] = scale[r] * x[c] - scale[r] * zero[r];
  }
}

/// Seals 64 rows of floats [kBlock, head_dim]: transform, then the bit plan. `scratch` as long as the block.
void kv_seal(std::byte* side, const KvSide& format, const float* x, int64_t ldx, SeqTransform kind,
             int levels, float* scratch) {
  const int64_t d = format.head_dim;
  transform(scratch, d, x, ldx, d, kind, levels, false);
  for (int64_t r = 0; r < kBlock; ++r) kv_write_row(side, format, r, scratch + r * d);
}

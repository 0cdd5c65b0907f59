// Integer products: rows of u8 activations times panels of 4- or 8-bit weights, 32-bit sums. The sums are
// exact; only the scaling of a group's sum rounds, group after group in order, so a row's bits do not depend
// on its tile.

template <bool kFour, int R>
inline void int_tile(const IntLinear& p, int64_t row, int64_t panel) {
  constexpr int kVecs = int(kPanel) / kLanes, kStep = kFour ? 8 : 4;
  const uint8_t* w = p.weights + panel * p.panel_bytes;
  const uint8_t* in = p.q + row * p.ldq;
  const uint16_t* scale = p.weight_scale + panel * p.groups * kPanel;
  const uint8_t* zero = kFour ? p.weight_zero + panel * p.groups * kPanel : nullptr;
  V total[R][kVecs];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < kVecs; ++v) total[r][v] = set1(0.0f);
  for (int64_t g = 0; g < p.groups; ++g) {
    I acc[R][kVecs];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kVecs; ++v) acc[r][v] = int_zero();
    for (int64_t k = g * p.group; k < (g + 1) * p.group; k += kStep, w += 64) {
      if (R <= 2) prefetch(w + 1024);
      for (int v = 0; v < kVecs; ++v) {
        const I x = load_bytes(w + v * kLanes * 4);
        for (int r = 0; r < R; ++r) {
          if constexpr (kFour) {
            acc[r][v] = dot_q4(acc[r][v], broadcast_four(in + r * p.ldq + k), low_nibbles(x));
            acc[r][v] = dot_q4(acc[r][v], broadcast_four(in + r * p.ldq + k + 4), high_nibbles(x));
          } else {
            acc[r][v] = dot_q8(acc[r][v], broadcast_four(in + r * p.ldq + k), x);
          }
        }
      }
    }
    for (int v = 0; v < kVecs; ++v) {
      const V s = load_f16(scale + g * kPanel + v * kLanes);
      V z = set1(0.0f);
      if constexpr (kFour) z = mul(mul(load_u8(zero + g * kPanel + v * kLanes), set1(-1.0f / 16)), s);
      for (int r = 0; r < R; ++r) {
        total[r][v] = fma(to_float(acc[r][v]), s, total[r][v]);
        if constexpr (kFour) total[r][v] = fma(set1(p.sums[(row + r) * p.groups + g]), z, total[r][v]);
      }
    }
  }
  for (int v = 0; v < kVecs; ++v) {
    const int64_t col = panel * kPanel + v * kLanes, live = p.cols - col;
    if (live <= 0) break;
    const V sum = load(p.weight_sum + col);
    for (int r = 0; r < R; ++r) {
      const V y = fma(set1(p.scale[row + r]), total[r][v], mul(set1(p.offset[row + r]), sum));
      store_some(p.out + (row + r) * p.ldo + col, y, live < kLanes ? live : int64_t(kLanes));
    }
  }
}

template <bool kFour>
void int_linear_of(const IntLinear& p) {
  for (int64_t panel = p.first_panel; panel < p.last_panel; ++panel) {
    int64_t r = 0;
    for (; r + kIntRows <= p.rows; r += kIntRows) int_tile<kFour, kIntRows>(p, r, panel);
    if constexpr (kIntRows > 4)
      if (p.rows - r >= 4) int_tile<kFour, 4>(p, r, panel), r += 4;
    if constexpr (kIntRows > 2)
      if (p.rows - r >= 2) int_tile<kFour, 2>(p, r, panel), r += 2;
    if (p.rows - r >= 1) int_tile<kFour, 1>(p, r, panel);
  }
}

void int_linear(const IntLinear& p) { p.four_bits ? int_linear_of<true>(p) : int_linear_of<false>(p); }

/// Rows of one panel as floats: out [kPanel, padded cols].
void widen_panel(float* out, int64_t ldo, const IntLinear& p, int64_t panel) {
  const uint8_t* w = p.weights + panel * p.panel_bytes;
  for (int64_t k = 0; k < p.groups * p.group; ++k) {
    const int64_t at = panel * p.groups * kPanel + k / p.group * kPanel;
    for (int64_t c = 0; c < kPanel; ++c) {
      float scale[kLanes];
      store(scale, load_f16_n(p.weight_scale + at + c, 1));
      if (p.four_bits) {
        const uint8_t byte = w[k / 8 * 64 + c * 4 + k % 4];
        const float q = float(k % 8 < 4 ? byte & 15 : byte >> 4);
        out[c * ldo + k] = scale[0] * (q - float(p.weight_zero[at + c]) * (1.0f / 16));
      } else {
        out[c * ldo + k] = scale[0] * float(int8_t(w[k / 4 * 64 + c * 4 + k % 4]));
      }
    }
  }
}

// Integer products: rows of u8 activations times panels of 4- or 8-bit weights, 32-bit sums. The sums are
// exact; only the scaling of a group's sum rounds, group after group in order, so a row's bits do not depend
// on its tile.

constexpr int kPanelVecs = int(kPanel) / kLanes;

/// How a tile finds its weights: 8-bit panels; 4-bit panels as they are stored, for few rows, which read each
/// once; 4-bit panels unpacked to bytes, for many rows.
enum class Codes { kEight, kFour, kFourUnpacked };

/// acc [R, kPanelVecs] += the rows' channels [k, end) times those of a panel whose bytes begin at w. kPairs:
/// 4-bit weights, into sums of pairs, which are 16 bits wide.
template <Codes kCodes, bool kPairs, int R>
inline __attribute__((always_inline)) void int_dots(I (&acc)[R][kPanelVecs], const uint8_t* in, int64_t ldq,
                                                    const uint8_t* w, int64_t k, int64_t end) {
  constexpr int kStep = kCodes == Codes::kFour ? 8 : 4;
  const auto dot = [](auto sum, auto a, auto codes) {
    if constexpr (kPairs) return add_pairs(sum, a, codes);
    else if constexpr (kCodes == Codes::kEight) return dot_q8(sum, a, codes);
    else return dot_q4(sum, a, codes);
  };
#pragma GCC unroll 2
  for (; k < end; k += kStep, w += 64) {
    if (R <= 2) prefetch(w + 1024);
    for (int v = 0; v < kPanelVecs; ++v) {
      const I x = load_bytes(w + v * kLanes * 4);
      for (int r = 0; r < R; ++r) {
        const uint8_t* a = in + r * ldq + k;
        if constexpr (kCodes == Codes::kFour) {
          acc[r][v] = dot(acc[r][v], broadcast_four(a), low_nibbles(x));
          acc[r][v] = dot(acc[r][v], broadcast_four(a + 4), high_nibbles(x));
        } else {
          acc[r][v] = dot(acc[r][v], broadcast_four(a), x);
        }
      }
    }
  }
}

/// The same, where the sums of pairs of `most` channels fit into 16 bits.
template <Codes kCodes, int R>
inline __attribute__((always_inline)) void int_pair_dots(I (&acc)[R][kPanelVecs], const uint8_t* in,
                                                         int64_t ldq, const uint8_t* w, int64_t k,
                                                         int64_t end, int64_t most) {
  constexpr int kChannelsPerByte = kCodes == Codes::kFour ? 2 : 1;
  while (k < end) {
    const int64_t stop = end - k < most ? end : k + most;
    I pairs[R][kPanelVecs];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kPanelVecs; ++v) pairs[r][v] = int_zero();
    int_dots<kCodes, true>(pairs, in, ldq, w, k, stop);
    w += (stop - k) * kPanel / kChannelsPerByte;
    k = stop;
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kPanelVecs; ++v) acc[r][v] = fold_pairs(acc[r][v], pairs[r][v]);
  }
}

/// R rows, whose activations have `bits`, times one panel; `w` is its codes.
template <Codes kCodes, int R>
inline void int_tile(const IntLinear& p, const uint8_t* w, int64_t row, int64_t panel, int bits) {
  constexpr bool kFour = kCodes != Codes::kEight;
  const uint8_t* in = p.q + row * p.ldq;
  const uint16_t* scale = p.weight_scale + panel * p.groups * kPanel;
  const uint8_t* zero = kFour ? p.weight_zero + panel * p.groups * kPanel : nullptr;
  const int64_t group_bytes = p.group * kPanel / (kCodes == Codes::kFour ? 2 : 1);
  // A 16-bit sum gets two products, each at most 15 * (2^bits - 1), from every four channels; steps are of
  // eight.
  const int64_t most = 8 * (32767 / (4 * 15 * ((1 << bits) - 1)));
  V total[R][kPanelVecs];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < kPanelVecs; ++v) total[r][v] = set1(0.0f);
  for (int64_t g = 0; g < p.groups; ++g, w += group_bytes) {
    I acc[R][kPanelVecs];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kPanelVecs; ++v) acc[r][v] = int_zero();
    const int64_t k = g * p.group;
    if constexpr (kFour && kPairSums) int_pair_dots<kCodes>(acc, in, p.ldq, w, k, k + p.group, most);
    else int_dots<kCodes, false>(acc, in, p.ldq, w, k, k + p.group);
    for (int v = 0; v < kPanelVecs; ++v) {
      const V s = load_f16(scale + g * kPanel + v * kLanes);
      V z = set1(0.0f);
      if constexpr (kFour) z = mul(mul(load_u8(zero + g * kPanel + v * kLanes), set1(-1.0f / 16)), s);
      for (int r = 0; r < R; ++r) {
        total[r][v] = fma(to_float(acc[r][v]), s, total[r][v]);
        if constexpr (kFour) total[r][v] = fma(set1(p.sums[(row + r) * p.groups + g]), z, total[r][v]);
      }
    }
  }
  for (int v = 0; v < kPanelVecs; ++v) {
    const int64_t col = panel * kPanel + v * kLanes, live = p.cols - col;
    if (live <= 0) break;
    const V sum = load(p.weight_sum + col);
    for (int r = 0; r < R; ++r) {
      const V y = fma(set1(p.scale[row + r]), total[r][v], mul(set1(p.offset[row + r]), sum));
      store_some(p.out + (row + r) * p.ldo + col, y, live < kLanes ? live : int64_t(kLanes));
    }
  }
}

/// Rows [r, end).
template <Codes kCodes>
void int_rows(const IntLinear& p, const uint8_t* w, int64_t r, int64_t end, int64_t panel, int bits) {
  for (; r + kIntRows <= end; r += kIntRows) int_tile<kCodes, kIntRows>(p, w, r, panel, bits);
  if constexpr (kIntRows > 4)
    if (end - r >= 4) int_tile<kCodes, 4>(p, w, r, panel, bits), r += 4;
  if constexpr (kIntRows > 2)
    if (end - r >= 2) int_tile<kCodes, 2>(p, w, r, panel, bits), r += 2;
  if (end - r >= 1) int_tile<kCodes, 1>(p, w, r, panel, bits);
}

template <Codes kCodes>
void int_rows(const IntLinear& p, const uint8_t* w, int64_t panel) {
  const int64_t high = p.high_rows < p.rows ? p.high_rows : p.rows;
  int_rows<kCodes>(p, w, 0, high, panel, p.high_bits);
  int_rows<kCodes>(p, w, high, p.rows, panel, p.low_bits);
}

/// 64 bytes of nibbles become the bytes of two steps of four channels.
inline void unpack_nibbles(uint8_t* bytes, const uint8_t* w, int64_t packed) {
  for (int64_t i = 0; i < packed; i += 64)
    for (int v = 0; v < kPanelVecs; ++v) {
      const I x = load_bytes(w + i + v * kLanes * 4);
      store_bytes(bytes + 2 * i + v * kLanes * 4, low_nibbles(x));
      store_bytes(bytes + 2 * i + 64 + v * kLanes * 4, high_nibbles(x));
    }
}

void int_linear(const IntLinear& p) {
  for (int64_t panel = p.first_panel; panel < p.last_panel; ++panel) {
    const uint8_t* w = p.weights + panel * p.panel_bytes;
    if (!p.four_bits) {
      int_rows<Codes::kEight>(p, w, panel);
    } else if (p.rows <= kIntRows) {
      int_rows<Codes::kFour>(p, w, panel);
    } else {
      unpack_nibbles(p.scratch, w, p.panel_bytes);
      int_rows<Codes::kFourUnpacked>(p, p.scratch, panel);
    }
  }
}

/// Rows [row, row + count) of a weight as floats: out [count, padded cols].
void widen_rows(float* out, int64_t ldo, const IntLinear& p, int64_t row, int64_t count) {
  for (int64_t r = 0; r < count; ++r) {
    const int64_t panel = (row + r) / kPanel, c = (row + r) % kPanel;
    const uint8_t* w = p.weights + panel * p.panel_bytes + c * 4;
    for (int64_t g = 0; g < p.groups; ++g) {
      const int64_t at = (panel * p.groups + g) * kPanel + c;
      const float scale = half_bits_to_float(p.weight_scale[at]);
      const float zero = p.four_bits ? float(p.weight_zero[at]) * (1.0f / 16) : 0.0f;
      for (int64_t k = g * p.group; k < (g + 1) * p.group; ++k) {
        if (p.four_bits) {
          const uint8_t byte = w[k / 8 * 64 + k % 4];
          out[r * ldo + k] = scale * (float(k % 8 < 4 ? byte & 15 : byte >> 4) - zero);
        } else {
          out[r * ldo + k] = scale * float(int8_t(w[k / 4 * 64 + k % 4]));
        }
      }
    }
  }
}

// Integer products: rows of u8 activations times panels of 4- or 8-bit weights, 32-bit sums. The sums are
// exact; only the scaling of a group's sum rounds, group after group in order, so a row's bits do not depend
// on its tile.

constexpr int kPanelVecs = int(kPanel) / kLanes;

/// How a tile finds its weights: 8-bit panels; 4-bit panels as they are stored, for few rows, which read each
/// once; 4-bit panels unpacked for many rows, to bytes of code - kFourMiddle.
enum class Codes { kEight, kFour, kFourUnpacked };
/// Sums over 4-bit weights are of code - 8: in [-8, 7], so that twice as many products fit into 16 bits.
constexpr int kFourMiddle = 8;

/// acc [R, N] += the next kSteps * 4 channels of R rows times those of a panel N vectors wide, whose bytes
/// begin at w; at(r, step) is where row r has the four of a step. kPairs: into sums of pairs, which are 16
/// bits wide. Unrolled as a whole: at the end of a loop GCC moves every sum from one register to another.
template <Codes kCodes, bool kPairs, int kSteps, int R, int N, class At>
inline __attribute__((always_inline)) void int_dots(I (&acc)[R][N], const At& at, const uint8_t* w) {
  const auto dot = [](auto sum, auto a, auto codes) __attribute__((always_inline)) {
    if constexpr (kPairs) return add_pairs(sum, a, codes);
    else if constexpr (kCodes == Codes::kEight) return dot_q8(sum, a, codes);
    else return dot_q4(sum, a, codes);
  };
#pragma GCC unroll 16
  for (int step = 0; step < kSteps; step += kCodes == Codes::kFour ? 2 : 1, w += N * kLanes * 4) {
    if (R <= 2) prefetch(w + 1024);
    for (int v = 0; v < N; ++v) {
      const I x = load_bytes(w + v * kLanes * 4);
      for (int r = 0; r < R; ++r) {
        if constexpr (kCodes == Codes::kFour) {
          acc[r][v] = dot(acc[r][v], broadcast_four(at(r, step)), low_nibbles(x));
          acc[r][v] = dot(acc[r][v], broadcast_four(at(r, step + 1)), high_nibbles(x));
        } else {
          acc[r][v] = dot(acc[r][v], broadcast_four(at(r, step)), x);
        }
      }
    }
  }
}

/// acc = the same over a whole group. A sum of pairs takes kSteps steps; its 16 bits get two products a step.
template <Codes kCodes, int kSteps, int R>
inline __attribute__((always_inline)) void int_group(I (&acc)[R][kPanelVecs], const uint8_t* in, int64_t ldq,
                                                     const uint8_t* w, int64_t group) {
  const uint8_t* rows[R];
  for (int r = 0; r < R; ++r) {
    rows[r] = in + r * ldq;
    keep_pointer(rows[r]);
  }
  const auto at = [&](int r, int step) __attribute__((always_inline)) { return rows[r] + step * 4; };
  for (int64_t k = 0; k < group; k += 4 * kSteps, w += kSteps * (kCodes == Codes::kFour ? 32 : 64)) {
    if constexpr (kCodes != Codes::kEight && kPairSums) {
      I pairs[R][kPanelVecs];
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < kPanelVecs; ++v) pairs[r][v] = int_zero();
      int_dots<kCodes, true, kSteps>(pairs, at, w);
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < kPanelVecs; ++v) acc[r][v] = fold_pairs(acc[r][v], pairs[r][v]);
    } else {
      int_dots<kCodes, false, kSteps>(acc, at, w);
    }
    for (int r = 0; r < R; ++r) rows[r] += 4 * kSteps;
  }
}

/// R rows times one panel; `w` is its codes.
template <Codes kCodes, int kSteps, int R>
inline void int_tile(const IntLinear& p, const uint8_t* w, int64_t row, int64_t panel) {
  constexpr bool kFour = kCodes != Codes::kEight;
  const uint8_t* in = p.q + row * p.ldq;
  const uint16_t* scale = p.weight_scale + panel * p.groups * kPanel;
  const uint8_t* zero = kFour ? p.weight_zero + panel * p.groups * kPanel : nullptr;
  const int64_t group_bytes = p.group * kPanel / (kCodes == Codes::kFour ? 2 : 1);
  V total[R][kPanelVecs];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < kPanelVecs; ++v) total[r][v] = set1(0.0f);
  for (int64_t g = 0; g < p.groups; ++g, w += group_bytes) {
    const float* sums = p.sums + row * p.groups + g;  // 4-bit weights alone
    I acc[R][kPanelVecs];
    for (int r = 0; r < R; ++r) {
      const I start =
          kCodes == Codes::kFour ? int_set(-kFourMiddle * int32_t(sums[r * p.groups])) : int_zero();
      for (int v = 0; v < kPanelVecs; ++v) acc[r][v] = start;
    }
    int_group<kCodes, kSteps>(acc, in + g * p.group, p.ldq, w, p.group);
    for (int v = 0; v < kPanelVecs; ++v) {
      const V s = load_f16(scale + g * kPanel + v * kLanes);
      V z = set1(0.0f);
      if constexpr (kFour) {
        z = fma(load_u8(zero + g * kPanel + v * kLanes), set1(-1.0f / 16), set1(float(kFourMiddle)));
        z = mul(z, s);
      }
      for (int r = 0; r < R; ++r) {
        total[r][v] = fma(to_float(acc[r][v]), s, total[r][v]);
        if constexpr (kFour) total[r][v] = fma(set1(sums[r * p.groups]), z, total[r][v]);
      }
    }
  }
  for (int v = 0; v < kPanelVecs; ++v) {
    const int64_t col = panel * kPanel + v * kLanes, live = p.cols - col;
    if (live <= 0) break;
    const V sum = load(p.weight_sum + col);
    for (int r = 0; r < R; ++r) {
      // 8-bit products are of q - kEightMiddle.
      const float offset = p.offset[row + r] + (kFour ? 0.0f : float(kEightMiddle)) * p.scale[row + r];
      const V y = fma(set1(p.scale[row + r]), total[r][v], mul(set1(offset), sum));
      store_some(p.out + (row + r) * p.ldo + col, y, live < kLanes ? live : int64_t(kLanes));
    }
  }
}

/// Rows [row, row + count), at most kIntRows, `bits` wide.
template <Codes kCodes>
inline void int_rows(const IntLinear& p, const uint8_t* w, int64_t row, int64_t count, int64_t panel,
                     int bits) {
  // Of products up to 2 * 255 * 15, as codes are stored, four steps fit into 16 bits; of those up to
  // 2 * 255 * 8, eight; of 2 * 15 * 8, all sixteen of a group.
  constexpr int kSteps = kCodes == Codes::kFour ? 4 : 8;
  if (count == kIntRows) {
    if (kCodes == Codes::kFourUnpacked && kPairSums && bits <= 4 && p.group % 64 == 0)
      return int_tile<kCodes, 2 * kSteps, kIntRows>(p, w, row, panel);
    return int_tile<kCodes, kSteps, kIntRows>(p, w, row, panel);
  }
  if constexpr (kIntRows > 4)
    if (count >= 4) int_tile<kCodes, kSteps, 4>(p, w, row, panel), row += 4, count -= 4;
  if constexpr (kIntRows > 2)
    if (count >= 2) int_tile<kCodes, kSteps, 2>(p, w, row, panel), row += 2, count -= 2;
  if (count >= 1) int_tile<kCodes, kSteps, 1>(p, w, row, panel);
}

template <Codes kCodes>
void int_rows(const IntLinear& p, const uint8_t* w, int64_t panel) {
  const int widest = p.high_bits > p.low_bits ? p.high_bits : p.low_bits;
  for (int64_t r = 0; r < p.rows; r += kIntRows) {
    const int64_t count = p.rows - r < kIntRows ? p.rows - r : int64_t(kIntRows);
    int_rows<kCodes>(p, w, r, count, panel, r < p.high_rows ? widest : p.low_bits);
  }
}

/// 64 bytes of nibbles become the bytes of two steps of four channels, less kFourMiddle.
inline void unpack_nibbles(uint8_t* bytes, const uint8_t* w, int64_t packed) {
  for (int64_t i = 0; i < packed; i += 64)
    for (int v = 0; v < kPanelVecs; ++v) {
      const I x = load_bytes(w + i + v * kLanes * 4);
      store_bytes(bytes + 2 * i + v * kLanes * 4, sub_bytes(low_nibbles(x), kFourMiddle));
      store_bytes(bytes + 2 * i + 64 + v * kLanes * 4, sub_bytes(high_nibbles(x), kFourMiddle));
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

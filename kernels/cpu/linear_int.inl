// Integer products: rows of u8 activations times panels of 4- or 8-bit weights, 32-bit sums. The sums are
// exact; only the scaling of a group's sum rounds, group after group in order, so a row's bits do not depend
// on its tile.

constexpr int kPanelVecs = int(kPanel) / kLanes;

using Bytes = uint8_t __attribute__((vector_size(16)));
inline Bytes load_16(const uint8_t* p) {
  Bytes x;
  __builtin_memcpy(&x, p, 16);
  return x;
}
inline void store_16(uint8_t* p, Bytes x) { __builtin_memcpy(p, &x, 16); }

/// How a tile finds its weights: 8-bit panels; 4-bit panels as they are stored, for few rows, which read each
/// once; 4-bit panels unpacked for many rows, to bytes of code - kFourMiddle.
enum class Codes { kEight, kFour, kFourUnpacked };
/// Sums over 4-bit weights are of code - 8: in [-8, 7], so that twice as many products fit into 16 bits.
constexpr int kFourMiddle = 8;

/// acc [R, N] += the next kSteps * 4 channels of R rows times those of a panel N vectors wide, whose bytes
/// begin at w; at(r, step) is where row r has the four of a step. kPairs: into sums of pairs, which are 16
/// bits wide. Unrolled as a whole: at the end of a loop GCC moves every sum from one register to another.
/// Stored weights come from memory, those `ahead` are asked for.
template <Codes kCodes, bool kPairs, int kSteps, int R, int N, class At>
inline __attribute__((always_inline)) void int_dots(I (&acc)[R][N], const At& at, const uint8_t* w,
                                                    int64_t ahead = 0) {
  const auto dot = [](auto sum, const uint8_t* four, auto codes) __attribute__((always_inline)) {
    if constexpr (kPairs) return add_pairs(sum, broadcast_four(four), codes);
    else if constexpr (kCodes == Codes::kEight) return dot_q8(sum, four, codes);
    else return dot_q4(sum, broadcast_four(four), codes);
  };
#pragma GCC unroll 16
  for (int step = 0; step < kSteps; step += kCodes == Codes::kFour ? 2 : 1, w += N * kLanes * 4) {
    if (kCodes != Codes::kFourUnpacked) prefetch(w + ahead);
    for (int v = 0; v < N; ++v) {
      const I x = load_bytes(w + v * kLanes * 4);
      for (int r = 0; r < R; ++r) {
        if constexpr (kCodes == Codes::kFour) {
          acc[r][v] = dot(acc[r][v], at(r, step), low_nibbles(x));
          acc[r][v] = dot(acc[r][v], at(r, step + 1), high_nibbles(x));
        } else {
          acc[r][v] = dot(acc[r][v], at(r, step), x);
        }
      }
    }
  }
}

/// acc += the same over a group's channels. A sum of pairs takes kSteps steps; its 16 bits get two products a
/// step.
template <Codes kCodes, int kSteps, int R>
inline __attribute__((always_inline)) void int_group(I (&acc)[R][kPanelVecs], const uint8_t* in, int64_t ldq,
                                                     const uint8_t* w, int64_t group, int64_t ahead) {
  constexpr int kStepBytes = kCodes == Codes::kEight ? kEightBytes : 4;
  const uint8_t* rows[R];
  for (int r = 0; r < R; ++r) {
    rows[r] = in + r * ldq;
    keep_pointer(rows[r]);
  }
  const auto at = [&](int r, int step) __attribute__((always_inline)) { return rows[r] + step * kStepBytes; };
  for (int64_t k = 0; k < group; k += 4 * kSteps, w += kSteps * (kCodes == Codes::kFour ? 32 : 64)) {
    if constexpr (kCodes == Codes::kFour && kPairSums) {
      I pairs[R][kPanelVecs];
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < kPanelVecs; ++v) pairs[r][v] = int_zero();
      int_dots<kCodes, true, kSteps>(pairs, at, w, ahead);
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < kPanelVecs; ++v) acc[r][v] = fold_pairs(acc[r][v], pairs[r][v]);
    } else {
      int_dots<kCodes, false, kSteps>(acc, at, w, ahead);
    }
    for (int r = 0; r < R; ++r) rows[r] += kSteps * kStepBytes;
  }
}

/// A group of a 4-bit panel, unpacked for many rows: bytes of code - kFourMiddle, and what each of the
/// panel's channels needs to make its sums of them (unpacked_group_sums) and to scale these (group_factors).
struct UnpackedGroup {
  uint8_t* codes;  // [group / 4, kPanel, 4]
  uint8_t* base;   // [kPanel] int32
  float *scale, *zero;
  uint8_t* start;  // [spans of kPairSpan, kPanel, 2] int16
};
inline UnpackedGroup unpacked_group(uint8_t* w, int64_t group) {
  uint8_t* lines = w + group * kPanel;
  const auto floats = [&](int line) { return reinterpret_cast<float*>(lines + 64 * line); };
  return {.codes = w, .base = lines, .scale = floats(1), .zero = floats(2), .start = lines + 3 * 64};
}

/// acc = a group's sums of q (code - 8).
///
/// Over kPairSpan channels a sum of pairs of these may take 17 bits, but those of (q - 128) (code - 8) lie in
/// [-28672, 32768]. So sums of pairs wrap at 16 bits on their way from `start`, which is -128 times the
/// pair's sum of code - 8, less 1, to a number that 16 bits hold, and `base` adds what that is short of.
template <int kSteps, bool kOneSpan, int R>
inline __attribute__((always_inline)) void unpacked_group_sums(I (&acc)[R][kPanelVecs],
                                                               const uint8_t* (&rows)[R],
                                                               const UnpackedGroup& w, int64_t group) {
  const auto at = [&](int r, int step) __attribute__((always_inline)) { return rows[r] + step * 4; };
  const uint8_t *codes = w.codes, *start = w.start;
  const auto span = [&](auto add_to) __attribute__((always_inline)) {
    I pairs[R][kPanelVecs];
    for (int v = 0; v < kPanelVecs; ++v) {
      const I from = load_bytes(start + v * kLanes * 4);
      for (int r = 0; r < R; ++r) pairs[r][v] = from;
    }
    int_dots<Codes::kFourUnpacked, true, kSteps>(pairs, at, codes);
    for (int r = 0; r < R; ++r) rows[r] += 4 * kSteps;
    for (int v = 0; v < kPanelVecs; ++v)
      for (int r = 0; r < R; ++r) acc[r][v] = fold_pairs(add_to(r, v), pairs[r][v]);
    codes += kSteps * 64, start += 64;
  };
  span([&](int, int v) __attribute__((always_inline)) { return load_bytes(w.base + v * kLanes * 4); });
  if constexpr (!kOneSpan)
    for (int64_t k = 4 * kSteps; k < group; k += 4 * kSteps)
      span([&](int r, int v) __attribute__((always_inline)) { return acc[r][v]; });
}

/// out = scale * total + offset * (sum of weights), of R rows and one panel
template <bool kFour, int R>
inline void store_tile(const IntLinear& p, const V (&total)[R][kPanelVecs], int64_t row, int64_t panel) {
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

/// What a group's sums of q (code - 8) and of q are multiplied with: the scale s, and the zero point as
/// s (8 - zero).
inline void group_factors(const uint16_t* scale, const uint8_t* zero, V& s, V& z) {
  s = load_f16(scale);
  z = mul(fma(load_u8(zero), set1(-1.0f / 16), set1(float(kFourMiddle))), s);
}

/// total += s (sums of q (code - 8)) + z (sums of q), a group's; of 8-bit weights s (sums of products) alone
template <bool kFour, int R>
inline __attribute__((always_inline)) void add_group(V (&total)[R][kPanelVecs], const I (&acc)[R][kPanelVecs],
                                                     const V (&s)[kPanelVecs], const V (&z)[kPanelVecs],
                                                     const float* sums, int64_t groups) {
  for (int v = 0; v < kPanelVecs; ++v) {
    for (int r = 0; r < R; ++r) {
      total[r][v] = fma(to_float(acc[r][v]), s[v], total[r][v]);
      if constexpr (kFour) total[r][v] = fma(set1(sums[r * groups]), z[v], total[r][v]);
    }
  }
}

/// R rows times one panel; `w` is its codes as they are stored.
template <Codes kCodes, int kSteps, int R>
inline void int_tile(const IntLinear& p, const uint8_t* w, int64_t row, int64_t panel) {
  constexpr bool kFour = kCodes != Codes::kEight;
  const uint8_t* in = p.q + row * p.ldq;
  const uint16_t* scale = p.weight_scale + panel * p.groups * kPanel;
  const uint8_t* zero = kFour ? p.weight_zero + panel * p.groups * kPanel : nullptr;
  const int64_t group_bytes = p.group * kPanel / (kCodes == Codes::kFour ? 2 : 1);
  // A line takes longer the more rows it meets: from the next panel on, but not more than stays near.
  const int64_t far = p.panel_bytes < 16384 ? p.panel_bytes : 16384, ahead = R <= 2 ? 1024 : far;
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
    int_group<kCodes, kSteps>(acc, in + g * p.group, p.ldq, w, p.group, ahead);
    V s[kPanelVecs], z[kPanelVecs];
    for (int v = 0; v < kPanelVecs; ++v) {
      const int64_t at = g * kPanel + v * kLanes;
      if constexpr (kFour) group_factors(scale + at, zero + at, s[v], z[v]);
      else s[v] = z[v] = load_f16(scale + at);  // z is not looked at
    }
    add_group<kFour>(total, acc, s, z, sums, p.groups);
  }
  store_tile<kFour>(p, total, row, panel);
}

/// The same with an unpacked 4-bit panel.
template <int kSteps, bool kOneSpan, int R>
inline void unpacked_tile(const IntLinear& p, int64_t row, int64_t panel) {
  const uint8_t* in = p.q + row * p.ldq;
  const int64_t group_bytes = unpacked_group_bytes(p.group), group_stored = p.group * kPanel / 2;
  const uint8_t* next = p.weights + (panel + 1) * p.panel_bytes;
  V total[R][kPanelVecs];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < kPanelVecs; ++v) total[r][v] = set1(0.0f);
  uint8_t* w = p.scratch;
  const uint8_t* rows[R];
  for (int r = 0; r < R; ++r) {
    rows[r] = in + r * p.ldq;
    keep_pointer(rows[r]);
  }
  for (int64_t g = 0; g < p.groups; ++g, w += group_bytes) {
    const float* sums = p.sums + row * p.groups + g;
    const UnpackedGroup here = unpacked_group(w, p.group);
    if (row == 0)  // the next panel, a group at a time
      for (int64_t i = 0; i < group_stored; i += 64) prefetch(next + g * group_stored + i);
    I acc[R][kPanelVecs];
    if constexpr (kPairSums) {
      unpacked_group_sums<kSteps, kOneSpan>(acc, rows, here, p.group);
    } else {
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < kPanelVecs; ++v) acc[r][v] = int_zero();
      int_group<Codes::kFourUnpacked, kSteps>(acc, in + g * p.group, p.ldq, here.codes, p.group, 0);
    }
    V s[kPanelVecs], z[kPanelVecs];
    for (int v = 0; v < kPanelVecs; ++v)
      s[v] = load(here.scale + v * kLanes), z[v] = load(here.zero + v * kLanes);
    add_group<true>(total, acc, s, z, sums, p.groups);
  }
  store_tile<true>(p, total, row, panel);
}

/// Calls tile.template operator()<R>(row) for all rows, R at most kIntRows.
template <class Tile>
inline void for_row_tiles(int64_t rows, const Tile& tile) {
  int64_t row = 0;
  for (; row + kIntRows <= rows; row += kIntRows) tile.template operator()<kIntRows>(row);
  if constexpr (kIntRows > 4)
    if (rows - row >= 4) tile.template operator()<4>(row), row += 4;
  if constexpr (kIntRows > 3)
    if (rows - row == 3) return tile.template operator()<3>(row);
  if constexpr (kIntRows > 2)
    if (rows - row == 2) return tile.template operator()<2>(row);
  if (rows - row == 1) tile.template operator()<1>(row);
}

/// From the sums of a span's codes, byte by byte: `start`, and what the span adds to `base`.
template <int N>
inline __attribute__((always_inline)) void pair_constants(I (&start)[N], I (&base)[N], const I (&sums)[N],
                                                          int64_t channels) {
  // 128 is twice 64, whose product with a pair of sums stays within 16 bits. A pair has channels / 2 codes.
  const int32_t first = kFourMiddle * 64 * int32_t(channels) - 1;
  const I plus = int_set(0x40404040), minus = sub_bytes(int_zero(), 64);
  for (int v = 0; v < N; ++v) {
    start[v] = add_pairs(add_pairs(int_set(first << 16 | first), sums[v], minus), sums[v], minus);
    const I pairs = add_pairs(int_zero(), sums[v], plus);
    base[v] = fold_pairs(fold_pairs(base[v], pairs), pairs);
  }
}

/// Bytes of code - kFourMiddle, `channels` of a panel; 64 bytes of nibbles are two steps of four channels.
/// Writes `start` and adds to `base`.
template <int N>
inline void unpack_span(uint8_t* codes, uint8_t* start, I (&base)[N], const uint8_t* w, int64_t channels) {
  I sums[N];  // of codes, byte by byte: at most 16 times 15
  for (int v = 0; v < N; ++v) sums[v] = int_zero();
  for (int64_t i = 0; i < channels; i += 8, w += 64, codes += 128) {
    for (int v = 0; v < N; ++v) {
      const I x = load_bytes(w + v * kLanes * 4), low = low_nibbles(x), high = high_nibbles(x);
      store_bytes(codes + v * kLanes * 4, sub_bytes(low, kFourMiddle));
      store_bytes(codes + 64 + v * kLanes * 4, sub_bytes(high, kFourMiddle));
      if constexpr (kPairSums) sums[v] = add_bytes(add_bytes(sums[v], low), high);
    }
  }
  if constexpr (kPairSums) {
    I first[N];
    pair_constants(first, base, sums, channels);
    for (int v = 0; v < N; ++v) store_bytes(start + v * kLanes * 4, first[v]);
  }
}

inline void unpack_panel(const IntLinear& p, const uint8_t* w, int64_t panel) {
  uint8_t* to = p.scratch;
  const int64_t span = p.group < kPairSpan ? p.group : kPairSpan;
  for (int64_t g = 0; g < p.groups; ++g, to += unpacked_group_bytes(p.group)) {
    const UnpackedGroup group = unpacked_group(to, p.group);
    const int64_t parameters = (panel * p.groups + g) * kPanel;
    for (int v = 0; v < kPanelVecs; ++v) {
      V s, z;
      group_factors(p.weight_scale + parameters + v * kLanes, p.weight_zero + parameters + v * kLanes, s, z);
      store(group.scale + v * kLanes, s), store(group.zero + v * kLanes, z);
    }
    uint8_t *codes = group.codes, *start = group.start;
    I base[kPanelVecs];
    for (int v = 0; v < kPanelVecs; ++v)
      base[v] = int_set(int32_t(2 * (p.group / span) - 128 * kFourMiddle * p.group));
    for (int64_t k = 0; k < p.group; k += span, codes += span * kPanel, start += 64, w += span * kPanel / 2)
      unpack_span(codes, start, base, w, span);
    for (int v = 0; v < kPanelVecs; ++v) store_bytes(group.base + v * kLanes * 4, base[v]);
  }
}

/// Four by four of n channels, a multiple of 16: x = q - 128 and its magnitude.
inline void split_signs(uint8_t* out, const uint8_t* q, int64_t n) {
  using Signed = int8_t __attribute__((vector_size(16)));
  for (int64_t i = 0; i < n; i += 16, out += 32) {
    const Bytes x = load_16(q + i) ^ 128, y = Signed(x) < 0 ? -x : x;
    store_16(out, __builtin_shufflevector(x, y, 0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23));
    store_16(out + 16,
             __builtin_shufflevector(x, y, 8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31));
  }
}

void int_linear(const IntLinear& product) {
  IntLinear p = product;
  if (!p.four_bits && kEightBytes == 8) {  // where dot_q8 wants them so
    p.q = p.scratch, p.ldq = 2 * p.group;
    for (int64_t r = 0; r < p.rows; ++r)
      split_signs(p.scratch + r * p.ldq, product.q + r * product.ldq, p.group);
  }
  for (int64_t panel = p.first_panel; panel < p.last_panel; ++panel) {
    const uint8_t* w = p.weights + panel * p.panel_bytes;
    if (!p.four_bits) {
      for_row_tiles(p.rows, [&]<int R>(int64_t row) { int_tile<Codes::kEight, 8, R>(p, w, row, panel); });
    } else if (p.rows <= kIntRows) {
      // Of products up to 2 * 255 * 15 four steps fit into 16 bits.
      for_row_tiles(p.rows, [&]<int R>(int64_t row) { int_tile<Codes::kFour, 4, R>(p, w, row, panel); });
    } else {
      unpack_panel(p, w, panel);
      if (p.group == kPairSpan)
        for_row_tiles(p.rows, [&]<int R>(int64_t row) { unpacked_tile<16, true, R>(p, row, panel); });
      else if (p.group > kPairSpan)
        for_row_tiles(p.rows, [&]<int R>(int64_t row) { unpacked_tile<16, false, R>(p, row, panel); });
      else for_row_tiles(p.rows, [&]<int R>(int64_t row) { unpacked_tile<8, true, R>(p, row, panel); });
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

// Integer products: rows of u8 activations times panels of 4- or 8-bit weights. Sums over all input channels
// are integers and exact: they may be dealt out freely, and 32 bits may wrap on the way to a sum that they
// hold. Only the last scaling rounds, the same for every instruction set.

constexpr int kPanelVecs = int(kPanel) / kLanes;

using Bytes = uint8_t __attribute__((vector_size(16)));
inline Bytes load_16(const uint8_t* p) {
  Bytes x;
  __builtin_memcpy(&x, p, 16);
  return x;
}
inline void store_16(uint8_t* p, Bytes x) { __builtin_memcpy(p, &x, 16); }

/// Where a group is in IntLinear::sums.
inline int64_t pair_place(int64_t g) {
  const int64_t i = g % kZeroGroups;
  return g - i + i % 2 * 2 + i / 2;
}

/// Of a row, as IntLinear wants them: at most 128 * 255 each.
void group_sums(int16_t* sums, const uint8_t* q, int64_t groups, int64_t group) {
  for (int64_t g = groups; g < round_up(groups, kZeroGroups); ++g) sums[pair_place(g)] = 0;
  using Words = uint16_t __attribute__((vector_size(16)));
  for (int64_t g = 0; g < groups; ++g, q += group) {
    Words words = {};
    for (int64_t i = 0; i < group; i += 16) {
      const auto pairs = Words(load_16(q + i));
      words += (pairs & 255) + (pairs >> 8);
    }
    uint16_t sum = 0;
    for (int i = 0; i < 8; ++i) sum = uint16_t(sum + words[i]);
    sums[pair_place(g)] = int16_t(-sum);
  }
}

/// Up to so many rows 4-bit panels are multiplied as they are stored; on tiles, 8-bit ones without.
constexpr int kStoredRows = kOnTiles ? 4 : 8;
/// How a tile finds its weights: 8-bit panels; 4-bit panels as they are stored, for few rows, which read each
/// once; 4-bit panels unpacked for many rows, to bytes of code - kFourMiddle, or widened to 8-bit panels.
enum class Codes { kEight, kFour, kFourUnpacked, kFourWidened };
/// Sums over 4-bit weights are of code - 8: in [-8, 7], so that twice as many products fit into 16 bits.
constexpr int kFourMiddle = 8;

/// How far ahead of a product its weights are asked for, in bytes: memory that others use, too, answers late.
constexpr int64_t kAhead = 8192;

/// acc += both numbers of a lane's pair of 16 bits.
inline I fold_pairs(I acc, I pairs) { return madd_pairs(acc, pairs, int_set(0x00010001)); }

/// sum += four channels of a row, at `four`, times a vector's codes. kPairs: into sums of pairs, which are 16
/// bits wide.
template <Codes kCodes, bool kPairs, class Ints>
inline __attribute__((always_inline)) Ints dot(Ints sum, const uint8_t* four, Ints codes) {
  if constexpr (kPairs) return add_pairs(sum, broadcast_four(four), codes);
  else if constexpr (kCodes == Codes::kFour || kCodes == Codes::kFourUnpacked)
    return dot_q4(sum, broadcast_four(four), codes);
  else return dot_q8(sum, four, codes);
}

/// acc [R, N] += the next kSteps * 4 channels of R rows times those of a panel N vectors wide, whose bytes
/// begin at w; at(r, step) is where row r has the four of a step. Unrolled as a whole: at the end of a loop
/// GCC moves every sum from one register to another. Stored weights come from memory: those kAhead on are
/// asked for.
template <Codes kCodes, bool kPairs, int kSteps, int R, int N, class At>
inline __attribute__((always_inline)) void int_dots(I (&acc)[R][N], const At& at, const uint8_t* w) {
#pragma GCC unroll 16
  for (int step = 0; step < kSteps; ++step, w += N * kLanes * 4) {
    if (kCodes == Codes::kEight) prefetch(w + kAhead);
    for (int v = 0; v < N; ++v) {
      const I x = load_bytes(w + v * kLanes * 4);
      for (int r = 0; r < R; ++r) acc[r][v] = dot<kCodes, kPairs>(acc[r][v], at(r, step), x);
    }
  }
}

/// The same for a 4-bit panel as it is stored, 64 bytes of eight channels after another: low nibbles are the
/// first four, high ones the others. With sums of their own they wait less for each other.
template <int kSteps, int R, int N>
inline __attribute__((always_inline)) void four_dots(I (&low)[R][N], I (&high)[R][N],
                                                     const uint8_t* (&rows)[R], const uint8_t* w) {
#pragma GCC unroll 16
  for (int step = 0; step < kSteps; step += 2, w += 64) {
    prefetch(w + kAhead);
    for (int v = 0; v < N; ++v) {
      const I x = load_bytes(w + v * kLanes * 4), x_low = low_nibbles(x), x_high = high_nibbles(x);
      for (int r = 0; r < R; ++r)
        low[r][v] = dot<Codes::kFour, kPairSums>(low[r][v], rows[r] + step * 4, x_low);
      for (int r = 0; r < R; ++r)
        high[r][v] = dot<Codes::kFour, kPairSums>(high[r][v], rows[r] + step * 4 + 4, x_high);
    }
  }
}

/// acc += a 4-bit group's products as they are stored, its integer scales times sums of q code.
template <int R, int N>
inline __attribute__((always_inline)) void four_group(I (&acc)[R][N], const uint8_t* (&rows)[R],
                                                      const uint8_t* w, const uint8_t* group_scale,
                                                      int64_t group) {
  constexpr int kSteps = 4;  // of products up to 2 * 255 * 15 four steps fit into 16 bits
  constexpr bool kApart = !kPairSums && kLanes == 16;  // there are registers enough
  I factor[N], low[R][N], others[R][N];
  I(&high)[R][N] = kApart ? others : low;
  for (int v = 0; v < N; ++v) factor[v] = load_factors(group_scale + v * kLanes);
  const auto clear = [&](I(&sums)[R][N]) __attribute__((always_inline)) {
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < N; ++v) sums[r][v] = int_zero();
  };
  const auto add = [&]() __attribute__((always_inline)) {
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < N; ++v) {
        const I sum = kApart ? add_ints(low[r][v], high[r][v]) : low[r][v];
        acc[r][v] = add_scaled(acc[r][v], sum, factor[v]);
      }
  };
  if constexpr (!kPairSums) clear(low);
  if constexpr (kApart) clear(high);
  for (int64_t k = 0; k < group; k += 4 * kSteps, w += kSteps * 32) {
    if constexpr (kPairSums) clear(low);
    four_dots<kSteps>(low, high, rows, w);
    if constexpr (kPairSums) add();
    for (int r = 0; r < R; ++r) rows[r] += 4 * kSteps;
  }
  if constexpr (!kPairSums) add();
}

/// What a row's sums stand for: weight scale * (scale * acc + offset * (sum of weights)).
inline V scale_sums(I acc, float scale, float offset, V weight_scale, V weight_sum) {
  return mul(weight_scale, fma(set1(scale), to_float(acc), mul(set1(offset), weight_sum)));
}
inline V load_weight_sum(const IntLinear& p, int64_t col) { return to_float(load_bytes(p.weight_sum + col)); }

/// `out` of R rows and N vectors of channels from `first` on.
template <int R, int N>
inline void store_tile(const IntLinear& p, const I (&acc)[R][N], int64_t row, int64_t first) {
  for (int v = 0; v < N; ++v) {
    const int64_t col = first + v * kLanes, live = p.cols - col;
    if (live <= 0) break;
    const V sum = load_weight_sum(p, col), weight_scale = load(p.weight_scale + col);
    for (int r = 0; r < R; ++r)
      store_some(p.out + (row + r) * p.ldo + col,
                 scale_sums(acc[r][v], p.scale[row + r], p.offset[row + r], weight_scale, sum),
                 live < kLanes ? live : int64_t(kLanes));
  }
}

/// Calls tile.template operator()<R>(row) for all rows, R at most kRows.
template <int kRows, class Tile>
inline void for_row_tiles(int64_t rows, const Tile& tile) {
  int64_t row = 0;
  for (; row + kRows <= rows; row += kRows) tile.template operator()<kRows>(row);
  if constexpr (kRows > 1)
    if (row < rows)
      for_row_tiles<kRows - 1>(rows - row, [&]<int R>(int64_t r) { tile.template operator()<R>(row + r); });
}

#include "kernels/cpu/linear_restore.inl"

/// Sums go to `out` or, as they are, to `sums` [R, N vectors] of a coded tile.
template <int R, int N>
inline void put_tile(int32_t* sums, const IntLinear& p, const I (&acc)[R][N], int64_t row, int64_t first) {
  if (sums == nullptr) return store_tile(p, acc, row, first);
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v) store_bytes(sums + (r * N + v) * kLanes, acc[r][v]);
}

/// Counts up as a whole: GCC would give each of a loop's loads from p its own register.
__attribute__((always_inline)) inline void keep_pointer(const uint8_t*& p) { asm("" : "+r"(p)); }
template <int R>
inline __attribute__((always_inline)) void rows_from(const uint8_t* (&rows)[R], const IntLinear& p,
                                                     int64_t row) {
  for (int r = 0; r < R; ++r) {
    rows[r] = p.q + (row + r) * p.ldq;
    keep_pointer(rows[r]);
  }
}
/// Asks for where many rows' results will go, which is out of reach by then: the caches hold less than `out`.
template <int R, int N>
inline void expect_tile(const IntLinear& p, int64_t row, int64_t first) {
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v) prefetch(p.out + (row + r) * p.ldo + first + v * kLanes);
}

/// R rows times panels of bytes at w, kPanels of them from `panel` on, 64 bytes of each after another. q is
/// kEightMiddle less than it was where sums begin at that many times the weights' sum.
template <Codes kCodes, int R, int kPanels = 1>
inline void eight_tile(const IntLinear& p, const uint8_t* w, int64_t row, int64_t panel, int32_t* sums) {
  constexpr int kSteps = 8, kVecs = kPanels * kPanelVecs;
  if constexpr (kCodes == Codes::kFourWidened) expect_tile<R, kVecs>(p, row, panel * kPanel);
  int32_t begin[kPanels * kPanel];
  for (int i = 0; i < kPanels * int(kPanel); ++i)
    begin[i] = int32_t(uint32_t(kEightMiddle) * uint32_t(p.weight_sum[panel * kPanel + i]));
  I acc[R][kVecs];
  for (int v = 0; v < kVecs; ++v)
    for (int r = 0; r < R; ++r) acc[r][v] = load_bytes(begin + v * kLanes);
  const uint8_t* rows[R];
  rows_from(rows, p, row);
  const auto at = [&](int r, int step) __attribute__((always_inline)) {
    return rows[r] + step * kEightBytes;
  };
  for (int64_t k = 0; k < p.depth; k += 4 * kSteps, w += kSteps * kPanels * 64) {
    int_dots<kCodes, false, kSteps>(acc, at, w);
    for (int r = 0; r < R; ++r) rows[r] += kSteps * kEightBytes;
  }
  put_tile(sums, p, acc, row, panel * kPanel);
}

/// A group's integer scales [kPanel] and zeros [kPanel], kZeroGroups bytes apart, in a 4-bit panel.
inline const uint8_t* scales_of(const IntLinear& p, int64_t panel, int64_t g) {
  return p.weight_group_scale + (panel * p.groups + g) * kPanel;
}
inline const uint8_t* zeros_of(const IntLinear& p, int64_t panel, int64_t g) {
  return p.weight_zero + (panel * p.zero_groups + g / kZeroGroups * kZeroGroups) * kPanel + g % kZeroGroups;
}

/// R rows times N vectors of channels, from `channel` on, of one 4-bit panel as it is stored.
template <int R, int N>
inline void four_tile(const IntLinear& p, int64_t row, int64_t panel, int64_t channel) {
  // Zeros first: two of the four groups of a lane are its even bytes, two its odd ones.
  const uint8_t* zero = zeros_of(p, panel, 0) + channel * kZeroGroups;
  const int16_t* sums = p.sums + row * p.zero_groups;
  I acc[R][N];
  const auto add_zeros = [&](int64_t g, bool first) __attribute__((always_inline)) {
    for (int v = 0; v < N; ++v) {
      const I four = load_bytes(zero + g * kPanel + v * kLanes * kZeroGroups);
      for (int r = 0; r < R; ++r) {
        const auto* of_row = reinterpret_cast<const uint8_t*>(sums + r * p.zero_groups + g);
        acc[r][v] = madd_pairs(first ? int_zero() : acc[r][v], broadcast_four(of_row), even_bytes(four));
        acc[r][v] = madd_pairs(acc[r][v], broadcast_four(of_row + 4), odd_bytes(four));
      }
    }
  };
  add_zeros(0, true);
  for (int64_t g = kZeroGroups; g < p.zero_groups; g += kZeroGroups) add_zeros(g, false);
  const uint8_t* rows[R];
  rows_from(rows, p, row);
  const uint8_t* w = p.weights + panel * p.panel_bytes + channel * 4;
  const uint8_t* group_scale = scales_of(p, panel, 0) + channel;
  for (int64_t k = 0; k < p.depth; k += p.group, w += p.group * 8, group_scale += kPanel)
    four_group(acc, rows, w, group_scale, p.group);
  store_tile(p, acc, row, panel * kPanel + channel);
}

/// A 4-bit panel unpacked for many rows where sums of pairs are the faster. Spans are of a group's channels,
/// at most kPairSpan of them.
///
/// Over a span a sum of pairs of q (code - 8) may take 17 bits, but one of (q - 128) (code - 8) lies in
/// [-28672, 32768]. So sums of pairs wrap at 16 bits on their way from `start`, which is -128 times the
/// pair's sum of code - 8, less 1, to a number that 16 bits hold. `base` adds what all spans are short of,
/// `zeros` times the rows' own sums what codes less 8 are short of.
struct UnpackedPanel {
  UnpackedPanel(uint8_t* scratch, const IntLinear& p)
      : base(scratch),
        zeros(base + 64),
        spans(zeros + p.zero_groups / 2 * 64),
        span(p.group < kPairSpan ? p.group : kPairSpan),
        span_bytes(span * kPanel + 128) {}
  uint8_t *base,  // [kPanel] int32
      *zeros,     // [zero_groups / 2, kPanel, 2] int16: zero - 8 group_scale; pairs as in IntLinear::sums
      *spans;     // of each, [kPanel, 2] int16 twice: start, group_scale; codes - 8 [span / 4, kPanel, 4]
  int64_t span, span_bytes;
};

/// R rows times an unpacked 4-bit panel. kSteps: a span's.
template <int kSteps, int R>
inline void unpacked_tile(const IntLinear& p, const UnpackedPanel& w, int64_t row, int64_t panel,
                          int32_t* coded) {
  const uint8_t* next = p.weights + (panel + 1) * p.panel_bytes;
  expect_tile<R, kPanelVecs>(p, row, panel * kPanel);
  const int16_t* sums = p.sums + row * p.zero_groups;
  I acc[R][kPanelVecs];
  for (int v = 0; v < kPanelVecs; ++v)
    for (int r = 0; r < R; ++r) acc[r][v] = load_bytes(w.base + v * kLanes * 4);
  for (int64_t g = 0; g < p.zero_groups; g += 2) {
    for (int v = 0; v < kPanelVecs; ++v) {
      const I zeros = load_bytes(w.zeros + g * 32 + v * kLanes * 4);
      for (int r = 0; r < R; ++r) {
        const auto* of_row = reinterpret_cast<const uint8_t*>(sums + r * p.zero_groups + g);
        acc[r][v] = madd_pairs(acc[r][v], broadcast_four(of_row), zeros);
      }
    }
  }
  const uint8_t* rows[R];
  rows_from(rows, p, row);
  const auto at = [&](int r, int step) __attribute__((always_inline)) { return rows[r] + step * 4; };
  const uint8_t* span = w.spans;
  for (int64_t k = 0; k < p.depth; k += 4 * kSteps, span += w.span_bytes) {
    if (row == 0)  // the next panel, a span at a time
      for (int64_t i = 0; i < kSteps * 32; i += 64) prefetch(next + k * 8 + i);
    I pairs[R][kPanelVecs];
    for (int v = 0; v < kPanelVecs; ++v)
      for (int r = 0; r < R; ++r) pairs[r][v] = load_bytes(span + v * kLanes * 4);
    int_dots<Codes::kFourUnpacked, true, kSteps>(pairs, at, span + 128);
    for (int v = 0; v < kPanelVecs; ++v) {
      const I group_scale = load_bytes(span + 64 + v * kLanes * 4);
      for (int r = 0; r < R; ++r) acc[r][v] = madd_pairs(acc[r][v], pairs[r][v], group_scale);
    }
    for (int r = 0; r < R; ++r) rows[r] += 4 * kSteps;
  }
  put_tile(coded, p, acc, row, panel * kPanel);
}

/// Makes bytes of code - 8 of `channels` of a 4-bit panel at w, its `start`, and adds what the span is short
/// of to `base`.
template <int N>
inline void unpack_span(uint8_t* to, I (&base)[N], const uint8_t* w, const uint8_t* group_scale,
                        int64_t channels) {
  uint8_t* codes = to + 128;
  I sums[N];  // of codes, byte by byte: at most 16 times 15
  for (int v = 0; v < N; ++v) sums[v] = int_zero();
  for (int64_t i = 0; i < channels; i += 8, w += 64, codes += 128) {
    for (int v = 0; v < N; ++v) {
      const I x = load_bytes(w + v * kLanes * 4), low = low_nibbles(x), high = high_nibbles(x);
      store_bytes(codes + v * kLanes * 4, sub_bytes(low, kFourMiddle));
      store_bytes(codes + 64 + v * kLanes * 4, sub_bytes(high, kFourMiddle));
      sums[v] = add_bytes(add_bytes(sums[v], low), high);
    }
  }
  // 128 is twice 64, whose product with a pair of sums stays within 16 bits. A pair has channels / 2 codes.
  const auto twice = [](int32_t x) __attribute__((always_inline)) { return int_set(x << 16 | (x & 0xffff)); };
  const int32_t first = kFourMiddle * 64 * int32_t(channels) - 1,
                rest = 1 - 64 * kFourMiddle * int32_t(channels);
  const I plus = int_set(0x40404040), minus = sub_bytes(int_zero(), 64);
  for (int v = 0; v < N; ++v) {
    const I factor = load_factors(group_scale + v * kLanes), pairs = add_pairs(int_zero(), sums[v], plus);
    store_bytes(to + v * kLanes * 4, add_pairs(add_pairs(twice(first), sums[v], minus), sums[v], minus));
    store_bytes(to + 64 + v * kLanes * 4, factor);
    base[v] = madd_pairs(madd_pairs(base[v], pairs, factor), pairs, factor);
    base[v] = madd_pairs(base[v], twice(rest), factor);
  }
}

template <int N>
inline void unpack_panel(const UnpackedPanel& to, const IntLinear& p, int64_t panel) {
  const uint8_t* w = p.weights + panel * p.panel_bytes;
  auto* zeros = reinterpret_cast<int16_t*>(to.zeros);
  for (int64_t g = 0; g < p.zero_groups; ++g) {
    const uint8_t *group_scale = scales_of(p, panel, g), *zero = zeros_of(p, panel, g);
    const int64_t place = pair_place(g);
    for (int64_t c = 0; c < kPanel; ++c)
      zeros[place / 2 * 2 * kPanel + c * 2 + place % 2] =
          int16_t(zero[c * kZeroGroups] - (g < p.groups ? kFourMiddle * group_scale[c] : 0));
  }
  I base[N];
  for (int v = 0; v < N; ++v) base[v] = int_zero();
  uint8_t* span = to.spans;
  for (int64_t k = 0; k < p.depth; k += to.span, span += to.span_bytes, w += to.span * 8)
    unpack_span(span, base, w, scales_of(p, panel, k / p.group), to.span);
  for (int v = 0; v < N; ++v) store_bytes(to.base + v * kLanes * 4, base[v]);
}

/// Channels of one group g of a 4-bit panel, stored at w, as bytes code * scale - zero, 64 of them every
/// `line`.
template <int N>
inline __attribute__((always_inline)) void widen_channels(uint8_t* to, int64_t line, const IntLinear& p,
                                                          int64_t panel, uint64_t g, const uint8_t* w,
                                                          int64_t channels) {
  // A word has the zeros of four groups: the one of this group, negated, becomes all of its bytes.
  static_assert(kZeroGroups == sizeof(uint32_t));
  const uint64_t first = g % kZeroGroups;
  uint32_t less[kPanel];
  __builtin_memcpy(less, zeros_of(p, panel, int64_t(g - first)), sizeof(less));
  for (uint32_t& word : less) {
    word = (0 - (word >> (8 * first))) & 255;
    word |= word << 8, word |= word << 16;
  }
  const uint8_t* group_scale = scales_of(p, panel, int64_t(g));
  I factor[N], shift[N];
  for (int v = 0; v < N; ++v) {
    factor[v] = load_factors(group_scale + v * kLanes);
    shift[v] = load_bytes(less + v * kLanes);
  }
  for (int64_t k = 0; k < channels; k += 8, w += 64, to += 2 * line) {
    prefetch(w + kAhead);
    for (int v = 0; v < N; ++v) {
      const I x = load_bytes(w + v * kLanes * 4);
      store_bytes(to + v * kLanes * 4, add_bytes(shift[v], scale_bytes(low_nibbles(x), factor[v])));
      store_bytes(to + line + v * kLanes * 4, add_bytes(shift[v], scale_bytes(high_nibbles(x), factor[v])));
    }
  }
}

/// A whole panel so.
template <int N>
inline void widen_panel(uint8_t* to, int64_t line, const IntLinear& p, int64_t panel) {
  const uint8_t* w = p.weights + panel * p.panel_bytes;
  for (int64_t g = 0; g < p.groups; ++g, w += p.group * 8, to += p.group / 4 * line)
    widen_channels<N>(to, line, p, panel, uint64_t(g), w, p.group);
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

/// Many rows times one 4-bit panel, or kPanels of them that become bytes together.
template <bool kPairs, int kPanels = 1>
inline void unpacked_linear(const IntLinear& p, int64_t panel) {
  if constexpr (kPairs) {
    static_assert(kPanels == 1);
    const UnpackedPanel unpacked(p.scratch, p);
    unpack_panel<kPanelVecs>(unpacked, p, panel);
    if (unpacked.span == kPairSpan)
      for_coded_row_tiles<kIntRows, 1>(p, panel, [&]<int R>(int64_t row, int32_t* sums) {
        unpacked_tile<16, R>(p, unpacked, row, panel, sums);
      });
    else
      for_coded_row_tiles<kIntRows, 1>(p, panel, [&]<int R>(int64_t row, int32_t* sums) {
        unpacked_tile<8, R>(p, unpacked, row, panel, sums);
      });
  } else {
    for (int64_t i = 0; i < kPanels; ++i)
      widen_panel<kPanelVecs>(p.scratch + i * 64, kPanels * 64, p, panel + i);
    for_coded_row_tiles<kIntRows, kPanels>(p, panel, [&]<int R>(int64_t row, int32_t* sums) {
      eight_tile<Codes::kFourWidened, R, kPanels>(p, p.scratch, row, panel, sums);
    });
  }
}

/// Few rows times one 4-bit panel as it is stored. Not inlined: it would spoil the registers of many rows'
/// loops.
__attribute__((noinline)) void stored_linear(const IntLinear& p, int64_t panel) {
  if (p.rows <= kIntRows)
    return for_row_tiles<kIntRows>(p.rows,
                                   [&]<int R>(int64_t row) { four_tile<R, kPanelVecs>(p, row, panel, 0); });
  // As many sums as registers hold, of all rows and one vector of channels after the other.
  for (int64_t channel = 0; channel < kPanel; channel += kLanes)
    for_row_tiles<kStoredRows>(p.rows, [&]<int R>(int64_t row) { four_tile<R, 1>(p, row, panel, channel); });
}

#include "kernels/cpu/linear_tiles.inl"

void int_linear(const IntLinear& product) {
  if (kOnTiles && product.rows > kStoredRows) return tile_linear(product);
  IntLinear p = product;
  if (!p.four_bits && kEightBytes == 8) {  // where dot_q8 wants them so
    p.q = p.scratch, p.ldq = 2 * p.depth;
    for (int64_t r = 0; r < p.rows; ++r)
      split_signs(p.scratch + r * p.ldq, product.q + r * product.ldq, p.depth);
  }
  for (int64_t panel = p.first_panel; panel < p.last_panel; ++panel) {
    const uint8_t* w = p.weights + panel * p.panel_bytes;
    if (!p.four_bits) {
      for_coded_row_tiles<kIntRows, 1>(p, panel, [&]<int R>(int64_t row, int32_t* sums) {
        eight_tile<Codes::kEight, R>(p, w, row, panel, sums);
      });
    } else if (p.rows <= kStoredRows) {
      stored_linear(p, panel);
    } else if (constexpr int kTogether = kPairSums || kPanelVecs > 1 ? 1 : kWidePanels;
               panel + kTogether <= p.last_panel) {
      unpacked_linear<kPairSums, kTogether>(p, panel);
      panel += kTogether - 1;
    } else {
      unpacked_linear<kPairSums>(p, panel);
    }
  }
}

/// Rows [row, row + count) of a weight as floats: out [count, padded cols].
void widen_rows(float* out, int64_t ldo, const IntLinear& p, int64_t row, int64_t count) {
  for (int64_t r = 0; r < count; ++r) {
    const int64_t panel = (row + r) / kPanel, c = (row + r) % kPanel;
    const uint8_t* w = p.weights + panel * p.panel_bytes + c * 4;
    const float scale = p.weight_scale[row + r];
    for (int64_t k = 0; k < p.depth && !p.four_bits; ++k)
      out[r * ldo + k] = scale * float(int8_t(w[k / 4 * 64 + k % 4]));
    for (int64_t g = 0; g < p.groups; ++g) {
      const int factor = scales_of(p, panel, g)[c], zero = zeros_of(p, panel, g)[c * kZeroGroups];
      for (int64_t k = g * p.group; k < (g + 1) * p.group; ++k) {
        const uint8_t byte = w[k / 8 * 64 + k % 4];
        out[r * ldo + k] = scale * float(factor * (k % 8 < 4 ? byte & 15 : byte >> 4) - zero);
      }
    }
  }
}

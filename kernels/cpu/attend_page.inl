// Attention over one coefficient page. Queries are the lanes: everything below is [.., lanes] with one query
// a lane, so the transforms of scores and probabilities along a page's 64 rows are vector operations, and no
// sum crosses lanes. Products of codes are the integer tiles of linear_int.inl: a page's rows stand for the
// activations, the queries, or the weights of the values, for a panel. Where there are tiles of rows
// (tile_amx.h), those of attend_tiles.inl.

/// Queries that go through a page together, few enough that all they need stays in the first-level cache.
constexpr int64_t kPartLanes = kPartVecs * kLanes;
static_assert(kPartLanes <= kMostPartLanes);

/// Sums of products with nibbles are of nibble - kNibbleMiddle where they are sums of pairs: over kSpanSteps
/// steps they lie in +-2 * 16 * 8 * 127 and fit into 16 bits, whatever wraps on the way there from `start`,
/// which is -kNibbleMiddle times the sums of the other factor's pairs. Whole sums begin at zero.
constexpr int kNibbleMiddle = kPairSums ? 8 : 0;
constexpr int kSpanSteps = 16;
template <class Ints>
inline Ints subtract_middle(Ints start, Ints w) {
  if constexpr (kPairSums) return sub_pairs(start, Ints(int_set(kNibbleMiddle * 0x01010101)), w);
  else return start;
}

/// sums + the products of nibbles and w, as sums of pairs or whole, and what they come to with those before.
template <class Ints>
inline Ints add_dots(Ints sums, Ints nibbles, Ints w) {
  if constexpr (kPairSums) return add_pairs(sums, nibbles, w);
  else return dot_q4(sums, nibbles, w);
}
template <class Ints>
inline Ints fold_dots(Ints before, Ints sums) {
  if constexpr (kPairSums) return fold_pairs(before, sums);
  else return sums;
}

/// 8-bit queries: [ceil(head_dim / 4), lanes, 4] signed bytes; query = step * code.
struct QueryPart {
  int64_t lanes;  // kPartLanes, but kLanes of a last part of so few queries
  uint8_t* codes;
  uint8_t* start;     // [spans of kSpanSteps, lanes, 2] int16
  float *step, *sum;  // [lanes]; sum: of the codes
};
/// Softmax over the pages so far, relative to the greatest score.
struct PartState {
  int64_t lanes;
  float *out, *peak, *total;  // [head_dim, lanes], [lanes], [lanes]; scores are in powers of 2
};
/// A page's keys as bytes, or as nibbles where products are sums of pairs: a wide row's low and high ones in
/// two rows. A score's coefficient is factor * (sum of code products) + offset * (sum of the query's codes).
struct PageKeys {
  uint8_t* codes;  // [kBlock + wide, ld], rounded up to whole tiles
  float *factor, *offset;
  int64_t ld, wide;  // wide: the rows that are two
};
/// Its values: the wide rows as whole numbers in float; the others as nibbles, [kBlock / 4, head_dim, 4], and
/// for tiles once more, [head_dim, kBlock], where the rows before `narrow` are zero. A row's values are
/// factor * (code - kNibbleMiddle - zero), a wide row's factor * (code - zero).
struct PageValues {
  uint8_t *codes, *channels;
  float *wide_codes, *factor, *zero;
  const uint8_t* zero_codes;  // [kBlock] in the page; of a narrow row zero's sixteenths, less kNibbleMiddle
  int64_t wide, narrow;  // rows [0, wide) are wide; the others lie in [narrow, kBlock), whole quads of rows
};
/// What a page adds to a state's outputs, shift * outputs + common + step * (codes^T weights) + wide codes^T
/// wide weights, by lanes.
struct PageWeights {
  uint8_t* weights;     // [kBlock / 4, lanes, 4] signed
  uint8_t* start;       // [lanes, 2] int16, of all weights
  float* wide_weights;  // [kBlock, lanes]
  float *shift, *common, *step;

  PageWeights from(int64_t lane) const {
    return {.weights = weights + 4 * lane,
            .start = start + 4 * lane,
            .wide_weights = wide_weights + lane,
            .shift = shift + lane,
            .common = common + lane,
            .step = step + lane};
  }
};
/// Whether products of codes are those of tiles, 64 channels deep.
inline bool on_tiles(int64_t head_dim) { return kOnTiles && head_dim % 64 == 0; }

struct CodedScratch {
  PageKeys keys;
  PageValues values;
  PageWeights weights;
  float* scores;  // [2 kBlock + 8, lanes]; before they are scores whole sums of code products
  float *page_state, *few, *query_parts;
  float* lanes_state;  // is_few: a state as below, where theirs is [queries, head_dim], [lanes], [lanes]
  uint8_t* few_codes;  // is_few: the queries' codes, [head_dim / 16, queries rounded up, 16]
  int64_t queries, head_dim;

  int64_t quads() const { return divide_up(head_dim, 4); }
  int64_t parts() const { return divide_up(queries, kPartLanes); }
  int64_t lanes(int64_t part) const {
    return queries - part * kPartLanes <= kLanes ? int64_t(kLanes) : kPartLanes;
  }
  QueryPart query(int64_t part) const {
    const int64_t n = lanes(part);
    float* step = query_parts + part * query_floats(head_dim) * kPartLanes;
    float *sum = step + n, *codes = sum + n;
    return {.lanes = n,
            .codes = reinterpret_cast<uint8_t*>(codes),
            .start = reinterpret_cast<uint8_t*>(codes + quads() * n),
            .step = step,
            .sum = sum};
  }
  PartState state(float* states, int64_t part) const {
    const int64_t n = lanes(part);
    float* out = states + part * (head_dim + 2) * kPartLanes;
    return {.lanes = n, .out = out, .peak = out + head_dim * n, .total = out + (head_dim + 1) * n};
  }
};

/// Whether few queries' forms take this tile. Its states then are [queries, head_dim], [lanes], [lanes].
inline bool is_few(const CodedTile& t) {
  const int64_t queries = t.tokens * t.group;
  return queries <= kLanes && queries <= kFewQueries && t.head_dim % 16 == 0;
}

inline CodedScratch coded_scratch(const CodedTile& t) {
  const int64_t d = t.head_dim, queries = t.tokens * t.group;
  const int64_t all_lanes = round_up(queries, kPanel), lanes = kPartLanes;
  float* p = t.scratch;
  const auto floats = [&p](int64_t n) { return (p += n) - n; };
  const auto bytes = [&](int64_t n) { return reinterpret_cast<uint8_t*>(floats(n / 4)); };
  CodedScratch s{};
  s.queries = queries, s.head_dim = d;
  s.keys = {.codes = bytes((2 * kBlock + 8) * s.quads() * 4),
            .factor = floats(kBlock),
            .offset = floats(kBlock),
            .ld = s.quads() * 4,
            .wide = 0};
  s.values = {.codes = bytes(kBlock * (s.quads() * 4 + 8)),
              .channels = bytes(kBlock * s.quads() * 4),
              .wide_codes = floats(kBlock * d),
              .factor = floats(kBlock),
              .zero = floats(kBlock),
              .zero_codes = nullptr,
              .wide = 0,
              .narrow = 0};
  s.weights = {.weights = bytes(kBlock * lanes),
               .start = bytes(4 * lanes),
               .wide_weights = floats(kBlock * lanes),
               .shift = floats(lanes),
               .common = floats(lanes),
               .step = floats(lanes)};
  s.scores = floats((2 * kBlock + 8) * lanes);
  s.page_state = floats((d + 2) * all_lanes);
  s.query_parts = floats(query_floats(d) * all_lanes);
  if (is_few(t)) {
    s.lanes_state = floats((d + 2) * kLanes);
    s.few_codes = bytes(d * kLanes);
  }
  s.few = p;
  return s;
}

// ---- pages ------------------------------------------------------------------------------------------------

/// low, high [n] = the nibbles of n bytes.
inline void split_nibbles(uint8_t* low, uint8_t* high, const uint8_t* bytes, int64_t n) {
  int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    uint8_t x __attribute__((vector_size(32)));
    __builtin_memcpy(&x, bytes + i, 32);
    const auto lower = x & 15, upper = x >> 4;
    __builtin_memcpy(low + i, &lower, 32);
    __builtin_memcpy(high + i, &upper, 32);
  }
  for (; i < n; ++i) low[i] = bytes[i] & 15, high[i] = bytes[i] >> 4;
}

/// out [2 n, 4] = the nibbles of four rows of n bytes, one row after another, side by side: all low ones
/// first.
inline void interleave_nibbles(uint8_t* out, const uint8_t* rows, int64_t n) {
  int64_t i = 0;
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    I four[2];
    interleave_rows(four, rows + i, n);
    for (int j = 0; j < 2; ++j) {
      store_bytes(out + 4 * (i + j * kLanes), low_nibbles(four[j]));
      store_bytes(out + 4 * (n + i + j * kLanes), high_nibbles(four[j]));
    }
  }
  for (; i < n; ++i)
    for (int j = 0; j < 4; ++j) {
      out[4 * i + j] = rows[j * n + i] & 15;
      out[4 * (n + i) + j] = rows[j * n + i] >> 4;
    }
}

/// out [n, kBlock] = quads [kBlock / 4, n, 4], n whole vectors; rows before `first` are zero.
inline void gather_channels(uint8_t* out, const uint8_t* quads, int64_t n, int64_t first) {
  for (int64_t c = 0; c < n; c += kLanes)
    for (int64_t r = 0; r < kBlock; r += 4 * kLanes) {
      V block[kLanes];  // quads, and after the transpose channels
      for (int64_t i = 0; i < kLanes; ++i)
        block[i] = r + 4 * i < first
                       ? set1(0.0f)
                       : load(reinterpret_cast<const float*>(quads + (r / 4 + i) * n * 4 + c * 4));
      transpose(block);
      for (int64_t i = 0; i < kLanes; ++i)
        store(reinterpret_cast<float*>(out + (c + i) * kBlock + r), block[i]);
    }
}

inline const uint8_t* row_codes(const std::byte* side, const KvSide& format, int64_t r) {
  return reinterpret_cast<const uint8_t*>(side + format.row_offset(r));
}

/// PageKeys' factor and offset, PageValues' factor and zero of kLanes rows from r on. A row's factor is its
/// scale times its row_scale, what the transform leaves to its caller.
struct KeyParameters {
  V factor, offset;
};
inline KeyParameters key_parameters(const std::byte* side, const KvSide& format, const float* row_scale,
                                    int64_t wide, int64_t r) {
  const RowParameters p = kv_parameters(side, format, r);
  const V factor = mul(p.scale, load(row_scale + r));
  V offset = mul(sub(set1(float(kNibbleMiddle)), p.zero), factor);
  if (kNibbleMiddle > 0) {  // that of the high nibbles
    const V high = keep_first(set1(16.0f * float(kNibbleMiddle)), wide - r, 0.0f);
    offset = add(offset, mul(high, factor));
  }
  return {factor, offset};
}
struct ValueParameters {
  V factor, zero;
};
inline ValueParameters value_parameters(const std::byte* side, const KvSide& format, const float* row_scale,
                                        int64_t wide, int64_t r) {
  const RowParameters p = kv_parameters(side, format, r);
  return {.factor = mul(p.scale, load(row_scale + r)),
          .zero = sub(p.zero, keep_first(set1(0.0f), wide - r, float(kNibbleMiddle)))};
}

inline void unpack_keys(PageKeys& keys, const std::byte* side, const KvSide& format, const float* row_scale,
                        int64_t rows) {
  const int64_t d = format.head_dim, ld = keys.ld;
  const int64_t wide = format.wide_rows() < rows ? format.wide_rows() : rows;
  keys.wide = kPairSums ? wide : 0;
  for (int64_t r = 0; r < rows; r += kLanes) {
    const KeyParameters p = key_parameters(side, format, row_scale, keys.wide, r);
    store(keys.factor + r, p.factor);
    store(keys.offset + r, p.offset);
  }
  uint8_t* codes = keys.codes;
  for (int64_t r = 0; r < wide; ++r, codes += kPairSums ? 2 * ld : ld) {
    const uint8_t* row = row_codes(side, format, r);
    if (format.row_bits(r) <= 4) {
      split_nibbles(codes, codes + d / 2, row, d / 2);
      if (kPairSums) __builtin_memset(codes + ld, 0, size_t(d));
    } else if (kPairSums) {
      split_nibbles(codes, codes + ld, row, d);
    } else {
      __builtin_memcpy(codes, row, size_t(d));
    }
  }
  const uint8_t* row = row_codes(side, format, wide);
  for (int64_t r = wide; r < rows; ++r, codes += ld, row += d / 2)
    split_nibbles(codes, codes + d / 2, row, d / 2);
}

inline void unpack_values(PageValues& values, const std::byte* side, const KvSide& format,
                          const float* row_scale, int64_t rows) {
  const int64_t d = format.head_dim;
  values.wide = format.wide_rows() < rows ? format.wide_rows() : rows;
  values.narrow = values.wide < rows ? values.wide / 4 * 4 : kBlock;  // pages that have some are whole
  values.zero_codes = reinterpret_cast<const uint8_t*>(side + KvSide::kZeros);
  for (int64_t r = 0; r < rows; r += kLanes) {
    const ValueParameters p = value_parameters(side, format, row_scale, values.wide, r);
    store(values.factor + r, p.factor);
    store(values.zero + r, p.zero);
  }
  for (int64_t r = 0; r < values.wide; ++r) kv_unpack_row(values.wide_codes + r * d, side, format, r);
  if (values.wide == rows) return;
  // Where the first of four rows are wide, their weights here are zero: the bytes before the narrow rows do.
  const uint8_t* codes = row_codes(side, format, values.wide) - (values.wide - values.narrow) * d / 2;
  for (int64_t r = values.narrow; r < kBlock; r += 4, codes += 2 * d)
    interleave_nibbles(values.codes + r * d, codes, d / 2);
  if (on_tiles(d)) gather_channels(values.channels, values.codes, d, values.narrow);
}

// ---- products of codes ------------------------------------------------------------------------------------

/// Calls body with the number of steps where it is one of those unrolled as a whole, head_dim's of 64 and a
/// page's with or without wide rows, and else with 0.
template <class Body>
inline void with_steps(int64_t steps, const Body& body) {
  if (steps == kSpanSteps) body.template operator()<kSpanSteps>();
  else if (steps == kSpanSteps - 1) body.template operator()<kSpanSteps - 1>();
  else body.template operator()<0>();
}

/// acc [R, N] = sums over kSteps steps, or `steps`, of codes, less kNibbleMiddle, times the panel at w,
/// whose `start` is that of QueryPart. at(r, step): row r's four codes.
template <int kSteps, int R, int N, class At>
inline __attribute__((always_inline)) void code_dots(I (&acc)[R][N], const At& at, const uint8_t* w,
                                                     const uint8_t* start, int64_t steps) {
  for (int v = 0; v < N; ++v)
    for (int r = 0; r < R; ++r) acc[r][v] = int_zero();
  // The next kCount steps, in a span of `count`.
  const auto span = [&]<int kCount>(int64_t first, int64_t count) __attribute__((always_inline)) {
    I sums[R][N];
    for (int v = 0; v < N; ++v)
      for (int r = 0; r < R; ++r) sums[r][v] = kPairSums ? load_bytes(start + v * kLanes * 4) : acc[r][v];
    for (int64_t i = 0; i < count; i += kCount)
      int_dots<Codes::kFourUnpacked, kPairSums, kCount>(
          sums, [&](int r, int s) __attribute__((always_inline)) { return at(r, first + i + s); },
          w + (first + i) * N * kLanes * 4);
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < N; ++v) acc[r][v] = fold_dots(acc[r][v], sums[r][v]);
    start += N * kLanes * 4;
  };
  if constexpr (kSteps > 0) return span.template operator()<kSteps>(0, kSteps);
  int64_t first = 0;
  for (; first + kSpanSteps <= steps; first += kSpanSteps)
    span.template operator()<kSpanSteps>(first, kSpanSteps);
  if (first < steps) span.template operator()<1>(first, steps - first);
}

/// scores [n, N vectors] = codes [n, ld] times the queries; n is rounded up to a tile.
template <int N>
void code_scores(const CodedScratch& s, const QueryPart& part, int64_t n) {
  constexpr int R = kIntRows * kPartVecs / N;
  with_steps(s.quads(), [&]<int kSteps>() {
    for (int64_t row = 0; row < n; row += R) {
      const uint8_t* codes = s.keys.codes + row * s.keys.ld;
      I acc[R][N];
      code_dots<kSteps>(
          acc,
          [&](int r, int64_t step)
              __attribute__((always_inline)) { return codes + r * s.keys.ld + step * 4; },
          part.codes, part.start, s.quads());
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < N; ++v) store_bytes(s.scores + ((row + r) * N + v) * kLanes, acc[r][v]);
    }
  });
}

/// out [R, N vectors]: what the page does to R channels from c on, whose code products come to acc.
template <int R, int N>
inline __attribute__((always_inline)) void add_values(const CodedScratch& s, float* out, int64_t c,
                                                      const I (&acc)[R][N]) {
  V y[R][N];
  for (int v = 0; v < N; ++v) {
    const V shift = load(s.weights.shift + v * kLanes), common = load(s.weights.common + v * kLanes),
            step = load(s.weights.step + v * kLanes);
    for (int r = 0; r < R; ++r)
      y[r][v] = fma(to_float(acc[r][v]), step, fma(load(out + (r * N + v) * kLanes), shift, common));
  }
  const float *wide_codes = s.values.wide_codes + c, *wide_weights = s.weights.wide_weights;
  for (int64_t i = s.values.wide; i > 0; --i, wide_codes += s.head_dim, wide_weights += N * kLanes)
    for (int v = 0; v < N; ++v) {
      const V weight = load(wide_weights + v * kLanes);
      for (int r = 0; r < R; ++r) y[r][v] = fma(set1(wide_codes[r]), weight, y[r][v]);
    }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v) store(out + (r * N + v) * kLanes, y[r][v]);
}

template <int N, int R, int kSteps>
inline __attribute__((always_inline)) void value_tile(const CodedScratch& s, float* out, int64_t c) {
  const int64_t stride = s.head_dim * 4, first = s.values.narrow;
  const uint8_t* codes = s.values.codes + first * s.head_dim + c * 4;
  I acc[R][N];
  code_dots<kSteps>(
      acc, [&](int r, int64_t step) __attribute__((always_inline)) { return codes + step * stride + r * 4; },
      s.weights.weights + first * N * kLanes, s.weights.start, (kBlock - first) / 4);
  add_values(s, out, c, acc);
}
template <int N>
void code_values(const CodedScratch& s, const PartState& state) {
  constexpr int R = kIntRows * kPartVecs / N;
  with_steps((kBlock - s.values.narrow) / 4, [&]<int kSteps>() {
    int64_t c = 0;
    for (; c + R <= s.head_dim; c += R) value_tile<N, R, kSteps>(s, state.out + c * N * kLanes, c);
    for (; c < s.head_dim; ++c) value_tile<N, 1, kSteps>(s, state.out + c * N * kLanes, c);
  });
}

/// 2^x for x <= 0, clamped at 2^-125; relative error below 3e-7, exact for whole x. A minimax polynomial on
/// [-1/2, 1/2].
inline V exp2(V x) {
  x = max(x, set1(-125.0f));
  V n;
  const V f = split_nearest(x, n);
  V p = set1(0.00132647273f);
  p = fma(p, f, set1(0.00967151299f));
  p = fma(p, f, set1(0.0555073358f));
  p = fma(p, f, set1(0.240222424f));
  p = fma(p, f, set1(0.693147004f));
  p = fma(p, f, set1(1.0f));
  return scale_by_power(p, n);
}

/// The greatest of `least` and what raise(top, i) makes greater, i in [first, end): four side by side, as
/// each waits for the one before.
template <class Raise>
inline __attribute__((always_inline)) V greatest(V least, int first, int end, const Raise& raise) {
  V top[4] = {least, least, least, least};
  int i = first;
  for (; i + 4 <= end; i += 4)
    for (int j = 0; j < 4; ++j) top[j] = raise(top[j], i + j);
  for (; i < end; ++i) top[0] = raise(top[0], i);
  return max(max(top[0], top[1]), max(top[2], top[3]));
}

// ---- a page -----------------------------------------------------------------------------------------------

/// The lanes of what follows are queries at one page, or (kPages) groups of pages, a group for each query;
/// the pages' parameters are [.., kGroupLanes].
template <bool kPages>
inline V of_row(const float* p, int64_t r) {
  if constexpr (kPages) return load_every_group(p + r * kGroupLanes);
  else return set1(p[r]);
}

/// t = scores without their queries' steps. Returns the greatest of those that are seen: row r is visible to
/// a lane if r < seen. `raw` has the sums of code products of row r at (wide + r) * ld, but of wide rows
/// those of the low and the high nibbles one after the other; those of queries at one page are integers.
template <bool kMasked, bool kPages>
inline V page_scores(V* t, const PageKeys& keys, float* raw, int64_t ld, V sum, V seen, SeqTransform kind,
                     int levels, int64_t rows) {
  const auto products = [&](int64_t r) __attribute__((always_inline)) {
    if constexpr (kPages) return load(raw + r * ld);
    else return to_float(load_bytes(raw + r * ld));
  };
  for (int64_t r = keys.wide - 1; r >= 0; --r) {
    const V both = fma(products(2 * r + 1), set1(16.0f), products(2 * r));
    if constexpr (kPages) store(raw + (keys.wide + r) * ld, both);
    else store_bytes(raw + (keys.wide + r) * ld, nearest_int(both));
  }
  raw += keys.wide * ld;
  transform_inverse(
      kind, levels, rows,
      [&](int r) __attribute__((always_inline)) {
        return fma(products(r), of_row<kPages>(keys.factor, r), mul(of_row<kPages>(keys.offset, r), sum));
      },
      [&](int i, V x) __attribute__((always_inline)) { t[i] = x; });
  const V lowest = set1(-__builtin_inff());
  return greatest(
      lowest, 0, int(rows), [&](V top, int i) __attribute__((always_inline)) {
        return max(top, kMasked ? select_less(set1(float(i)), seen, t[i], lowest) : t[i]);
      });
}

/// Scores to softmax weights relative to the score `top`, and on to the weights of V~'s rows. Returns the sum
/// of the softmax weights. `out` begins at the lanes.
template <bool kMasked, bool kPages>
inline V page_weights(const PageWeights& out, int64_t lanes, const PageValues& values, const V* t, V q_step,
                      V top, V seen, SeqTransform kind, int levels, int64_t rows) {
  V w[kB];
  const V below = sub(set1(0.0f), top);
  const V total = transform_forward(
      kind, levels, rows,
      [&](int i) __attribute__((always_inline)) {
        const V p = exp2(fma(t[i], q_step, below));
        return kMasked ? select_less(set1(float(i)), seen, p, set1(0.0f)) : p;
      },
      [&](int r, V x) __attribute__((always_inline)) { w[r] = mul(x, of_row<kPages>(values.factor, r)); });

  V commons[4] = {set1(0.0f), set1(0.0f), set1(0.0f), set1(0.0f)};
  for (int64_t r = 0; r < values.wide; ++r) {
    commons[r % 4] = sub(commons[r % 4], mul(w[r], of_row<kPages>(values.zero, r)));
    store(out.wide_weights + r * lanes, w[r]);
    w[r] = set1(0.0f);
  }
  const V common = add(add(commons[0], commons[1]), add(commons[2], commons[3]));
  const V peak = greatest(
      set1(0.0f), int(values.narrow),
      kBlock, [&](V peak, int r) __attribute__((always_inline)) { return max_magnitude(peak, w[r]); });
  const V inverse = select_less(set1(kLeastPeak), peak, div(set1(127.0f), peak), set1(0.0f));
  const V step = mul(peak, set1(1.0f / 127));
  // Sums of weights times zeros are whole numbers below 2^24, in sixteenths.
  constexpr bool kWhole = !kPairSums && !kPages;
  V zeros[2] = {set1(0.0f), set1(0.0f)};
  I start = int_zero(), whole_zeros = int_zero();
  for (int64_t r = values.narrow; r < kBlock; r += 4) {
    I four[4];
    for (int i = 0; i < 4; ++i) {
      four[i] = nearest_int(mul(w[r + i], inverse));
      if (!kWhole) zeros[i % 2] = fma(to_float(four[i]), of_row<kPages>(values.zero, r + i), zeros[i % 2]);
    }
    const I bytes = signed_bytes(four);
    start = subtract_middle(start, bytes);
    if (kWhole) whole_zeros = add_dots(whole_zeros, broadcast_four(values.zero_codes + r), bytes);
    store_bytes(out.weights + r * lanes, bytes);
  }
  store_bytes(out.start, start);
  store(out.step, step);
  const V zero = kWhole ? mul(to_float(whole_zeros), set1(1.0f / 16)) : add(zeros[0], zeros[1]);
  store(out.common, sub(common, mul(zero, step)));
  return total;
}

/// N vectors of queries at a page. The state's outputs still have to be multiplied with `shift`.
template <bool kMasked, int N>
void weigh_page(const CodedScratch& s, const QueryPart& part, const PartState& state, const float* visible,
                SeqTransform kind, int levels, int64_t rows) {
  const auto seen = [&](int v) { return kMasked ? load(visible + v * kLanes) : set1(0.0f); };
  V t[N][kB], page_top[N];  // of all vectors first: weights wait for the greatest score
  for (int v = 0; v < N; ++v)
    page_top[v] = page_scores<kMasked, false>(t[v], s.keys, s.scores + v * kLanes, part.lanes,
                                              load(part.sum + v * kLanes), seen(v), kind, levels, rows);
  for (int v = 0; v < N; ++v) {
    const int64_t lane = v * kLanes;
    const V q_step = load(part.step + lane);
    const V before = load(state.peak + lane), top = max(before, mul(page_top[v], q_step));
    const V shift = exp2(sub(before, top));  // of the first page: 2^-125, while total and out are zero
    const PageWeights out = s.weights.from(lane);
    store(state.peak + lane, top);
    store(out.shift, shift);
    const V total = page_weights<kMasked, false>(out, part.lanes, s.values, t[v], q_step, top, seen(v), kind,
                                                 levels, rows);
    store(state.total + lane, fma(load(state.total + lane), shift, total));
  }
}

struct HeadPage {
  const std::byte *keys, *values;
  const KvSide* side;
  bool sealed;
  int64_t rows;  // that are present

  int64_t bytes() const { return side->row_offset(rows); }  // of the keys, and of the values
};
inline HeadPage head_page(const CodedTile& t, int64_t page) {
  const int64_t present = t.length - page * kBlock, rows = present < kBlock ? present : kBlock;
  const bool sealed = t.is_sealed(page);
  const std::byte* base = (sealed ? t.sealed : t.open)[t.pages[page]];
  return {.keys = base + (sealed ? t.sealed_k : t.open_k),
          .values = base + (sealed ? t.sealed_v : t.open_v),
          .side = sealed ? &t.sealed_side : &t.open_side,
          .sealed = sealed,
          .rows = rows};
}
inline void prefetch_page(const HeadPage& page) {
  for (int64_t i = 0; i < page.side->bytes(); i += 64) {
    prefetch(page.keys + i);
    prefetch(page.values + i);
  }
}

// Attention over one coefficient page. Queries are the lanes: everything below is [.., lanes] with one query
// a lane, so the transforms of scores and probabilities along a page's 64 rows are vector operations, and no
// sum crosses lanes. Products of codes are the integer tiles of linear_int.inl: a page's rows stand for the
// activations, the queries, or the weights of the values, for a panel.

/// Queries that go through a page together, few enough that all they need stays in the first-level cache.
constexpr int64_t kPartLanes = kPanel;

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
  uint8_t* codes;
  uint8_t* start;     // [spans of kSpanSteps, lanes, 2] int16
  float *step, *sum;  // [lanes]; sum: of the codes
};
/// Softmax over the pages so far, relative to the greatest score.
struct PartState {
  float *out, *peak, *total;  // [head_dim, lanes], [lanes], [lanes]; scores are in powers of 2
};
/// A page's keys as nibbles, a wide row's low and high ones in two rows. A score's coefficient is factor *
/// (sum of code products) + offset * (sum of the query's codes).
struct PageKeys {
  uint8_t* codes;  // [kBlock + wide rows, ld], rounded up to whole tiles
  float *factor, *offset;
  int64_t ld, wide;
};
/// Its values: the wide rows as whole numbers in float; the others as nibbles, [kBlock / 4, head_dim, 4]. A
/// row's values are factor * (code - kNibbleMiddle - zero), a wide row's factor * (code - zero).
struct PageValues {
  uint8_t* codes;
  float *wide_codes, *factor, *zero;
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
struct CodedScratch {
  PageKeys keys;
  PageValues values;
  PageWeights weights;
  float* scores;  // [2 kBlock + 8, lanes]
  float *page_state, *few, *queries;
  int64_t lanes, head_dim;

  int64_t quads() const { return divide_up(head_dim, 4); }
  QueryPart query(int64_t part) const {
    float* step = queries + part * query_floats(head_dim) * lanes;
    float *sum = step + lanes, *codes = sum + lanes;
    return {.codes = reinterpret_cast<uint8_t*>(codes),
            .start = reinterpret_cast<uint8_t*>(codes + quads() * lanes),
            .step = step,
            .sum = sum};
  }
  PartState state(float* states, int64_t part) const {
    float* out = states + part * (head_dim + 2) * lanes;
    return {.out = out, .peak = out + head_dim * lanes, .total = out + (head_dim + 1) * lanes};
  }
};

inline int64_t lanes_of(int64_t queries) { return queries <= kLanes ? int64_t(kLanes) : kPartLanes; }

inline CodedScratch coded_scratch(const CodedTile& t) {
  const int64_t d = t.head_dim, queries = t.tokens * t.group, lanes = lanes_of(queries);
  const int64_t parts = divide_up(queries, lanes);
  float* p = t.scratch;
  const auto floats = [&p](int64_t n) { return (p += n) - n; };
  const auto bytes = [&](int64_t n) { return reinterpret_cast<uint8_t*>(floats(n / 4)); };
  CodedScratch s;
  s.lanes = lanes, s.head_dim = d;
  s.keys = {.codes = bytes((2 * kBlock + 8) * s.quads() * 4),
            .factor = floats(kBlock),
            .offset = floats(kBlock),
            .ld = s.quads() * 4,
            .wide = 0};
  s.values = {.codes = bytes(kBlock * (s.quads() * 4 + 8)),
              .wide_codes = floats(kBlock * d),
              .factor = floats(kBlock),
              .zero = floats(kBlock),
              .wide = 0,
              .narrow = 0};
  s.weights = {.weights = bytes(kBlock * lanes),
               .start = bytes(4 * lanes),
               .wide_weights = floats(kBlock * lanes),
               .shift = floats(lanes),
               .common = floats(lanes),
               .step = floats(lanes)};
  s.scores = floats((2 * kBlock + 8) * lanes);
  s.page_state = floats((d + 2) * lanes * parts);
  s.queries = floats(query_floats(d) * lanes * parts);
  s.few = p;
  return s;
}

// ---- pages ------------------------------------------------------------------------------------------------

/// low, high [n] = the nibbles of n bytes.
inline void split_nibbles(uint8_t* low, uint8_t* high, const uint8_t* bytes, int64_t n) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const Bytes x = load_16(bytes + i);
    store_16(low + i, x & 15);
    store_16(high + i, x >> 4);
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
    const V high = rows_before(wide, r, set1(16.0f * float(kNibbleMiddle)), set1(0.0f));
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
          .zero = rows_before(wide, r, p.zero, sub(p.zero, set1(float(kNibbleMiddle))))};
}

inline void unpack_keys(PageKeys& keys, const std::byte* side, const KvSide& format, const float* row_scale,
                        int64_t rows) {
  const int64_t d = format.head_dim, ld = keys.ld;
  keys.wide = format.wide_rows() < rows ? format.wide_rows() : rows;
  for (int64_t r = 0; r < rows; r += kLanes) {
    const KeyParameters p = key_parameters(side, format, row_scale, keys.wide, r);
    store(keys.factor + r, p.factor);
    store(keys.offset + r, p.offset);
  }
  uint8_t* codes = keys.codes;
  for (int64_t r = 0; r < keys.wide; ++r, codes += 2 * ld) {
    if (format.row_bits(r) > 4) {
      split_nibbles(codes, codes + ld, row_codes(side, format, r), d);
    } else {
      split_nibbles(codes, codes + d / 2, row_codes(side, format, r), d / 2);
      __builtin_memset(codes + ld, 0, size_t(d));
    }
  }
  const uint8_t* row = row_codes(side, format, keys.wide);
  for (int64_t r = keys.wide; r < rows; ++r, codes += ld, row += d / 2)
    split_nibbles(codes, codes + d / 2, row, d / 2);
}

/// All but the parameters.
inline void unpack_value_codes(PageValues& values, const std::byte* side, const KvSide& format,
                               int64_t rows) {
  const int64_t d = format.head_dim;
  values.wide = format.wide_rows() < rows ? format.wide_rows() : rows;
  values.narrow = values.wide < rows ? values.wide / 4 * 4 : kBlock;  // pages that have some are whole
  for (int64_t r = 0; r < values.wide; ++r) kv_unpack_row(values.wide_codes + r * d, side, format, r);
  if (values.wide == rows) return;
  // Where the first of four rows are wide, their weights here are zero: the bytes before the narrow rows do.
  const uint8_t* codes = row_codes(side, format, values.wide) - (values.wide - values.narrow) * d / 2;
  for (int64_t r = values.narrow; r < kBlock; r += 4, codes += 2 * d)
    interleave_nibbles(values.codes + r * d, codes, d / 2);
}

inline void unpack_values(PageValues& values, const std::byte* side, const KvSide& format,
                          const float* row_scale, int64_t rows) {
  unpack_value_codes(values, side, format, rows);
  for (int64_t r = 0; r < rows; r += kLanes) {
    const ValueParameters p = value_parameters(side, format, row_scale, values.wide, r);
    store(values.factor + r, p.factor);
    store(values.zero + r, p.zero);
  }
}

// ---- products of codes ------------------------------------------------------------------------------------

/// acc [R, N] = sums over `steps` steps of nibbles, less kNibbleMiddle, times the panel at w, whose `start`
/// is that of QueryPart. at(r, step): row r's four codes.
template <int R, int N, class At>
inline __attribute__((always_inline)) void code_dots(I (&acc)[R][N], const At& at, const uint8_t* w,
                                                     const uint8_t* start, int64_t steps) {
  const auto span = [&](int64_t first, auto before) __attribute__((always_inline)) {
    I sums[R][N];
    for (int v = 0; v < N; ++v)
      for (int r = 0; r < R; ++r) sums[r][v] = kPairSums ? load_bytes(start + v * kLanes * 4) : before(r, v);
    if (steps - first >= kSpanSteps) {
      int_dots<Codes::kFourUnpacked, kPairSums, kSpanSteps>(
          sums, [&](int r, int s) __attribute__((always_inline)) { return at(r, first + s); }, w);
    } else {
      for (int64_t i = first; i < steps; ++i)
        int_dots<Codes::kFourUnpacked, kPairSums, 1>(
            sums, [&](int r, int) __attribute__((always_inline)) { return at(r, i); },
            w + (i - first) * N * kLanes * 4);
    }
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < N; ++v) acc[r][v] = fold_dots(before(r, v), sums[r][v]);
    w += kSpanSteps * N * kLanes * 4, start += N * kLanes * 4;
  };
  span(
      0, [](int, int) __attribute__((always_inline)) { return int_zero(); });
  for (int64_t first = kSpanSteps; first < steps; first += kSpanSteps)
    span(
        first, [&](int r, int v) __attribute__((always_inline)) { return acc[r][v]; });
}

/// scores [n, N vectors] = codes [n, ld] times the queries; n is rounded up to a tile.
template <int N>
void code_scores(const CodedScratch& s, const QueryPart& part, int64_t n) {
  constexpr int R = kIntRows * kPanelVecs / N;
  for (int64_t row = 0; row < n; row += R) {
    const uint8_t* codes = s.keys.codes + row * s.keys.ld;
    I acc[R][N];
    code_dots(
        acc,
        [&](int r, int64_t step) __attribute__((always_inline)) { return codes + r * s.keys.ld + step * 4; },
        part.codes, part.start, s.quads());
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < N; ++v) store(s.scores + ((row + r) * N + v) * kLanes, to_float(acc[r][v]));
  }
}

/// out [head_dim, N vectors], R channels from c on
template <int N, int R>
inline __attribute__((always_inline)) void value_tile(const CodedScratch& s, float* out, int64_t c) {
  const int64_t stride = s.head_dim * 4, first = s.values.narrow;
  const uint8_t* codes = s.values.codes + first * s.head_dim + c * 4;
  I acc[R][N];
  code_dots(
      acc, [&](int r, int64_t step) __attribute__((always_inline)) { return codes + step * stride + r * 4; },
      s.weights.weights + first * s.lanes, s.weights.start, (kBlock - first) / 4);
  V y[R][N];
  for (int v = 0; v < N; ++v) {
    const V shift = load(s.weights.shift + v * kLanes), common = load(s.weights.common + v * kLanes),
            step = load(s.weights.step + v * kLanes);
    for (int r = 0; r < R; ++r)
      y[r][v] = fma(to_float(acc[r][v]), step, fma(load(out + ((c + r) * N + v) * kLanes), shift, common));
  }
  for (int64_t i = 0; i < s.values.wide; ++i)
    for (int v = 0; v < N; ++v) {
      const V weight = load(s.weights.wide_weights + (i * N + v) * kLanes);
      for (int r = 0; r < R; ++r)
        y[r][v] = fma(set1(s.values.wide_codes[i * s.head_dim + c + r]), weight, y[r][v]);
    }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < N; ++v) store(out + ((c + r) * N + v) * kLanes, y[r][v]);
}
template <int N>
void code_values(const CodedScratch& s, const PartState& state) {
  constexpr int R = kIntRows * kPanelVecs / N;
  int64_t c = 0;
  for (; c + R <= s.head_dim; c += R) value_tile<N, R>(s, state.out, c);
  for (; c < s.head_dim; ++c) value_tile<N, 1>(s, state.out, c);
}

/// 2^x for x <= 0, clamped at 2^-125; relative error below 3e-7, exact for whole x. A minimax polynomial on
/// [-1/2, 1/2].
inline V exp2(V x) {
  x = max(x, set1(-125.0f));
  const V n = round_nearest(x), f = sub(x, n);
  V p = set1(0.00132647273f);
  p = fma(p, f, set1(0.00967151299f));
  p = fma(p, f, set1(0.0555073358f));
  p = fma(p, f, set1(0.240222424f));
  p = fma(p, f, set1(0.693147004f));
  p = fma(p, f, set1(1.0f));
  return scale_by_power(p, n);
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
/// those of the low and the high nibbles one after the other.
template <bool kMasked, bool kPages>
inline V page_scores(V* t, const PageKeys& keys, float* raw, int64_t ld, V sum, V seen, SeqTransform kind,
                     int levels, int64_t rows) {
  for (int64_t r = keys.wide - 1; r >= 0; --r)
    store(raw + (keys.wide + r) * ld, fma(load(raw + (2 * r + 1) * ld), set1(16.0f), load(raw + 2 * r * ld)));
  raw += keys.wide * ld;
  const V lowest = set1(-__builtin_inff());
  V top = lowest;
  transform_inverse(
      kind, levels, rows,
      [&](int r) __attribute__((always_inline)) {
        return fma(load(raw + r * ld), of_row<kPages>(keys.factor, r),
                   mul(of_row<kPages>(keys.offset, r), sum));
      },
      [&](int i, V x) __attribute__((always_inline)) {
        t[i] = x;
        top = max(top, kMasked ? select_less(set1(float(i)), seen, x, lowest) : x);
      });
  return top;
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

  V common = set1(0.0f), peak = set1(0.0f);
  for (int64_t r = 0; r < values.wide; ++r) {
    common = sub(common, mul(w[r], of_row<kPages>(values.zero, r)));
    store(out.wide_weights + r * lanes, w[r]);
    w[r] = set1(0.0f);
  }
  for (int64_t r = values.narrow; r < kBlock; ++r) peak = max(peak, magnitude(w[r]));
  const V inverse = select_less(set1(kLeastPeak), peak, div(set1(127.0f), peak), set1(0.0f));
  const V step = mul(peak, set1(1.0f / 127));
  V zeros[2] = {set1(0.0f), set1(0.0f)};  // whole numbers below 2^24, in sixteenths
  I start = int_zero();
  for (int64_t r = values.narrow; r < kBlock; r += 4) {
    V four[4];
    for (int i = 0; i < 4; ++i) {
      four[i] = round_nearest(mul(w[r + i], inverse));
      zeros[i % 2] = fma(four[i], of_row<kPages>(values.zero, r + i), zeros[i % 2]);
    }
    const I bytes = signed_bytes(four);
    start = subtract_middle(start, bytes);
    store_bytes(out.weights + r * lanes, bytes);
  }
  store_bytes(out.start, start);
  store(out.step, step);
  store(out.common, sub(common, mul(add(zeros[0], zeros[1]), step)));
  return total;
}

/// One vector of queries at a page. The state's outputs still have to be multiplied with `shift`.
template <bool kMasked>
void weigh_page(const CodedScratch& s, const QueryPart& part, const PartState& state, int64_t lane,
                const float* visible, SeqTransform kind, int levels, int64_t rows) {
  const V seen = kMasked ? load(visible + lane) : set1(0.0f), q_step = load(part.step + lane);
  V t[kB];
  const V page_top = page_scores<kMasked, false>(t, s.keys, s.scores + lane, s.lanes, load(part.sum + lane),
                                                 seen, kind, levels, rows);
  const V before = load(state.peak + lane), top = max(before, mul(page_top, q_step));
  const V shift = exp2(sub(before, top));  // of the first page: 2^-125, while total and out are zero
  const PageWeights out = s.weights.from(lane);
  store(state.peak + lane, top);
  store(out.shift, shift);
  const V total =
      page_weights<kMasked, false>(out, s.lanes, s.values, t, q_step, top, seen, kind, levels, rows);
  store(state.total + lane, fma(load(state.total + lane), shift, total));
}

template <int N>
void page_of_part(const CodedTile& t, const CodedScratch& s, int64_t part, float* states,
                  const float* visible, SeqTransform kind, int64_t rows) {
  const QueryPart query = s.query(part);
  const PartState state = s.state(states, part);
  code_scores<N>(s, query, rows + s.keys.wide);
  for (int v = 0; v < N; ++v) {
    if (visible != nullptr) weigh_page<true>(s, query, state, v * kLanes, visible, kind, t.levels, rows);
    else weigh_page<false>(s, query, state, v * kLanes, visible, kind, t.levels, rows);
  }
  if (s.values.wide < rows) {
    code_values<N>(s, state);
  } else {
    for (int64_t c = 0; c < s.head_dim; ++c)
      for (int64_t i = 0; i < s.lanes; i += kLanes) {
        float* y = state.out + c * s.lanes + i;
        store(y, fma(load(y), load(s.weights.shift + i), load(s.weights.common + i)));
      }
    multiply(state.out, s.lanes, s.values.wide_codes, 1, s.head_dim, s.weights.wide_weights, s.lanes,
             s.head_dim, s.lanes, s.values.wide, true);
  }
}

struct HeadPage {
  const std::byte *keys, *values;
  const KvSide* side;
  bool sealed;
};
inline HeadPage head_page(const CodedTile& t, int64_t page) {
  if (t.is_sealed(page)) {
    const std::byte* base = t.sealed[t.pages[page]];
    return {.keys = base + t.sealed_k, .values = base + t.sealed_v, .side = &t.sealed_side, .sealed = true};
  }
  const std::byte* base = t.open[t.pages[page]];
  return {.keys = base + t.open_k, .values = base + t.open_v, .side = &t.open_side, .sealed = false};
}
inline void prefetch_page(const HeadPage& page) {
  for (int64_t i = 0; i < page.side->bytes(); i += 64) {
    prefetch(page.keys + i);
    prefetch(page.values + i);
  }
}

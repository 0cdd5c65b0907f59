// Attention of few queries, as in decode, over an open page: 8-bit codes of up to kBlock tokens. From keys to
// weights a vector's lanes are four rows for each of kFourQueries queries, where values are multiplied they
// are channels. Sums of codes are exact, and all else is done for each query in the order of
// attend_page.inl: its bits do not depend on which of the two forms it meets.

constexpr int64_t kFourQueries = kLanes / 4;

/// Times to ask before four rows of an open page.
constexpr int kAheadOfRows = 3;

struct OpenPage {
  const uint8_t *keys, *values;  // codes, [rows, head_dim]
  int64_t begin, rows;           // its first position
  PagesAhead ahead;
};

/// The page for queries [first, first + kFourQueries), in lanes.
struct OpenQueries {
  const uint8_t* codes;  // [head_dim / 16, lines of `line` bytes]
  int64_t line;
  V step, sum;
  V seen;            // a row is visible if it is less
  int64_t seen_all;  // as the rows below are to all
};

/// value = scale * (code - zero), as attend_page.inl has them for wide rows: a key's score is factor * (sum
/// of products with its bytes, less 17 * kNibbleMiddle each) + offset * (sum of the query's codes). Rows that
/// are missing come to nothing.
inline void open_parameters(PageKeys& keys, PageValues& values, const HeadPage& page, int64_t rows) {
  const auto each = [&](float* scales, float* zeros, const std::byte* side, bool key) {
    const auto* halves = reinterpret_cast<const uint16_t*>(side + KvSide::kScales);
    const auto* bytes = reinterpret_cast<const uint8_t*>(side + KvSide::kZeros);
    for (int64_t r = 0; r < rows; r += kLanes) {
      const V scale = keep_first(load_f16(halves + r), rows - r, 0.0f), zero = load_u8(bytes + r);
      const V offset = mul(sub(set1(float(kNibbleMiddle)), zero), scale);
      store(scales + r, scale);
      store(zeros + r, key ? add(offset, mul(set1(16.0f * kNibbleMiddle), scale)) : zero);
    }
  };
  each(keys.factor, keys.offset, page.keys, true);
  each(values.factor, values.zero, page.values, false);
}

/// sums [4] += four rows' bytes times the queries', each lane's four channels of every sixteen.
template <class Ints>
inline __attribute__((always_inline)) void open_dots(Ints (&sums)[4], const uint8_t* row, int64_t head_dim,
                                                     const OpenQueries& q) {
  constexpr int64_t kSpan = 8 * 16;  // 2 * 15 * 127 each stay within 16 bits
  const uint8_t* codes = q.codes;
  for (int64_t c = 0; c < head_dim;) {
    const int64_t end = c + kSpan < head_dim ? c + kSpan : head_dim;
    Ints low[4], high[4];
    for (int i = 0; i < 4; ++i) low[i] = kPairSums ? int_zero() : sums[i], high[i] = int_zero();
    for (; c < end; c += 16, codes += q.line) {
      const Ints w = load_bytes(codes);
      for (int i = 0; i < 4; ++i) {
        const Ints x = repeat_16(row + i * head_dim + c);
        if constexpr (kPairSums) {
          low[i] = add_pairs(low[i], low_nibbles(x), w);
          high[i] = add_pairs(high[i], high_nibbles(x), w);
        } else {
          low[i] = dot_q4(low[i], x, w);
        }
      }
    }
    for (int i = 0; i < 4; ++i)
      sums[i] = kPairSums ? madd_pairs(fold_dots(sums[i], low[i]), high[i], int_set(0x00100010)) : low[i];
  }
}

/// x where row r + i % 4 of lane i is visible.
inline V where_seen(const OpenQueries& q, int64_t r, V x, float otherwise) {
  if (r + 4 <= q.seen_all) return x;
  const float four[4] = {float(r), float(r + 1), float(r + 2), float(r + 3)};
  return select_less(repeat_four(four), q.seen, x, set1(otherwise));
}

/// In all of a query's lanes what `both` makes of the four.
template <class Both>
inline V of_fours(V x, const Both& both) {
  x = both(x, swap_lanes<1>(x));
  return both(x, swap_lanes<2>(x));
}

/// t [rows, kFourQueries] = scores without their queries' steps. Returns the greatest of those that are seen.
inline V open_scores(V* t, const OpenQueries& q, const PageKeys& keys, OpenPage& page, int64_t head_dim) {
  float sum[kLanes];
  store(sum, q.sum);
  int32_t middle[kLanes];  // a fourth of it: the lanes are added up
  for (int i = 0; i < kLanes; ++i) middle[i] = -17 * kNibbleMiddle / 4 * int32_t(sum[i]);
  const I start = load_bytes(middle);
  V top = set1(-__builtin_inff());
  for (int64_t r = 0; r < page.rows; r += 4) {
    page.ahead.ask(kAheadOfRows);
    I sums[4] = {start, start, start, start};
    open_dots(sums, page.keys + r * head_dim, head_dim, q);
    const V x = fma(to_float(sums_of_fours(sums)), repeat_four(keys.factor + r),
                    mul(repeat_four(keys.offset + r), q.sum));
    t[r / 4] = x;
    top = max(top, where_seen(q, r, x, -__builtin_inff()));
  }
  return of_fours(top, [](V a, V b) { return max(a, b); });
}

/// Scores to weights of the values' rows, [rows, kFourQueries].
inline void weigh_open(const CodedTile& t, const CodedScratch& s, const PartState& state, OpenPage& page,
                       int64_t first) {
  const QueryPart part = s.query(0);
  const int64_t line = round_up(t.tokens * t.group, kFourQueries) * 16;
  float seen[kFourQueries];
  for (int64_t i = 0; i < kFourQueries; ++i) {
    const int64_t visible = t.position + (first + i) / t.group + 1 - page.begin;
    seen[i] = float(visible < page.rows ? visible : page.rows);
  }
  const OpenQueries q = {.codes = s.few_codes + first * 16,
                         .line = line,
                         .step = spread_fours(part.step + first),
                         .sum = spread_fours(part.sum + first),
                         .seen = spread_fours(seen),
                         .seen_all = int64_t(seen[0])};
  V scores[kBlock / 4];
  const V page_top = open_scores(scores, q, s.keys, page, t.head_dim);
  const V before = spread_fours(state.peak + first), top = max(before, mul(page_top, q.step));
  const V shift = exp2(sub(before, top)), below = sub(set1(0.0f), top);
  V total = set1(0.0f), common = set1(0.0f);
  float* weights = s.weights.wide_weights + first / kFourQueries * kBlock * kFourQueries;
  for (int64_t r = 0; r < page.rows; r += 4) {
    const V p = where_seen(q, r, exp2(fma(scores[r / 4], q.step, below)), 0.0f);
    const V w = mul(p, repeat_four(s.values.factor + r));
    total = add(total, p);
    common = sub(common, mul(w, repeat_four(s.values.zero + r)));
    store(weights + r * kFourQueries, w);
  }
  const auto sum = [](V a, V b) { return add(a, b); };
  store_fourths(state.peak + first, top);
  store_fourths(state.total + first, fma(spread_fours(state.total + first), shift, of_fours(total, sum)));
  store_fourths(s.weights.shift + first, shift);
  store_fourths(s.weights.common + first, of_fours(common, sum));
}

/// out [R, N vectors of channels] of R queries, channels from c on: what the page does to them.
template <int R, int N>
inline void open_tile(const CodedScratch& s, float* out, OpenPage& page, int64_t query, int64_t c) {
  const int64_t d = s.head_dim, rows = page.rows;
  const float* weights[R];
  V y[R][N];
  for (int q = 0; q < R; ++q) {
    const int64_t i = query + q;
    weights[q] = s.weights.wide_weights + i / kFourQueries * kBlock * kFourQueries + i % kFourQueries * 4;
    const V shift = set1(s.weights.shift[i]), common = set1(s.weights.common[i]);
    for (int v = 0; v < N; ++v) y[q][v] = fma(load(out + i * d + c + v * kLanes), shift, common);
  }
  const auto add_row = [&](int64_t r, int64_t i) __attribute__((always_inline)) {
    V x[N];
    for (int v = 0; v < N; ++v) x[v] = load_u8(page.values + (r + i) * d + c + v * kLanes);
    for (int q = 0; q < R; ++q) {
      const V w = set1(weights[q][r * kFourQueries + i]);
      for (int v = 0; v < N; ++v) y[q][v] = fma(x[v], w, y[q][v]);
    }
  };
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    page.ahead.ask(kAheadOfRows);
    for (int64_t i = 0; i < 4; ++i) add_row(r, i);
  }
  if (r < rows) page.ahead.ask(kAheadOfRows);
  for (int64_t i = 0; r + i < rows; ++i) add_row(r, i);
  for (int q = 0; q < R; ++q)
    for (int v = 0; v < N; ++v) store(out + (query + q) * d + c + v * kLanes, y[q][v]);
}

/// The state of is_few's queries after the open page.
inline void attend_open(const CodedTile& t, CodedScratch& s, const PartState& state, int64_t page) {
  const int64_t queries = t.tokens * t.group, d = t.head_dim;
  const HeadPage here = head_page(t, page);
  const int64_t rows = here.rows;
  OpenPage open = {.keys = row_codes(here.keys, *here.side, 0),
                   .values = row_codes(here.values, *here.side, 0),
                   .begin = page * kBlock,
                   .rows = rows,
                   .ahead = pages_ahead(t, page + 1)};
  open_parameters(s.keys, s.values, here, rows);
  for (int64_t first = 0; first < queries; first += kFourQueries) weigh_open(t, s, state, open, first);
  for_query_tiles(queries, [&]<int R>(int64_t query) {
    constexpr int N = kLanes < 16 && R > 2 ? 2 : 4;
    int64_t c = 0;
    for (; c + N * kLanes <= d; c += N * kLanes) open_tile<R, N>(s, state.out, open, query, c);
    for (; c < d; c += kLanes) open_tile<R, 1>(s, state.out, open, query, c);
  });
}

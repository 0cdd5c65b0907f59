// Attention of few queries, as in decode, over a run of sealed pages that all of them see whole. A vector of
// queries would be mostly spare lanes, so the lanes are the run's pages from keys to weights, a group of
// lanes for each query, and channels where values are multiplied. Sums of codes are exact, and all else is
// done for each query in the order of attend_page.inl: its bits do not depend on which of the two forms it
// meets.

/// Queries of a vector, and rows of keys.
constexpr int64_t kGroups = kLanes / kGroupLanes;

/// Where whole sums have room for them, high nibbles stay where they are: kHighUnit times their products
/// count.
constexpr float kHighUnit = kPairSums ? 1.0f : 1.0f / 16;
constexpr int64_t kMostHeadDim = 1024;  // so that sums are exact in float all the same

struct FewScratch {
  uint8_t* wide_rows;  // [kRunPages, 2 wide, head_dim / 2]: the wide keys' low and high nibbles, packed
  PageKeys keys;       // parameters [kBlock, kRunPages], as have the values
  PageValues values;
  float* sums;          // of code products: [rows of keys, lanes]
  PageWeights weights;  // [.., lanes]
  float* out;           // [queries, head_dim], the state's
  int64_t lanes;        // a group for each query, rounded up to whole vectors
};

inline FewScratch few_scratch(const CodedTile& t, const CodedScratch& s, float* out) {
  const int64_t queries = t.tokens * t.group, wide = t.sealed_side.wide_rows();
  float* p = s.few;
  const auto floats = [&p](int64_t n) { return (p += n) - n; };
  const auto bytes = [&](int64_t n) { return reinterpret_cast<uint8_t*>(floats(n / 4)); };
  FewScratch f;
  f.out = out;
  f.lanes = round_up(queries * kRunPages, kLanes);
  f.wide_rows = bytes(kRunPages * wide * t.head_dim);
  f.keys = {.codes = nullptr,
            .factor = floats(kBlock * kRunPages),
            .offset = floats(kBlock * kRunPages),
            .ld = 0,
            .wide = wide};
  f.values = {.codes = nullptr,
              .channels = nullptr,
              .wide_codes = nullptr,
              .factor = floats(kBlock * kRunPages),
              .zero = floats(kBlock * kRunPages),
              .zero_codes = nullptr,
              .wide = wide,
              .narrow = wide / 4 * 4};
  f.sums = floats((kBlock + wide) * f.lanes);
  f.weights = {.weights = bytes(kBlock * f.lanes),
               .start = bytes(4 * f.lanes),
               .wide_weights = floats(wide * f.lanes),
               .shift = floats(f.lanes),
               .common = floats(f.lanes),
               .step = floats(f.lanes)};
  return f;
}

/// Whether the form below takes few queries' sealed pages at all.
inline bool takes_runs(const CodedTile& t) {
  const int64_t queries = t.tokens * t.group, half = t.head_dim / 2;
  return t.head_dim <= kMostHeadDim && queries <= kGroupLanes && t.head_dim % (2 * kLanes) == 0 &&
         half >= 2 * kLanes && t.sealed_side.wide_rows() <= kBlock - kGroups;
}
/// Fewer pages take less time page after page.
constexpr int64_t kLeastRun = kGroups > 1 ? 2 : 3;
/// Pages from `page` on that make up a run.
inline int64_t run_pages(const CodedTile& t, int64_t page) {
  if (page < t.first_sealed || !takes_runs(t)) return 0;
  int64_t end = t.end_sealed < t.end_page ? t.end_sealed : t.end_page;
  const int64_t seen = (t.position + 1) / kBlock, span = (page / kSpanPages + 1) * kSpanPages;
  end = seen < end ? seen : end;
  end = span < end ? span : end;
  if (end - page < kLeastRun) return 0;
  return end - page < kRunPages ? end - page : kRunPages;
}

/// The sides of a run's pages; the last page stands in for those that are missing.
struct RunSides {
  const std::byte *keys[kRunPages], *values[kRunPages];
};

/// Times to ask before kGroups rows of keys, a vector of queries' weights and a page's values.
constexpr int kAheadOfKeys = int(kGroups), kAheadOfWeights = 15, kAheadOfValues = 8;
/// The parameters of all pages' keys and values.
inline void run_parameters(const FewScratch& f, const RunSides& sides, const KvSide& format,
                           const float* row_scale) {
  const auto put = [](float* out, int64_t r, V(&block)[kRunPages]) __attribute__((always_inline)) {
    transpose_groups(block);
    for (int64_t i = 0; i < kRunPages; ++i)
      store_groups(out + (r + i) * kRunPages, kRunPages * kRunPages, block[i]);
  };
  const int64_t wide = f.values.wide;
  for (int64_t r = 0; r < kBlock; r += kLanes) {
    V x[kRunPages], y[kRunPages];
    for (int64_t i = 0; i < kRunPages; ++i) {
      const KeyParameters p = key_parameters(sides.keys[i], format, row_scale, wide, r);
      x[i] = p.factor, y[i] = p.offset;
    }
    put(f.keys.factor, r, x);
    put(f.keys.offset, r, y);
    for (int64_t i = 0; i < kRunPages; ++i) {
      const ValueParameters p = value_parameters(sides.values[i], format, row_scale, wide, r);
      x[i] = p.factor, y[i] = p.zero;
    }
    put(f.values.factor, r, x);
    put(f.values.zero, r, y);
  }
}

// ---- keys -------------------------------------------------------------------------------------------------

/// low, high [half] = the nibbles of a row of 2 half bytes, each packed like a row of nibbles.
inline void pack_wide_row(uint8_t* low, uint8_t* high, const uint8_t* codes, int64_t half) {
  int64_t i = 0;
  const auto pack = [&]<class Several>() __attribute__((always_inline)) {
    for (; i + int64_t(sizeof(Several)) <= half; i += sizeof(Several)) {
      Several a, b;
      __builtin_memcpy(&a, codes + i, sizeof(a));
      __builtin_memcpy(&b, codes + half + i, sizeof(b));
      const Several x = (a & 15) | (b << 4), y = (a >> 4) | (b & 240);
      __builtin_memcpy(low + i, &x, sizeof(x));
      __builtin_memcpy(high + i, &y, sizeof(y));
    }
  };
  using Bytes32 = uint8_t __attribute__((vector_size(32)));
  pack.template operator()<Bytes32>();
  pack.template operator()<Bytes>();
  for (; i < half; ++i) {
    low[i] = uint8_t((codes[i] & 15) | codes[half + i] << 4);
    high[i] = uint8_t(codes[i] >> 4 | (codes[half + i] & 240));
  }
}

/// sums [kGroups, lanes] of R queries from `query` on: their code products with kGroups rows of packed
/// nibbles of each page, the first of them at rows[page] + at.
template <int R>
inline __attribute__((always_inline)) void row_sums(const FewScratch& f, float* sums,
                                                    const uint8_t* const (&rows)[kRunPages], int64_t at,
                                                    const QueryPart& part, int64_t query, int64_t half) {
  constexpr int kWords = kGroupLanes;  // of four bytes; 2 * 15 * 127 each stay within 16 bits
  const int64_t words = half / 4;
  I acc[2][R];  // of low and high nibbles: sums that wait for each other would be too few
  for (int q = 0; q < R; ++q) {
    acc[0][q] = int_set(-kNibbleMiddle * int32_t(part.sum[query + q]));
    acc[1][q] = int_zero();
  }
  for (int64_t word = 0; word < words; word += kWords) {
    const int64_t live = words - word < kWords ? words - word : int64_t(kWords);
    V block[kRunPages];  // pages, and after the transpose words
    for (int i = 0; i < kRunPages; ++i) block[i] = load_groups(rows[i] + at + 4 * word, half, live);
    transpose_groups(block);
    const uint8_t *low = part.codes + (word * kLanes + query) * 4, *high = low + words * kLanes * 4;
    const auto add_words = [&](bool whole) __attribute__((always_inline)) {
      I sums[2][R];
      for (int q = 0; q < R; ++q)
        for (int i = 0; i < 2; ++i) sums[i][q] = kPairSums ? int_zero() : acc[i][q];
#pragma GCC unroll 8
      for (int j = 0; j < kWords; ++j) {
        if (!whole && j >= live) break;
        I x;
        __builtin_memcpy(&x, &block[j], sizeof(I));
        const I x_low = low_nibbles(x), x_high = kPairSums ? high_nibbles(x) : x ^ x_low;
        for (int q = 0; q < R; ++q)
          sums[0][q] = add_dots(sums[0][q], x_low, broadcast_four(low + (j * kLanes + q) * 4));
        for (int q = 0; q < R; ++q)
          sums[1][q] = add_dots(sums[1][q], x_high, broadcast_four(high + (j * kLanes + q) * 4));
      }
      for (int q = 0; q < R; ++q)
        for (int i = 0; i < 2; ++i) acc[i][q] = fold_dots(acc[i][q], sums[i][q]);
    };
    if (live == kWords) add_words(true);
    else add_words(false);
  }
  for (int q = 0; q < R; ++q)
    store_groups(sums + (query + q) * kGroupLanes, f.lanes,
                 fma(to_float(acc[1][q]), set1(kHighUnit), to_float(acc[0][q])));
}

/// Calls body.template operator()<R>(query) for all queries, R at a time.
template <class Body>
inline void for_query_tiles(int64_t queries, const Body& body) {
  int64_t query = 0;
  for (; queries - query > 4 || queries - query == 3; query += 3) body.template operator()<3>(query);
  if (queries - query == 4) return body.template operator()<4>(query);
  if (queries - query == 2) return body.template operator()<2>(query);
  if (queries - query == 1) return body.template operator()<1>(query);
}

/// Calls body(half), for rows of 32 bytes a constant: they are loaded two at a time then.
template <class Body>
inline __attribute__((always_inline)) void for_half(int64_t half, const Body& body) {
  struct Rows32 {
    constexpr operator int64_t() const { return 32; }
  };
  if (half == Rows32{}) body(Rows32{});
  else body(half);
}

inline void key_sums(const CodedTile& t, const CodedScratch& s, const FewScratch& f, const RunSides& sides,
                     PagesAhead& ahead) {
  const KvSide& format = t.sealed_side;
  const int64_t half = t.head_dim / 2, wide = f.keys.wide, narrow = kBlock - wide;
  const QueryPart part = s.query(0);
  const uint8_t *wide_rows[kRunPages], *narrow_rows[kRunPages];
  for (int64_t i = 0; i < kRunPages; ++i) {
    uint8_t* packed = f.wide_rows + 2 * i * wide * half;
    wide_rows[i] = packed, narrow_rows[i] = row_codes(sides.keys[i], format, wide);
    for (int64_t r = 0; r < wide; ++r, packed += 2 * half)
      pack_wide_row(packed, packed + half, row_codes(sides.keys[i], format, r), half);
  }
  if (const int64_t used = t.tokens * t.group * kRunPages; used < f.lanes)  // the last group has no query
    for (int64_t r = 0; r < kBlock + wide; ++r)
      __builtin_memset(f.sums + r * f.lanes + used, 0, kRunPages * sizeof(float));
  for_query_tiles(t.tokens * t.group, [&]<int R>(int64_t query) {
    for_half(
        half, [&](auto known) __attribute__((always_inline)) {
          for (int64_t r = 0; r < 2 * wide + narrow; r += kGroups) {
            ahead.ask(kAheadOfKeys);
            const bool packed = r < 2 * wide;
            int64_t row = packed ? r : r - 2 * wide;
            if (!packed && row > narrow - kGroups) row = narrow - kGroups;  // the last ones once more
            row_sums<R>(f, f.sums + (packed ? row : 2 * wide + row) * f.lanes,
                        packed ? wide_rows : narrow_rows, row * half, part, query, known);
          }
        });
  });
}

// ---- scores to weights ------------------------------------------------------------------------------------

/// A vector of queries, from `first` on, at all pages of the run. The softmax goes from page to page.
inline void weigh_pages(const CodedTile& t, const CodedScratch& s, const FewScratch& f,
                        const PartState& state, int64_t first, int64_t pages) {
  const QueryPart part = s.query(0);
  const int64_t begin = first * kRunPages;
  const int64_t queries = t.tokens * t.group - first < kGroups ? t.tokens * t.group - first : kGroups;
  float sums[kLanes], steps[kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    const int64_t group = lane / kRunPages, query = first + (group < queries ? group : 0);
    sums[lane] = part.sum[query], steps[lane] = part.step[query];
  }
  const V q_step = load(steps), unmasked = set1(0.0f);
  V scores[kB];
  const V page_top = page_scores<false, true>(scores, f.keys, f.sums + begin, f.lanes, load(sums), unmasked,
                                              t.transform, t.levels, kBlock);
  float before[kLanes], top[kLanes];
  store(top, mul(page_top, q_step));
  for (int64_t group = 0; group < kGroups; ++group) {
    float peak = group < queries ? state.peak[first + group] : 0.0f;
    for (int64_t page = 0; page < kRunPages; ++page) {
      const int64_t lane = group * kRunPages + page;
      before[lane] = peak;
      if (page < pages && !(peak > top[lane])) peak = top[lane];
      top[lane] = peak;
    }
    if (group < queries) state.peak[first + group] = peak;
  }
  const PageWeights out = f.weights.from(begin);
  store(out.shift, exp2(sub(load(before), load(top))));
  float totals[kLanes];
  store(totals, page_weights<false, true>(out, f.lanes, f.values, scores, q_step, load(top), unmasked,
                                          t.transform, t.levels, kBlock));
  for (int64_t group = 0; group < queries; ++group) {
    V total = set1(state.total[first + group]);
    for (int64_t page = 0; page < pages; ++page)
      total = fma(total, set1(out.shift[group * kRunPages + page]), set1(totals[group * kRunPages + page]));
    float lanes[kLanes];
    store(lanes, total);
    state.total[first + group] = lanes[0];
  }
}

// ---- values -----------------------------------------------------------------------------------------------

/// What page `lane` of the run does to the outputs of R queries in the channels of 2 kLanes bytes of rows,
/// from byte `at` on; those of the vectors before `first` are left alone.
template <int R>
inline __attribute__((always_inline)) void value_tile(const FewScratch& f, const std::byte* side,
                                                      const KvSide& format, int64_t query, int64_t lane,
                                                      int64_t at, int first, int64_t half) {
  const int64_t d = 2 * half, wide = f.values.wide, narrow = f.values.narrow;
  const PageWeights w = f.weights.from(query * kRunPages + lane);
  constexpr int64_t kNext = 4 * kRunPages;  // bytes to the next query's weights
  I acc[2][2][R];                           // of low nibbles, and of high ones or whole bytes
  for (int q = 0; q < R; ++q)
    acc[0][0][q] = acc[0][1][q] = acc[1][0][q] = acc[1][1][q] = broadcast_four(w.start + q * kNext);
  // Where the first of four rows are wide, their weights here are zero: the bytes before the narrow rows do.
  const uint8_t* rows = row_codes(side, format, wide) - (wide - narrow) * half + at;
  const uint8_t* weight = w.weights + narrow * f.lanes;
  for (int64_t r = narrow; r < kBlock; r += 4, rows += 4 * half, weight += 4 * f.lanes) {
    I x[2], factor[R];
    interleave_rows(x, rows, half);
    for (int q = 0; q < R; ++q) factor[q] = broadcast_four(weight + q * kNext);
    for (int j = 0; j < 2; ++j) {
      const I low = low_nibbles(x[j]), high = kPairSums ? high_nibbles(x[j]) : x[j];
      for (int q = 0; q < R; ++q) {
        acc[0][j][q] = add_dots(acc[0][j][q], low, factor[q]);
        acc[1][j][q] = add_dots(acc[1][j][q], high, factor[q]);
      }
    }
  }
  float* const out = f.out + query * d + at;
  const uint8_t* wide_codes = row_codes(side, format, 0) + at;
  const float* wide_weights = w.wide_weights;
  V y[2][2][R];
  for (int q = 0; q < R; ++q) {
    const V step = set1(w.step[q * kRunPages]), shift = set1(w.shift[q * kRunPages]),
            common = set1(w.common[q * kRunPages]);
    const V high_step = mul(step, set1(kHighUnit));
    for (int j = 0; j < 2; ++j) {
      const V low = to_float(fold_dots(int_zero(), acc[0][j][q]));
      const V sum = to_float(fold_dots(int_zero(), acc[1][j][q])), high = kPairSums ? sum : sub(sum, low);
      float* const y_at = out + q * d + j * kLanes;
      y[0][j][q] = fma(low, step, fma(load(y_at), shift, common));
      y[1][j][q] = fma(high, high_step, fma(load(y_at + half), shift, common));
    }
  }
  for (int64_t i = 0; i < wide; ++i, wide_codes += d, wide_weights += f.lanes) {
    V factor[R];
    for (int q = 0; q < R; ++q) factor[q] = set1(wide_weights[q * kRunPages]);
    for (int part = 0; part < 2; ++part)
      for (int j = 0; j < 2; ++j) {
        const V x = load_u8(wide_codes + part * half + j * kLanes);
        for (int q = 0; q < R; ++q) y[part][j][q] = fma(x, factor[q], y[part][j][q]);
      }
  }
  for (int q = 0; q < R; ++q)
    for (int part = 0; part < 2; ++part)
      for (int j = 0; j < 2; ++j)
        if (j >= first) store(out + q * d + part * half + j * kLanes, y[part][j][q]);
}

inline void add_values(const CodedTile& t, const FewScratch& f, const std::byte* side, int64_t lane) {
  for_query_tiles(t.tokens * t.group, [&]<int R>(int64_t query) {
    for_half(
        t.head_dim / 2, [&](auto half) __attribute__((always_inline)) {
          const auto tile = [&](int64_t at, int first) __attribute__((always_inline)) {
            value_tile<R>(f, side, t.sealed_side, query, lane, at, first, half);
          };
          int64_t at = 0;
          for (; at + 2 * kLanes <= half; at += 2 * kLanes) tile(at, 0);
          if (at < half) tile(half - 2 * kLanes, 1);
        });
  });
}

/// The state of is_few's queries after the `pages` from `page` on, a run.
inline void attend_run(const CodedTile& t, const CodedScratch& s, const PartState& state,
                       const float* row_scale, int64_t page, int64_t pages) {
  const FewScratch f = few_scratch(t, s, state.out);
  const int64_t queries = t.tokens * t.group;
  RunSides sides;
  for (int64_t i = 0; i < kRunPages; ++i) {
    const HeadPage here = head_page(t, page + (i < pages ? i : pages - 1));
    sides.keys[i] = here.keys, sides.values[i] = here.values;
  }
  run_parameters(f, sides, t.sealed_side, row_scale);
  PagesAhead ahead = pages_ahead(t, page + pages);
  key_sums(t, s, f, sides, ahead);
  for (int64_t query = 0; query < queries; query += kGroups) {
    ahead.ask(kAheadOfWeights);
    weigh_pages(t, s, f, state, query, pages);
  }
  for (int64_t i = 0; i < pages; ++i) {
    ahead.ask(kAheadOfValues);
    add_values(t, f, sides.values[i], i);
  }
}

// Attention of few queries, as in decode, over a run of sealed pages that all of them see whole. A vector of
// queries would be mostly spare lanes, so the lanes are a page's rows where keys are multiplied, the run's
// pages from scores to weights, and channels where values are multiplied. Sums of codes are exact, and all
// else is done for each query in the order of attend_page.inl: its bits do not depend on which of the two
// forms it meets.

/// Pages of a run, which lies within a span.
constexpr int64_t kRunPages = kLanes < kSpanPages ? kLanes : kSpanPages;

struct FewScratch {
  uint8_t* wide_rows;  // [2 wide, head_dim / 2]: the wide keys' low and high nibbles, packed like narrow rows
  float* parameters;   // [4, kRunPages, kBlock], and as lanes those of keys and values
  PageKeys keys;
  PageValues values;
  float *sums, *raw;    // of code products: [queries, kRunPages, ld], [ld, kLanes]
  PageWeights weights;  // [.., kLanes], a query's after the other's
  float* out;           // [queries, head_dim], the state's
  int64_t ld;           // rows of keys, rounded up

  PageWeights weights_of(int64_t query) const {
    return {.weights = weights.weights + query * kBlock * kLanes,
            .start = weights.start + query * 4 * kLanes,
            .wide_weights = weights.wide_weights + query * values.wide * kLanes,
            .shift = weights.shift + query * kLanes,
            .common = weights.common + query * kLanes,
            .step = weights.step + query * kLanes};
  }
};

inline FewScratch few_scratch(const CodedTile& t, const CodedScratch& s, float* out) {
  const int64_t queries = t.tokens * t.group, wide = t.sealed_side.wide_rows();
  float* p = s.few;
  const auto floats = [&p](int64_t n) { return (p += n) - n; };
  const auto bytes = [&](int64_t n) { return reinterpret_cast<uint8_t*>(floats(n / 4)); };
  FewScratch f;
  f.out = out;
  f.ld = round_up(kBlock + wide, kLanes);
  f.wide_rows = bytes(wide * t.head_dim);
  f.parameters = floats(4 * kRunPages * kBlock);
  f.keys = {.codes = nullptr,
            .factor = floats(kBlock * kLanes),
            .offset = floats(kBlock * kLanes),
            .ld = 0,
            .wide = wide};
  f.values = s.values;  // its codes are unpacked page by page
  f.values.factor = floats(kBlock * kLanes), f.values.zero = floats(kBlock * kLanes);
  f.values.wide = wide, f.values.narrow = wide / 4 * 4;
  f.sums = floats(queries * kRunPages * f.ld);
  f.raw = floats(f.ld * kLanes);
  f.weights = {.weights = bytes(queries * kBlock * kLanes),
               .start = bytes(queries * 4 * kLanes),
               .wide_weights = floats(queries * wide * kLanes),
               .shift = floats(queries * kLanes),
               .common = floats(queries * kLanes),
               .step = floats(queries * kLanes)};
  return f;
}

/// Pages from `page` on that make up a run.
inline int64_t run_pages(const CodedTile& t, int64_t page) {
  if (page < t.first_sealed || t.sealed_side.wide_rows() == kBlock) return 0;
  int64_t end = t.end_sealed < t.end_page ? t.end_sealed : t.end_page;
  const int64_t seen = (t.position + 1) / kBlock, span = (page / kSpanPages + 1) * kSpanPages;
  end = seen < end ? seen : end;
  end = span < end ? span : end;
  return end - page < kRunPages ? end - page : kRunPages;
}

/// out [rows, kLanes] = in [pages, ld]; the last page stands in for those that are missing.
inline void pages_to_lanes(float* out, const float* in, int64_t ld, int64_t rows, int64_t pages) {
  for (int64_t r = 0; r < rows; r += kLanes) {
    V block[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) block[i] = load(in + (i < pages ? i : pages - 1) * ld + r);
    transpose(block);
    for (int64_t i = 0; i < kLanes; ++i) store(out + (r + i) * kLanes, block[i]);
  }
}

// ---- keys -------------------------------------------------------------------------------------------------

/// low, high [head_dim / 2] = the nibbles of a row of bytes, each packed like a row of nibbles.
inline void pack_wide_row(uint8_t* low, uint8_t* high, const uint8_t* codes, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  int64_t i = 0;
  for (; i + 16 <= half; i += 16) {
    const Bytes a = load_16(codes + i), b = load_16(codes + half + i);
    store_16(low + i, (a & 15) | (b << 4));
    store_16(high + i, (a >> 4) | (b & 240));
  }
  for (; i < half; ++i) {
    low[i] = uint8_t((codes[i] & 15) | codes[half + i] << 4);
    high[i] = uint8_t(codes[i] >> 4 | (codes[half + i] & 240));
  }
}

/// sums [R, ld] = R queries' code products with kLanes rows of packed nibbles.
template <int R>
inline void row_sums(float* sums, int64_t ld, const uint8_t* const (&rows)[kLanes], const QueryPart& part,
                     int64_t query, int64_t head_dim) {
  constexpr int kSteps = kLanes < 8 ? kLanes : 8;  // 2 * 15 * 127 each stay within 16 bits
  const int64_t words = head_dim / 8;              // of four bytes
  I acc[R];
  for (int q = 0; q < R; ++q) acc[q] = int_set(-kNibbleMiddle * int32_t(part.sum[query + q]));
  for (int64_t word = 0; word < words; word += kLanes) {
    const int64_t live = words - word < kLanes ? words - word : int64_t(kLanes);
    V block[kLanes];  // rows, and after the transpose words
    for (int i = 0; i < kLanes; ++i)
      block[i] = load_some(reinterpret_cast<const float*>(rows[i] + 4 * word), live);
    transpose(block);
    const auto add_half = [&](const uint8_t* quad, bool whole, auto nibbles) __attribute__((always_inline)) {
#pragma GCC unroll 2
      for (int begin = 0; begin < kLanes; begin += kSteps) {
        I pairs[R];
        for (int q = 0; q < R; ++q) pairs[q] = kPairSums ? int_zero() : acc[q];
#pragma GCC unroll 8
        for (int j = begin; j < begin + kSteps; ++j) {
          if (!whole && j >= live) break;
          I word_of_rows;
          __builtin_memcpy(&word_of_rows, &block[j], sizeof(I));
          const I x = nibbles(word_of_rows);
          for (int q = 0; q < R; ++q)
            pairs[q] = add_dots(pairs[q], x, broadcast_four(quad + (j * kLanes + q) * 4));
        }
        for (int q = 0; q < R; ++q) acc[q] = fold_dots(acc[q], pairs[q]);
      }
    };
    const uint8_t *low = part.codes + (word * kLanes + query) * 4, *high = low + words * kLanes * 4;
    const auto add_both = [&](bool whole) __attribute__((always_inline)) {
      add_half(
          low, whole, [](I x) __attribute__((always_inline)) { return low_nibbles(x); });
      add_half(
          high, whole, [](I x) __attribute__((always_inline)) { return high_nibbles(x); });
    };
    if (live == kLanes) add_both(true);
    else add_both(false);
  }
  for (int q = 0; q < R; ++q) store(sums + q * ld, to_float(acc[q]));
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

/// The sums of page `lane` of the run. Little by little, its lines ask for those of the next page: all at
/// once would take as long as waiting for them.
inline void key_sums(const CodedTile& t, const CodedScratch& s, const FewScratch& f, const std::byte* side,
                     int64_t lane, const HeadPage& next) {
  const KvSide& format = t.sealed_side;
  const int64_t half = t.head_dim / 2, wide = f.keys.wide, count = kBlock + wide;
  for (int64_t r = 0; r < wide; ++r)
    pack_wide_row(f.wide_rows + 2 * r * half, f.wide_rows + (2 * r + 1) * half, row_codes(side, format, r),
                  t.head_dim);
  const uint8_t* narrow = row_codes(side, format, wide);
  const int64_t ahead = round_up(divide_up(format.bytes(), divide_up(count, kLanes)), 64);
  const QueryPart part = s.query(0);
  for (int64_t first = 0; first < count; first += kLanes) {
    for (int64_t i = 0; i < ahead; i += 64) {
      prefetch(next.keys + first / kLanes * ahead + i);
      prefetch(next.values + first / kLanes * ahead + i);
    }
    const uint8_t* rows[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      const int64_t row = first + i < count ? first + i : count - 1;
      rows[i] = row < 2 * wide ? f.wide_rows + row * half : narrow + (row - 2 * wide) * half;
    }
    for_query_tiles(t.tokens * t.group, [&]<int R>(int64_t query) {
      row_sums<R>(f.sums + (query * kRunPages + lane) * f.ld + first, kRunPages * f.ld, rows, part, query,
                  t.head_dim);
    });
  }
}

// ---- scores to weights ------------------------------------------------------------------------------------

/// One query at all pages of the run. The softmax goes from page to page.
inline void weigh_pages(const CodedTile& t, const CodedScratch& s, const FewScratch& f,
                        const PartState& state, int64_t query, int64_t pages) {
  const QueryPart part = s.query(0);
  const V q_step = set1(part.step[query]), unmasked = set1(0.0f);
  pages_to_lanes(f.raw, f.sums + query * kRunPages * f.ld, f.ld, f.ld, pages);
  V scores[kB];
  const V page_top = page_scores<false, true>(scores, f.keys, f.raw, kLanes, set1(part.sum[query]), unmasked,
                                              t.transform, t.levels, kBlock);
  float before[kLanes], top[kLanes];
  store(top, mul(page_top, q_step));
  float peak = state.peak[query];
  for (int64_t page = 0; page < kLanes; ++page) {
    before[page] = peak;
    if (page < pages && !(peak > top[page])) peak = top[page];
    top[page] = peak;
  }
  state.peak[query] = peak;
  const PageWeights out = f.weights_of(query);
  const V shift = exp2(sub(load(before), load(top)));
  store(out.shift, shift);
  const V totals = page_weights<false, true>(out, kLanes, f.values, scores, q_step, load(top), unmasked,
                                             t.transform, t.levels, kBlock);
  float page_total[kLanes];
  store(page_total, totals);
  V total = set1(state.total[query]);
  for (int64_t page = 0; page < pages; ++page)
    total = fma(total, set1(out.shift[page]), set1(page_total[page]));
  store(page_total, total);
  state.total[query] = page_total[0];
}

// ---- values -----------------------------------------------------------------------------------------------

/// out [R, N vectors of channels] of R queries, channels from c on: what page `lane` of the run does to them.
template <int R, int N>
inline void channel_tile(const FewScratch& f, int64_t query, int64_t lane, int64_t head_dim, int64_t c) {
  const int64_t narrow = f.values.narrow, wide = f.values.wide;
  const uint8_t* codes = f.values.codes + narrow * head_dim + c * 4;
  PageWeights w[R];
  I acc[R][N];
  for (int q = 0; q < R; ++q) {
    w[q] = f.weights_of(query + q);
    for (int v = 0; v < N; ++v) acc[q][v] = broadcast_four(w[q].start + 4 * lane);
  }
  const uint8_t* weight = w[0].weights + narrow * kLanes + 4 * lane;
  for (int64_t r = narrow; r < kBlock; r += 4, codes += 4 * head_dim, weight += 4 * kLanes) {
    I four[R];
    for (int q = 0; q < R; ++q) four[q] = broadcast_four(weight + q * kBlock * kLanes);
    for (int v = 0; v < N; ++v) {
      const I x = load_bytes(codes + v * kLanes * 4);
      for (int q = 0; q < R; ++q) acc[q][v] = add_dots(acc[q][v], x, four[q]);
    }
  }
  float* out = f.out + query * head_dim + c;
  V y[R][N];
  for (int q = 0; q < R; ++q) {
    const V shift = set1(w[q].shift[lane]), common = set1(w[q].common[lane]), step = set1(w[q].step[lane]);
    for (int v = 0; v < N; ++v)
      y[q][v] = fma(to_float(fold_dots(int_zero(), acc[q][v])), step,
                    fma(load(out + q * head_dim + v * kLanes), shift, common));
  }
  const float *wide_codes = f.values.wide_codes + c, *wide_weights = w[0].wide_weights + lane;
  for (int64_t i = 0; i < wide; ++i, wide_codes += head_dim, wide_weights += kLanes)
    for (int q = 0; q < R; ++q) {
      const V factor = set1(wide_weights[q * wide * kLanes]);
      for (int v = 0; v < N; ++v) y[q][v] = fma(load(wide_codes + v * kLanes), factor, y[q][v]);
    }
  for (int q = 0; q < R; ++q)
    for (int v = 0; v < N; ++v) store(out + q * head_dim + v * kLanes, y[q][v]);
}

inline void add_values(const CodedTile& t, const FewScratch& f, int64_t lane) {
  const int64_t d = t.head_dim;
  for_query_tiles(t.tokens * t.group, [&]<int R>(int64_t query) {
    constexpr int N = R > 2 ? 2 : 4;
    int64_t c = 0;
    for (; c + N * kLanes <= d; c += N * kLanes) channel_tile<R, N>(f, query, lane, d, c);
    for (; c < d; c += kLanes) channel_tile<R, 1>(f, query, lane, d, c);
  });
}

/// The state of is_few's queries after the `pages` from `page` on, a run.
inline void attend_run(const CodedTile& t, const CodedScratch& s, const PartState& state,
                       const float* row_scale, int64_t page, int64_t pages) {
  const FewScratch f = few_scratch(t, s, state.out);
  const int64_t queries = t.tokens * t.group, wide = f.values.wide;
  const KvSide& format = t.sealed_side;
  const auto parameters = [&](int which) { return f.parameters + which * kRunPages * kBlock; };
  for (int64_t i = 0; i < pages; ++i) {
    const HeadPage here = head_page(t, page + i);
    const HeadPage next = head_page(t, page + i + 1 < t.end_page ? page + i + 1 : page + i);
    const int64_t at = i * kBlock;
    key_parameters(parameters(0) + at, parameters(1) + at, here.keys, format, row_scale, wide, kBlock);
    value_parameters(parameters(2) + at, parameters(3) + at, here.values, format, row_scale, wide, kBlock);
    key_sums(t, s, f, here.keys, i, next);
  }
  float* const by_lanes[4] = {f.keys.factor, f.keys.offset, f.values.factor, f.values.zero};
  for (int i = 0; i < 4; ++i) pages_to_lanes(by_lanes[i], parameters(i), kBlock, kBlock, pages);
  for (int64_t query = 0; query < queries; ++query) weigh_pages(t, s, f, state, query, pages);
  PageValues values = f.values;
  for (int64_t i = 0; i < pages; ++i) {
    unpack_value_codes(values, head_page(t, page + i).values, format, kBlock);
    add_values(t, f, i);
  }
}

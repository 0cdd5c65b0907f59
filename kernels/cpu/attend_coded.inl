// Attention over coefficient pages: a tile of queries, page after page.

/// A query's codes + 128. Returns its step.
inline float round_query(uint8_t* codes, const float* q, int64_t d, float scale) {
  V most = set1(0.0f);
  for_lanes(d, [&](int64_t i, int64_t live) { most = max_magnitude(most, load_some(q + i, live)); });
  const float peak = reduce_max(most);
  const V inverse = set1(peak > kLeastPeak ? 127.0f / peak : 0.0f);
  for_lanes(d, [&](int64_t i, int64_t live) {
    store_u8(codes + i, add(round_nearest(mul(load_some(q + i, live), inverse)), set1(128.0f)));
  });
  return peak * (1.0f / 127) * (scale * 1.44269504f);  // exp(x) = 2^(x / ln 2)
}

/// Queries as few queries' open pages want them, from the rows of codes + 128; their sums.
inline void load_few(const CodedScratch& s, const QueryPart& part, const uint8_t* rows) {
  const int64_t line = round_up(s.queries, kFourQueries) * 16;
  __builtin_memset(s.few_codes, 0, size_t(s.head_dim / 16 * line));
  for (int64_t query = 0; query < s.queries; ++query, rows += s.keys.ld) {
    V sum = set1(0.0f);
    for (int64_t i = 0; i < s.head_dim; i += kLanes) sum = add(sum, sub(load_u8(rows + i), set1(128.0f)));
    part.sum[query] = reduce_add(sum);
    for (int64_t c = 0; c < s.head_dim; c += 16)
      store_16(s.few_codes + c / 16 * line + query * 16, load_16(rows + c) ^ 128);
  }
}

/// Rounds a vector of queries to 8 bits, from the part's `lane` and from `first` on, for few queries' open
/// pages and (in_lanes) all other forms. Spare lanes have a query of zeros.
inline void load_queries(const CodedTile& t, const CodedScratch& s, const QueryPart& part, int64_t lane,
                         int64_t first, bool few, bool in_lanes) {
  const int64_t d = t.head_dim, ld = s.keys.ld, quads = s.quads();
  uint8_t* const rows = s.keys.codes;  // [kLanes, ld]: there are no keys yet
  for (int64_t i = 0; i < kLanes; ++i) {
    const int64_t query = first + i;
    const float* q = t.q + query / t.group * t.q_stride + query % t.group * d;
    if (query < s.queries) {
      part.step[lane + i] = round_query(rows + i * ld, q, d, t.scale);
    } else {
      part.step[lane + i] = 0.0f;
      __builtin_memset(rows + i * ld, 128, size_t(ld));
    }
  }
  if (few) load_few(s, part, rows);
  if (!in_lanes) return;
  const I ones = int_set(0x01010101);
  I start = int_zero(), sums = int_zero(), total = int_zero();
  for (int64_t quad = 0; quad < quads; quad += kLanes) {
    const int64_t live = quads - quad < kLanes ? quads - quad : int64_t(kLanes);
    V block[kLanes];  // rows, and after the transpose quads
    for (int i = 0; i < kLanes; ++i)
      block[i] = load_some(reinterpret_cast<const float*>(rows + i * ld + quad * 4), live);
    transpose(block);
    for (int64_t i = quad; i < quad + live; ++i) {
      I codes;
      __builtin_memcpy(&codes, &block[i - quad], sizeof(I));
      codes = sub_bytes(codes, 128);
      store_bytes(part.codes + (i * part.lanes + lane) * 4, codes);
      start = subtract_middle(start, codes);
      sums = add_dots(sums, ones, codes);
      if ((i + 1) % kSpanSteps == 0 || i + 1 == quads) {
        store_bytes(part.start + (i / kSpanSteps * part.lanes + lane) * 4, start);
        total = fold_dots(total, sums);
        start = int_zero();
        if (kPairSums) sums = int_zero();
      }
    }
  }
  store(part.sum + lane, to_float(total));
}

inline void clear_states(const CodedTile& t, const CodedScratch& s, float* states) {
  for (int64_t part = 0; part < s.parts(); ++part) {
    const PartState state = s.state(states, part);
    const int64_t outputs = s.head_dim * (is_few(t) ? s.queries : state.lanes);
    for (int64_t i = 0; i < outputs; ++i) state.out[i] = 0.0f;
    for (int64_t i = 0; i < state.lanes; ++i) state.peak[i] = -__builtin_inff(), state.total[i] = 0.0f;
  }
}

/// a = a and b together
inline void merge_states(const CodedTile& t, const PartState& a, const PartState& b) {
  const int64_t d = t.head_dim;
  for (int64_t lane = 0; lane < a.lanes; lane += kLanes) {
    const V left = load(a.peak + lane), right = load(b.peak + lane), top = max(left, right);
    const V x = exp2(sub(left, top)), y = exp2(sub(right, top));
    store(a.peak + lane, top);
    store(a.total + lane, fma(load(b.total + lane), y, mul(load(a.total + lane), x)));
    const auto merge = [&](int64_t i, V old_factor, V new_factor) {
      store(a.out + i, fma(load(b.out + i), new_factor, mul(load(a.out + i), old_factor)));
    };
    if (is_few(t)) {
      float old_factor[kLanes], new_factor[kLanes];
      store(old_factor, x), store(new_factor, y);
      for (int64_t query = 0; query < t.tokens * t.group; ++query)
        for (int64_t c = 0; c < d; c += kLanes)
          merge(query * d + c, set1(old_factor[query]), set1(new_factor[query]));
    } else {
      for (int64_t c = 0; c < d; ++c) merge(c * a.lanes + lane, x, y);
    }
  }
}

/// All queries at one page, on tiles or (null) in lanes.
inline void attend_page(Tiles* tiles, const CodedTile& t, CodedScratch& s, float* states,
                        const float* row_scale, int64_t page) {
  const HeadPage here = head_page(t, page);
  const int64_t rows = here.rows;
  unpack_keys(s.keys, here.keys, *here.side, row_scale, rows);
  unpack_values(s.values, here.values, *here.side, row_scale, rows);
  if (page + 1 < t.end_page) prefetch_page(head_page(t, page + 1));
  const SeqTransform kind = here.sealed ? t.transform : SeqTransform::kIdentity;
  const bool masked = t.position + 1 - page * kBlock < rows;
  for (int64_t part = 0; part < s.parts(); ++part) {
    float visible[kPartLanes];
    for (int64_t lane = 0; masked && lane < s.lanes(part); ++lane) {
      const int64_t query = part * kPartLanes + lane, last = s.queries - 1;
      visible[lane] = float(t.position + (query < last ? query : last) / t.group + 1 - page * kBlock);
    }
    const float* mask = masked ? visible : nullptr;
    if (s.lanes(part) == kLanes) page_of_part<1>(tiles, t, s, part, states, mask, kind, rows);
    else page_of_part<kPartVecs>(tiles, t, s, part, states, mask, kind, rows);
  }
}

/// out [queries, head_dim] = a state's outputs [head_dim, kLanes], or (kBack) the other way round.
template <bool kBack>
inline void exchange_outputs(float* out, float* state, int64_t queries, int64_t head_dim) {
  for (int64_t c = 0; c < head_dim; c += kLanes) {
    V block[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      if (kBack) block[i] = i < queries ? load(out + i * head_dim + c) : set1(0.0f);
      else block[i] = load(state + (c + i) * kLanes);
    }
    transpose(block);
    for (int64_t i = 0; i < kLanes; ++i) {
      if (kBack) store(state + (c + i) * kLanes, block[i]);
      else if (i < queries) store(out + i * head_dim + c, block[i]);
    }
  }
}

/// Few queries at a page for which there is no form of their own.
inline void attend_page_few(const CodedTile& t, CodedScratch& s, const PartState& few, const float* row_scale,
                            int64_t page) {
  const int64_t queries = t.tokens * t.group;
  const PartState state = s.state(s.lanes_state, 0);
  const auto copy_lanes = [](const PartState& to, const PartState& from) {
    store(to.peak, load(from.peak));
    store(to.total, load(from.total));
  };
  exchange_outputs<true>(few.out, state.out, queries, t.head_dim);
  copy_lanes(state, few);
  attend_page(nullptr, t, s, s.lanes_state, row_scale, page);
  exchange_outputs<false>(few.out, state.out, queries, t.head_dim);
  copy_lanes(few, state);
}

void attend_coded(const CodedTile& t) {
  CodedScratch s = coded_scratch(t);
  bool any_sealed = false;
  for (int64_t page = t.first_page; page < t.end_page && !any_sealed; ++page) any_sealed = t.is_sealed(page);
  const bool few = is_few(t);
  for (int64_t part = 0; part < s.parts(); ++part)
    for (int64_t lane = 0; lane < s.lanes(part); lane += kLanes)
      load_queries(t, s, s.query(part), lane, part * kPartLanes + lane, few, !few || any_sealed);
  const float* const plain_scales = row_scales(SeqTransform::kIdentity, 0);
  const float* const sealed_scales = row_scales(t.transform, t.levels);
  const auto all_pages = [&](Tiles* tiles) {
    for (int64_t page = t.first_page, end; page < t.end_page; page = end) {
      const bool begins = page % kSpanPages == 0 || page == t.first_page;
      float* states = page < t.first_page + kSpanPages ? t.state : s.page_state;
      if (begins) clear_states(t, s, states);
      const int64_t run = few ? run_pages(t, page) : 0;
      end = page + (run > 0 ? run : 1);
      const bool sealed = t.is_sealed(page);
      const float* scales = sealed ? sealed_scales : plain_scales;
      if (run > 0) attend_run(t, s, s.state(states, 0), scales, page, run);
      else if (few && sealed) attend_page_few(t, s, s.state(states, 0), scales, page);
      else if (few) attend_open(t, s, s.state(states, 0), page);
      else attend_page(tiles, t, s, states, scales, page);
      const bool ends = end % kSpanPages == 0 || end == t.end_page;
      for (int64_t part = 0; ends && states != t.state && part < s.parts(); ++part)
        merge_states(t, s.state(t.state, part), s.state(states, part));
    }
  };
  if (!few && on_tiles(t.head_dim)) {
    Tiles tiles;
    tiles.shape({16, 16, 16, 16, 16, 16, 16, 16});
    all_pages(&tiles);
  } else {
    all_pages(nullptr);
  }
}

void finish_coded(const CodedTile& t, int64_t spans, int64_t stride) {
  const int64_t queries = t.tokens * t.group, d = t.head_dim;
  const CodedScratch s = coded_scratch(t);
  for (int64_t first = 0; first < queries; first += kPartLanes) {
    const PartState state = s.state(t.state, first / kPartLanes);
    for (int64_t span = 1; span < spans; ++span)
      merge_states(t, state, s.state(t.state + span * stride, first / kPartLanes));
    if (is_few(t)) {
      for (int64_t query = 0; query < queries; ++query) {
        float* out = t.out + query / t.group * t.out_stride + query % t.group * d;
        const V inverse = div(set1(1.0f), set1(state.total[query]));
        for (int64_t c = 0; c < d; c += kLanes) store(out + c, mul(load(state.out + query * d + c), inverse));
      }
      return;
    }
    for (int64_t lane = 0; lane < state.lanes && first + lane < queries; lane += kLanes) {
      const V inverse = div(set1(1.0f), load(state.total + lane));
      for (int64_t c = 0; c < d; c += kLanes) {
        V block[kLanes];
        for (int64_t i = 0; i < kLanes; ++i)
          block[i] = c + i < d ? mul(load(state.out + (c + i) * state.lanes + lane), inverse) : set1(0.0f);
        transpose(block);
        for (int64_t i = 0; i < kLanes && first + lane + i < queries; ++i) {
          const int64_t query = first + lane + i;
          float* out = t.out + query / t.group * t.out_stride + query % t.group * d + c;
          store_some(out, block[i], d - c < kLanes ? d - c : int64_t(kLanes));
        }
      }
    }
  }
}

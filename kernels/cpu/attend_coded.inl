// Attention over coefficient pages. Queries are the lanes: everything below is [.., lanes] with one query a
// lane, so the transforms of scores and probabilities along a page's 64 rows are vector operations, and no
// sum crosses lanes.

/// One side of a page as whole numbers: value [r, c] = scale[r] * q[r, c] + offset[r].
struct PageRows {
  float* q;               // [kBlock, head_dim]
  float *scale, *offset;  // [kBlock]
};

/// Queries that go through a page together, few enough that all they need stays in the first-level cache.
struct QueryPart {
  float *q, *out;             // [head_dim, lanes]
  float *peak, *sum, *q_sum;  // [lanes]
};
constexpr int64_t kPartLanes = kMulVecs * kLanes;

struct CodedScratch {
  float* scores;  // [kBlock, lanes]
  PageRows keys, values;
  float* parts;
  int64_t lanes, head_dim;

  QueryPart part(int64_t i) const {
    float *q = parts + i * (2 * head_dim + 3) * lanes, *out = q + head_dim * lanes,
          *peak = out + head_dim * lanes;
    return {.q = q, .out = out, .peak = peak, .sum = peak + lanes, .q_sum = peak + 2 * lanes};
  }
};

inline CodedScratch coded_scratch(float* p, int64_t lanes, int64_t d) {
  const auto page_rows = [&p, d] {
    const PageRows rows{.q = p, .scale = p + kBlock * d, .offset = p + kBlock * (d + 1)};
    p += kBlock * (d + 2);
    return rows;
  };
  CodedScratch s;
  s.keys = page_rows(), s.values = page_rows();
  s.scores = p, s.parts = p + kBlock * lanes;
  s.lanes = lanes, s.head_dim = d;
  return s;
}

/// scores [kBlock, lanes] = scale * (K~ q) + offset * sum(q), then L^-1 along the rows.
inline void page_scores(const CodedScratch& s, const QueryPart& part, SeqTransform kind, int levels,
                        int64_t rows) {
  const int64_t lanes = s.lanes, d = s.head_dim;
  multiply(s.scores, lanes, s.keys.q, d, 1, part.q, lanes, rows, lanes, d, false);
  for (int64_t lane = 0; lane < lanes; lane += kLanes) {
    V t[kB];
    const V q_sum = load(part.q_sum + lane);
    for (int64_t r = 0; r < rows; ++r)
      t[r] =
          fma(load(s.scores + r * lanes + lane), set1(s.keys.scale[r]), mul(set1(s.keys.offset[r]), q_sum));
    transform_inverse(t, kind, levels);
    for (int64_t r = 0; r < rows; ++r) store(s.scores + r * lanes + lane, t[r]);
  }
}

/// Online softmax: scores become probabilities relative to each lane's running maximum; row r is visible to a
/// lane if r < visible[lane]. The output and the sum are rescaled when the maximum moves.
inline void page_softmax(const CodedScratch& s, const QueryPart& part, const float* visible, int64_t rows) {
  const int64_t lanes = s.lanes, d = s.head_dim;
  const V lowest = set1(-__builtin_inff());
  for (int64_t lane = 0; lane < lanes; lane += kLanes) {
    const V seen = load(visible + lane);
    V top = load(part.peak + lane);
    const V before = top;
    for (int64_t r = 0; r < rows; ++r)
      top = max(top, select_less(set1(float(r)), seen, load(s.scores + r * lanes + lane), lowest));
    const V shift = exp(sub(before, top));  // of the first page: exp(-inf), while sum and out are zero
    V total = mul(load(part.sum + lane), shift);
    for (int64_t r = 0; r < rows; ++r) {
      float* score = s.scores + r * lanes + lane;
      const V p = select_less(set1(float(r)), seen, exp(sub(load(score), top)), set1(0.0f));
      total = add(total, p);
      store(score, p);
    }
    store(part.sum + lane, total);
    store(part.peak + lane, top);
    for (int64_t c = 0; c < d; ++c) {
      float* out = part.out + c * lanes + lane;
      store(out, mul(load(out), shift));
    }
  }
}

/// out [d, lanes] += (L p)^T V~: the probabilities take on V's scales, its offsets are one term for all
/// channels.
inline void page_values(const CodedScratch& s, const QueryPart& part, SeqTransform kind, int levels,
                        int64_t rows) {
  const int64_t lanes = s.lanes, d = s.head_dim;
  for (int64_t lane = 0; lane < lanes; lane += kLanes) {
    V t[kB];
    for (int64_t r = 0; r < rows; ++r) t[r] = load(s.scores + r * lanes + lane);
    transform_forward(t, kind, levels);
    V common = set1(0.0f);
    for (int64_t r = 0; r < rows; ++r) {
      common = fma(t[r], set1(s.values.offset[r]), common);
      store(s.scores + r * lanes + lane, mul(t[r], set1(s.values.scale[r])));
    }
    for (int64_t c = 0; c < d; ++c) {
      float* out = part.out + c * lanes + lane;
      store(out, add(load(out), common));
    }
  }
  multiply(part.out, lanes, s.values.q, 1, d, s.scores, lanes, d, lanes, rows, true);
}

void attend_coded(const CodedTile& t) {
  const int64_t queries = t.tokens * t.group, d = t.head_dim;
  const int64_t lanes = queries < kPartLanes ? round_up(queries, kLanes) : kPartLanes;
  const CodedScratch s = coded_scratch(t.scratch, lanes, d);
  const auto query_of = [queries](int64_t i) { return i < queries ? i : 0; };  // spare lanes repeat the first
  for (int64_t first = 0; first < queries; first += lanes) {
    const QueryPart part = s.part(first / lanes);
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const int64_t query = query_of(first + lane);
      const float* q = t.q + query / t.group * t.q_stride + query % t.group * d;
      float total = 0.0f;
      for (int64_t c = 0; c < d; ++c) {
        part.q[c * lanes + lane] = q[c] * t.scale;
        part.out[c * lanes + lane] = 0.0f;
        total += q[c] * t.scale;
      }
      part.q_sum[lane] = total;
      part.peak[lane] = -__builtin_inff();
      part.sum[lane] = 0.0f;
    }
  }
  const int64_t last_page = (t.position + t.tokens - 1) / kBlock;
  for (int64_t page = 0; page <= last_page; ++page) {
    const bool sealed = page >= t.first_sealed && page < t.end_sealed;
    const int64_t present = t.length - page * kBlock, rows = present < kBlock ? present : kBlock;
    const KvSide& side = sealed ? t.sealed_side : t.open_side;
    const std::byte* base = sealed ? t.sealed[t.pages[page]] : t.open[t.pages[page]];
    const SeqTransform kind = sealed ? t.transform : SeqTransform::kIdentity;
    kv_unpack(s.keys.q, s.keys.scale, s.keys.offset, base + (sealed ? t.sealed_k : t.open_k), side, rows);
    kv_unpack(s.values.q, s.values.scale, s.values.offset, base + (sealed ? t.sealed_v : t.open_v), side,
              rows);
    for (int64_t first = 0; first < queries; first += lanes) {
      const QueryPart part = s.part(first / lanes);
      float visible[kPartLanes];
      for (int64_t lane = 0; lane < lanes; ++lane)
        visible[lane] = float(t.position + query_of(first + lane) / t.group + 1 - page * kBlock);
      page_scores(s, part, kind, t.levels, rows);
      page_softmax(s, part, visible, rows);
      page_values(s, part, kind, t.levels, rows);
    }
  }
  for (int64_t query = 0; query < queries; ++query) {
    const QueryPart part = s.part(query / lanes);
    const int64_t lane = query % lanes;
    float* out = t.out + query / t.group * t.out_stride + query % t.group * d;
    for (int64_t c = 0; c < d; ++c) out[c] = part.out[c * lanes + lane] / part.sum[lane];
  }
}

// Attention over coefficient pages. Queries are the lanes: everything below is [.., lanes] with one query a
// lane, so the transforms of scores and probabilities along a page's 64 rows are vector operations, and no
// sum crosses lanes.

struct CodedScratch {
  float *q, *out;             // [head_dim, lanes]
  float* scores;              // [kBlock, lanes]
  float* rows;                // [kBlock, head_dim]: one side of a page as whole numbers
  float *scale, *offset;      // [kBlock]
  float *peak, *sum, *q_sum;  // [lanes]
};

inline CodedScratch coded_scratch(float* p, int64_t lanes, int64_t d) {
  CodedScratch s;
  const auto take = [&p](int64_t n) {
    float* part = p;
    p += n;
    return part;
  };
  s.q = take(d * lanes), s.out = take(d * lanes), s.scores = take(kBlock * lanes), s.rows = take(kBlock * d);
  s.scale = take(kBlock), s.offset = take(kBlock);
  s.peak = take(lanes), s.sum = take(lanes), s.q_sum = take(lanes);
  return s;
}

/// scores [kBlock, lanes] = scale * (K~ q) + offset * sum(q), then L^-1 along the rows.
inline void page_scores(const CodedScratch& s, int64_t lanes, int64_t d, SeqTransform kind, int levels,
                        int64_t rows) {
  multiply(s.scores, lanes, s.rows, d, 1, s.q, lanes, rows, lanes, d, false);
  for (int64_t lane = 0; lane < lanes; lane += kLanes) {
    V t[kB];
    const V q_sum = load(s.q_sum + lane);
    for (int64_t r = 0; r < rows; ++r)
      t[r] = fma(load(s.scores + r * lanes + lane), set1(s.scale[r]), mul(set1(s.offset[r]), q_sum));
    transform_inverse(t, kind, levels);
    for (int64_t r = 0; r < rows; ++r) store(s.scores + r * lanes + lane, t[r]);
  }
}

/// Online softmax: scores become probabilities relative to each lane's running maximum; row r is visible to a
/// lane if r < visible[lane]. The output and the sum are rescaled when the maximum moves.
inline void page_softmax(const CodedScratch& s, int64_t lanes, int64_t d, const float* visible,
                         int64_t rows) {
  const V lowest = set1(-__builtin_inff());
  for (int64_t lane = 0; lane < lanes; lane += kLanes) {
    const V seen = load(visible + lane);
    V top = load(s.peak + lane);
    const V before = top;
    for (int64_t r = 0; r < rows; ++r)
      top = max(top, select_less(set1(float(r)), seen, load(s.scores + r * lanes + lane), lowest));
    const V shift = exp(sub(before, top));  // of the first page: exp(-inf), while sum and out are zero
    V total = mul(load(s.sum + lane), shift);
    for (int64_t r = 0; r < rows; ++r) {
      float* score = s.scores + r * lanes + lane;
      const V p = select_less(set1(float(r)), seen, exp(sub(load(score), top)), set1(0.0f));
      total = add(total, p);
      store(score, p);
    }
    store(s.sum + lane, total);
    store(s.peak + lane, top);
    for (int64_t c = 0; c < d; ++c) {
      float* out = s.out + c * lanes + lane;
      store(out, mul(load(out), shift));
    }
  }
}

/// out [d, lanes] += (L p)^T V~: the probabilities take on V's scales, its offsets are one term for all
/// channels.
inline void page_values(const CodedScratch& s, int64_t lanes, int64_t d, SeqTransform kind, int levels,
                        int64_t rows) {
  for (int64_t lane = 0; lane < lanes; lane += kLanes) {
    V t[kB];
    for (int64_t r = 0; r < rows; ++r) t[r] = load(s.scores + r * lanes + lane);
    transform_forward(t, kind, levels);
    V common = set1(0.0f);
    for (int64_t r = 0; r < rows; ++r) {
      common = fma(t[r], set1(s.offset[r]), common);
      store(s.scores + r * lanes + lane, mul(t[r], set1(s.scale[r])));
    }
    for (int64_t c = 0; c < d; ++c) {
      float* out = s.out + c * lanes + lane;
      store(out, add(load(out), common));
    }
  }
  multiply(s.out, lanes, s.rows, 1, d, s.scores, lanes, d, lanes, rows, true);
}

void attend_coded(const CodedTile& t) {
  const int64_t queries = t.tokens * t.group, d = t.head_dim, lanes = round_up(queries, kLanes);
  const CodedScratch s = coded_scratch(t.scratch, lanes, d);
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const int64_t source = lane < queries ? lane : 0;  // spare lanes repeat the first query
    const float* q = t.q + source / t.group * t.q_stride + source % t.group * d;
    float total = 0.0f;
    for (int64_t c = 0; c < d; ++c) {
      s.q[c * lanes + lane] = q[c] * t.scale;
      s.out[c * lanes + lane] = 0.0f;
      total += q[c] * t.scale;
    }
    s.q_sum[lane] = total;
    s.peak[lane] = -__builtin_inff();
    s.sum[lane] = 0.0f;
  }
  const int64_t last_page = (t.position + t.tokens - 1) / kBlock;
  for (int64_t page = 0; page <= last_page; ++page) {
    const bool sealed = page >= t.first_sealed && page < t.end_sealed;
    const int64_t present = t.length - page * kBlock, rows = present < kBlock ? present : kBlock;
    const KvSide& side = sealed ? t.sealed_side : t.open_side;
    const std::byte* base = sealed ? t.sealed[t.pages[page]] : t.open[t.pages[page]];
    const SeqTransform kind = sealed ? t.transform : SeqTransform::kIdentity;
    float visible[kMaxCodedLanes];
    for (int64_t lane = 0; lane < lanes; ++lane)
      visible[lane] = float(t.position + (lane < queries ? lane : 0) / t.group + 1 - page * kBlock);
    kv_unpack(s.rows, s.scale, s.offset, base + (sealed ? t.sealed_k : t.open_k), side, rows);
    page_scores(s, lanes, d, kind, t.levels, rows);
    page_softmax(s, lanes, d, visible, rows);
    kv_unpack(s.rows, s.scale, s.offset, base + (sealed ? t.sealed_v : t.open_v), side, rows);
    page_values(s, lanes, d, kind, t.levels, rows);
  }
  for (int64_t lane = 0; lane < queries; ++lane) {
    float* out = t.out + lane / t.group * t.out_stride + lane % t.group * d;
    for (int64_t c = 0; c < d; ++c) out[c] = s.out[c * lanes + lane] / s.sum[lane];
  }
}

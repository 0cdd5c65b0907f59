// Products of codes on tiles (tile_amx.h), exact like all others: 64 rows of keys, or 64 channels of values,
// times 16 queries at once; and what a part of queries does at a page, on tiles or in lanes.

constexpr int kTileQueries = 16;

/// sums [64, 16], a row every `line` floats, = codes [64, 64 steps], a row every `ld` bytes, times a panel
/// [16 steps, 16, 4], a step every 4 `line` bytes.
inline void tile_products(Tiles& tiles, float* sums, int64_t line, const uint8_t* codes, int64_t ld,
                          const uint8_t* panel, int64_t steps) {
  tiles.clear<0>(), tiles.clear<1>(), tiles.clear<2>(), tiles.clear<3>();
  for (int64_t i = 0; i < steps; ++i, codes += 64, panel += 16 * 4 * line) {
    tiles.load<4>(panel, 4 * line);
    tiles.load<5>(codes, ld);
    tiles.dot<0, 5, 4>();
    tiles.load<6>(codes + 16 * ld, ld);
    tiles.dot<1, 6, 4>();
    tiles.load<5>(codes + 32 * ld, ld);
    tiles.dot<2, 5, 4>();
    tiles.load<6>(codes + 48 * ld, ld);
    tiles.dot<3, 6, 4>();
  }
  tiles.store<0>(sums, 4 * line);
  tiles.store<1>(sums + 16 * line, 4 * line);
  tiles.store<2>(sums + 32 * line, 4 * line);
  tiles.store<3>(sums + 48 * line, 4 * line);
}

/// What code_scores does.
template <int N>
void tile_scores(Tiles& tiles, const CodedScratch& s, const QueryPart& part) {
  for (int64_t lane = 0; lane < N * kLanes; lane += kTileQueries)
    tile_products(tiles, s.scores + lane, N * kLanes, s.keys.codes, s.keys.ld, part.codes + lane * 4,
                  s.head_dim / 64);
}

/// What code_values does. The sums go where the scores were.
template <int N>
void tile_values(Tiles& tiles, const CodedScratch& s, const PartState& state) {
  constexpr int R = 16 / N;
  for (int64_t c = 0; c < s.head_dim; c += 64) {
    for (int64_t lane = 0; lane < N * kLanes; lane += kTileQueries)
      tile_products(tiles, s.scores + lane, N * kLanes, s.values.channels + c * kBlock, kBlock,
                    s.weights.weights + lane * 4, kBlock / 64);
    for (int64_t i = 0; i < 64; i += R) {
      I acc[R][N];
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < N; ++v) acc[r][v] = load_bytes(s.scores + ((i + r) * N + v) * kLanes);
      add_values(s, state.out + (c + i) * N * kLanes, c + i, acc);
    }
  }
}

/// A part at a page, on tiles if there are some and it fills them.
template <int N>
void page_of_part(Tiles* tiles, const CodedTile& t, const CodedScratch& s, int64_t part, float* states,
                  const float* visible, SeqTransform kind, int64_t rows) {
  const QueryPart query = s.query(part);
  const PartState state = s.state(states, part);
  const bool tiled = tiles != nullptr && N * kLanes % kTileQueries == 0;
  if (tiled) tile_scores<N>(*tiles, s, query);
  else code_scores<N>(s, query, rows + s.keys.wide);
  if (visible != nullptr) weigh_page<true, N>(s, query, state, visible, kind, t.levels, rows);
  else weigh_page<false, N>(s, query, state, visible, kind, t.levels, rows);
  if (tiled && s.values.narrow < kBlock) tile_values<N>(*tiles, s, state);
  else code_values<N>(s, state);
}

// From the sums of a coded tile, which are coefficients, to tokens: in the first-level cache, before `out` is
// written.

constexpr int kTreeTokens = 8, kTrees = kB / kTreeTokens;

/// The sums of a coded tile, or of up to as many other rows, and how far they have become `out`.
template <int kPanels>
struct BlockSums {
  alignas(64) int32_t sums[kBlock][kPanels * kPanel];
  int64_t row = 0, panel = 0;
  int64_t done = 0, steps = 0;  // steps: rows, or those of restore_some()
  bool coded = false;
  V tree_sums[kPanels * kPanelVecs][kTrees];
};

/// Steps in which a coded tile's sums become tokens: each of Haar's trees is one, behind that of their sums.
inline int64_t restore_steps(const IntLinear& p) {
  return p.transform == SeqTransform::kHaar && kB >> p.levels <= kTrees ? 1 + kTrees : 1;
}

/// Takes the next step of a coded tile.
template <int kPanels>
inline void restore_some(const IntLinear& p, BlockSums<kPanels>& block) {
  const int64_t step = block.done++, steps = block.steps, ldo = p.ldo, first = block.panel * kPanel;
  const float *const scale = p.scale + block.row, *const offset = p.offset + block.row,
                     *const row_scale = row_scales(p.transform, p.levels);
  float* const out = p.out + block.row * ldo + first;
  for (int v = 0; v < kPanels * kPanelVecs; ++v) {
    const int64_t col = v * kLanes, left = p.cols - first - col,
                  live = left < kLanes ? left : int64_t(kLanes);
    if (left <= 0) return;
    const V weight_sum = load_weight_sum(p, first + col), weight_scale = load(p.weight_scale + first + col);
    const int32_t* const sums = block.sums[0] + col;
    V(&tree_sums)[kTrees] = block.tree_sums[v];
    const auto get = [=](int64_t r) __attribute__((always_inline)) {
      const I acc = load_bytes(sums + r * kPanels * kPanel);
      return mul(scale_sums(acc, scale[r], offset[r], weight_scale, weight_sum), set1(row_scale[r]));
    };
    const auto put = [=](int64_t r, V x) __attribute__((always_inline)) {
      store_some(out + r * ldo + col, x, live);
    };
    if (steps == 1) transform_inverse(p.transform, p.levels, kB, get, put);
    else if (step == 0) haar_tree_sums<kTreeTokens>(tree_sums, p.levels, get);
    else haar_tree<kTreeTokens>(tree_sums[step - 1], step - 1, get, put);
  }
}

/// Calls body(row, rows, coded) for coded tiles and for up to kMostRows of the rows between them.
template <int64_t kMostRows, class Body>
inline __attribute__((always_inline)) void for_blocks(const IntLinear& p, const Body& body) {
  int64_t row = 0;
  const RowTile* tile = p.tiles;
  while (row < p.rows) {
    while (tile < p.tiles + p.tile_count && !tile->coded) ++tile;
    const bool more = tile < p.tiles + p.tile_count;
    const int64_t next = more ? tile->row - p.tiles->row : p.rows;
    const bool coded = row == next;
    const int64_t left = next - row, rows = coded ? kBlock : left < kMostRows ? left : kMostRows;
    body(row, rows, coded);
    row += rows;
    if (coded) ++tile;
  }
}

/// Calls tile.template operator()<R>(row, sums) for all rows, R at most kRows: a coded tile's sums go to
/// `sums`, rows [kPanels * kPanel], others (null) to `out`.
template <int kRows, int kPanels, class Tile>
inline void for_coded_row_tiles(const IntLinear& p, int64_t panel, const Tile& tile) {
  for_blocks<INT64_MAX>(p, [&](int64_t row, int64_t rows, bool coded) {
    BlockSums<kPanels> block;
    for_row_tiles<kRows>(rows, [&]<int R>(int64_t r) {
      tile.template operator()<R>(row + r, coded ? block.sums[r] : nullptr);
    });
    if (!coded) return;
    block.row = row, block.panel = panel;
    for (block.steps = restore_steps(p); block.done < block.steps;) restore_some(p, block);
  });
}

// Integer products on tiles (tile_amx.h): 64 input channels of a panel of bytes are a tile of weights as they
// lie, those of 16 rows of q are one of rows.

constexpr int64_t kTileRows = 16, kTileChannels = 64, kTileBytes = 1024;
constexpr int64_t kBlockRows = 2 * kTileRows;

/// A block's sums, of which `rows` are left to be scaled.
template <int kPanels>
struct BlockSums {
  alignas(64) int32_t sums[kBlockRows][kPanels * kPanel];
  int64_t row = 0, panel = 0, rows = 0, scaled = 0;
};

/// Scales the next few of a block's rows, if any are left.
template <int kPanels>
inline void scale_some(const IntLinear& p, BlockSums<kPanels>& block) {
  constexpr int kVecs = kPanels * kPanelVecs, kSome = 4;
  const auto scale = [&]<int R>(int64_t) {
    I acc[R][kVecs];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kVecs; ++v)
        acc[r][v] = load_bytes(reinterpret_cast<const uint8_t*>(block.sums[block.scaled + r] + v * kLanes));
    store_tile(p, acc, block.row + block.scaled, block.panel * kPanel);
    block.scaled += R, block.rows -= R;
  };
  if (block.rows >= kSome) scale.template operator()<kSome>(0);
  else for_row_tiles<kSome - 1>(block.rows, scale);
}

/// A block's tiles: 0 and 1 are sums of its first 16 rows times either panel, 2 and 3 those of the others, 4
/// and 5 the rows, 6 and 7 the panels.
inline void shape_block(Tiles& tiles, int64_t rows) {
  const auto first = uint8_t(rows < kTileRows ? rows : kTileRows), second = uint8_t(rows - first);
  tiles.shape({first, first, second, second, first, second, 16, 16});
}

/// sums = rows of q times panels of bytes at w, `panel_bytes` apart, kRowTiles by kPanels tiles. Between two
/// steps it does something `meanwhile`, since a tile's product takes long.
template <int kRowTiles, int kPanels, class Meanwhile>
inline __attribute__((always_inline)) void block_sums(Tiles& tiles, BlockSums<kPanels>& block,
                                                      const uint8_t* q, int64_t ldq, const uint8_t* w,
                                                      int64_t panel_bytes, int64_t depth,
                                                      const Meanwhile& meanwhile) {
  constexpr bool kBelow = kRowTiles > 1, kBeside = kPanels > 1;
  tiles.clear<0>();
  if (kBeside) tiles.clear<1>();
  if (kBelow) tiles.clear<2>();
  if (kBelow && kBeside) tiles.clear<3>();
  for (int64_t k = 0; k < depth; k += kTileChannels, q += kTileChannels, w += kTileBytes) {
    tiles.load<4>(q, ldq);
    tiles.load<6>(w, 64);
    tiles.dot<0, 4, 6>();
    if (kBeside) tiles.load<7>(w + panel_bytes, 64), tiles.dot<1, 4, 7>();
    if (kBelow) tiles.load<5>(q + kTileRows * ldq, ldq), tiles.dot<2, 5, 6>();
    if (kBelow && kBeside) tiles.dot<3, 5, 7>();
    meanwhile(w);
  }
  constexpr int64_t kLine = kPanels * kPanel * 4;
  tiles.store<0>(block.sums[0], kLine);
  if (kBeside) tiles.store<1>(block.sums[0] + kPanel, kLine);
  if (kBelow) tiles.store<2>(block.sums[kTileRows], kLine);
  if (kBelow && kBeside) tiles.store<3>(block.sums[kTileRows] + kPanel, kLine);
}

/// All rows times panels [first, last), whose number is a multiple of kPanels. While a block's tiles are
/// multiplied, the sums of the one before are scaled.
template <int kPanels>
inline void panels_on_tiles(Tiles& tiles, const IntLinear& p, int64_t first, int64_t last) {
  BlockSums<kPanels> blocks[2];
  int64_t turn = 0, shaped = 0;
  for (int64_t panel = first; panel < last; panel += kPanels) {
    const uint8_t* w = p.weights + panel * p.panel_bytes;
    const int64_t panel_bytes = p.depth * kPanel;
    if (p.four_bits) {
      for (int64_t i = 0; i < kPanels; ++i)
        widen_panel<kPanelVecs>(p.scratch + i * panel_bytes, 64, p, panel + i);
      w = p.scratch;
    }
    for (int64_t row = 0; row < p.rows; row += kBlockRows, ++turn) {
      const int64_t rows = p.rows - row < kBlockRows ? p.rows - row : kBlockRows;
      if (rows != shaped) shape_block(tiles, rows), shaped = rows;
      BlockSums<kPanels>&block = blocks[turn % 2], &before = blocks[(turn + 1) % 2];
      const auto meanwhile = [&](const uint8_t* step) __attribute__((always_inline)) {
        if (before.rows > 0) scale_some(p, before);
        if (!p.four_bits && row == 0)
          for (int i = 0; i < kPanels * kTileBytes; i += 64) prefetch(step + i + kAhead);
      };
      const uint8_t* q = p.q + row * p.ldq;
      if (rows > kTileRows) block_sums<2>(tiles, block, q, p.ldq, w, panel_bytes, p.depth, meanwhile);
      else block_sums<1>(tiles, block, q, p.ldq, w, panel_bytes, p.depth, meanwhile);
      while (before.rows > 0) scale_some(p, before);
      block.row = row, block.panel = panel, block.rows = rows, block.scaled = 0;
    }
  }
  for (auto& block : blocks)
    while (block.rows > 0) scale_some(p, block);
}

void tile_linear(const IntLinear& p) {
  Tiles tiles;
  const int64_t panels = p.rows > kBlockRows ? (p.last_panel - p.first_panel) / 2 * 2 : 0;
  const int64_t middle = p.first_panel + panels;
  if (panels > 0) panels_on_tiles<2>(tiles, p, p.first_panel, middle);
  if (middle < p.last_panel) panels_on_tiles<1>(tiles, p, middle, p.last_panel);
}

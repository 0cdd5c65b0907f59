// Integer products on tiles (tile_amx.h): 64 input channels of a panel of bytes are a tile of weights as they
// lie, those of 16 rows of q are one of rows.

constexpr int64_t kTileRows = 16, kTileChannels = 64, kTileBytes = 1024;
constexpr int64_t kBlockRows = 2 * kTileRows;

/// Scales the next few of a block's rows.
template <int kPanels>
inline void scale_some(const IntLinear& p, BlockSums<kPanels>& block) {
  constexpr int kVecs = kPanels * kPanelVecs, kSome = 4;
  const auto scale = [&]<int R>(int64_t) {
    I acc[R][kVecs];
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < kVecs; ++v) acc[r][v] = load_bytes(block.sums[block.done + r] + v * kLanes);
    store_tile(p, acc, block.row + block.done, block.panel * kPanel);
    block.done += R;
  };
  if (const int64_t left = block.steps - block.done; left >= kSome) scale.template operator()<kSome>(0);
  else for_row_tiles<kSome - 1>(left, scale);
}

/// A block's tiles: 0 and 1 are sums of its first 16 rows times either panel, 2 and 3 those of the others, 4
/// and 5 the rows, 6 and 7 the panels.
inline void shape_block(Tiles& tiles, int64_t rows) {
  const auto first = uint8_t(rows < kTileRows ? rows : kTileRows), second = uint8_t(rows - first);
  tiles.shape({first, first, second, second, first, second, 16, 16});
}

/// sums = rows of q times panels of bytes, kRowTiles by kPanels tiles: weights(k) is where the first panel's
/// channels from k on are, the next panel's `panel_bytes` on. Between two steps it does something
/// `meanwhile`, since a tile's product takes long.
template <int kRowTiles, int kPanels, class Weights, class Meanwhile>
inline __attribute__((always_inline)) void block_sums(Tiles& tiles, int32_t (*sums)[kPanels * kPanel],
                                                      const uint8_t* q, int64_t ldq, int64_t depth,
                                                      int64_t panel_bytes, const Weights& weights,
                                                      const Meanwhile& meanwhile) {
  constexpr bool kBelow = kRowTiles > 1, kBeside = kPanels > 1;
  tiles.clear<0>();
  if (kBeside) tiles.clear<1>();
  if (kBelow) tiles.clear<2>();
  if (kBelow && kBeside) tiles.clear<3>();
  for (int64_t k = 0; k < depth; k += kTileChannels, q += kTileChannels) {
    const uint8_t* w = weights(k);
    tiles.load<4>(q, ldq);
    tiles.load<6>(w, 64);
    tiles.dot<0, 4, 6>();
    if (kBeside) tiles.load<7>(w + panel_bytes, 64), tiles.dot<1, 4, 7>();
    if (kBelow) tiles.load<5>(q + kTileRows * ldq, ldq), tiles.dot<2, 5, 6>();
    if (kBelow && kBeside) tiles.dot<3, 5, 7>();
    meanwhile(w);
  }
  constexpr int64_t kLine = kPanels * kPanel * 4;
  tiles.store<0>(sums[0], kLine);
  if (kBeside) tiles.store<1>(sums[0] + kPanel, kLine);
  if (kBelow) tiles.store<2>(sums[kTileRows], kLine);
  if (kBelow && kBeside) tiles.store<3>(sums[kTileRows] + kPanel, kLine);
}

/// Blocks one after the other: while a block's tiles are multiplied, the sums of the one before become `out`.
template <int kPanels>
class Blocks {
 public:
  Blocks(Tiles& tiles, const IntLinear& p) : tiles_(tiles), p_(p) {}

  /// A coded tile, or up to kBlockRows other rows, from `row` on times the panels from `panel` on; see
  /// block_sums(). `meanwhile` gets the row, too.
  template <class Weights, class Meanwhile>
  inline __attribute__((always_inline)) void multiply(int64_t row, int64_t rows, bool coded, int64_t panel,
                                                      int64_t panel_bytes, const Weights& weights,
                                                      const Meanwhile& meanwhile) {
    BlockSums<kPanels>&block = sums_[turn_ % 2], &before = sums_[(turn_ + 1) % 2];
    for (int64_t i = 0; i < rows; i += kBlockRows) {
      const int64_t count = rows - i < kBlockRows ? rows - i : kBlockRows;
      if (count != shaped_) shape_block(tiles_, count), shaped_ = count;
      const auto between = [&](const uint8_t* step) __attribute__((always_inline)) {
        if (before.done < before.steps) finish_some(before);
        meanwhile(row + i, step);
      };
      const uint8_t* q = p_.q + (row + i) * p_.ldq;
      auto* sums = block.sums + i;
      if (count > kTileRows)
        block_sums<2, kPanels>(tiles_, sums, q, p_.ldq, p_.depth, panel_bytes, weights, between);
      else block_sums<1, kPanels>(tiles_, sums, q, p_.ldq, p_.depth, panel_bytes, weights, between);
    }
    finish(before);
    block.row = row, block.panel = panel, block.coded = coded, block.done = 0;
    block.steps = coded ? restore_steps(p_) : rows;
    ++turn_;
  }
  /// After the last block.
  void finish() {
    for (auto& block : sums_) finish(block);
  }

 private:
  inline __attribute__((always_inline)) void finish_some(BlockSums<kPanels>& block) {
    if (block.coded) restore_some(p_, block);
    else scale_some(p_, block);
  }
  void finish(BlockSums<kPanels>& block) {
    while (block.done < block.steps) finish_some(block);
  }

  Tiles& tiles_;
  const IntLinear& p_;
  BlockSums<kPanels> sums_[2];
  int64_t turn_ = 0, shaped_ = 0;
};

/// 4-bit panels as bytes, a step of kPanels tiles after the other: some steps ahead of their products, in a
/// ring that stays in the first-level cache.
template <int kPanels>
class WidenedSteps {
 public:
  WidenedSteps(const IntLinear& p, int64_t first, int64_t last) : p_(p), panel_(first), last_(last) {
    for (uint64_t i = 0; i < kSteps - 1; ++i) widen_next();
  }
  void widen_next() {
    if (panel_ >= last_) return;
    uint8_t(&slot)[kPanels][kTileBytes] = ring_[widened_++ % kSteps];
    const uint64_t g = channel_ >> group_shift_;
    for (int64_t i = 0; i < kPanels; ++i) {
      const uint8_t* w = p_.weights + (panel_ + i) * p_.panel_bytes + channel_ * 8;
      if (p_.group >= kTileChannels) {
        widen_channels<kPanelVecs>(slot[i], 64, p_, panel_ + i, g, w, kTileChannels);
      } else {
        constexpr int64_t kHalf = kTileChannels / 2;
        widen_channels<kPanelVecs>(slot[i], 64, p_, panel_ + i, g, w, kHalf);
        widen_channels<kPanelVecs>(slot[i] + kTileBytes / 2, 64, p_, panel_ + i, g + 1, w + kHalf * 8, kHalf);
      }
    }
    channel_ += kTileChannels;
    if (channel_ == uint64_t(p_.depth)) channel_ = 0, panel_ += kPanels;
  }
  const uint8_t* take() { return ring_[taken_++ % kSteps][0]; }

 private:
  static constexpr uint64_t kSteps = 4;
  const IntLinear p_;  // a copy: what the ring is given cannot change it
  int64_t panel_, last_;
  uint64_t channel_ = 0, widened_ = 0, taken_ = 0;
  int group_shift_ = __builtin_ctzll(uint64_t(p_.group));  // a group has 32, 64 or 128 channels
  alignas(64) uint8_t ring_[kSteps][kPanels][kTileBytes];
};

/// Up to kBlockRows rows, which meet a panel once, times 4-bit panels [first, last), whose number is a
/// multiple of kPanels.
template <int kPanels>
inline void stream_on_tiles(Tiles& tiles, const IntLinear& p, int64_t first, int64_t last) {
  Blocks<kPanels> blocks(tiles, p);
  WidenedSteps<kPanels> steps(p, first, last);
  for (int64_t panel = first; panel < last; panel += kPanels)
    blocks.multiply(
        0, p.rows, false, panel,
        kTileBytes, [&](int64_t) __attribute__((always_inline)) { return steps.take(); },
        [&](int64_t, const uint8_t*) __attribute__((always_inline)) { steps.widen_next(); });
  blocks.finish();
}

/// All rows times panels [first, last), whose number is a multiple of kPanels.
template <int kPanels>
inline void panels_on_tiles(Tiles& tiles, const IntLinear& p, int64_t first, int64_t last) {
  Blocks<kPanels> blocks(tiles, p);
  for (int64_t panel = first; panel < last; panel += kPanels) {
    const uint8_t* w = p.weights + panel * p.panel_bytes;
    const int64_t panel_bytes = p.depth * kPanel;
    if (p.four_bits) {
      for (int64_t i = 0; i < kPanels; ++i)
        widen_panel<kPanelVecs>(p.scratch + i * panel_bytes, 64, p, panel + i);
      w = p.scratch;
    }
    for_blocks<kBlockRows>(
        p, [&](int64_t row, int64_t rows, bool coded) __attribute__((always_inline)) {
          blocks.multiply(
              row, rows, coded, panel,
              panel_bytes, [&](int64_t k) __attribute__((always_inline)) { return w + k * kPanel; },
              [&](int64_t at, const uint8_t* step) __attribute__((always_inline)) {
                if (!p.four_bits && at == 0)
                  for (int i = 0; i < kPanels * kTileBytes; i += 64) prefetch(step + i + kAhead);
              });
        });
  }
  blocks.finish();
}

void tile_linear(const IntLinear& p) {
  Tiles tiles;
  // 8-bit panels that are met once come from memory: one stream of them is the faster.
  const bool once = p.rows <= kBlockRows, pairs = p.four_bits || !once;
  const int64_t middle = p.first_panel + (pairs ? (p.last_panel - p.first_panel) / 2 * 2 : 0);
  const auto multiply = [&](const auto& two, const auto& one) {
    if (p.first_panel < middle) two(tiles, p, p.first_panel, middle);
    if (middle < p.last_panel) one(tiles, p, middle, p.last_panel);
  };
  if (once && p.four_bits) multiply(stream_on_tiles<2>, stream_on_tiles<1>);
  else multiply(panels_on_tiles<2>, panels_on_tiles<1>);
}

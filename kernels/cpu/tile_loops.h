// The tiles of tile_amx.h in plain loops: what instruction sets without tiles compile and do not run, and
// tests run everywhere.

/// Eight tiles, each of up to 16 rows of 64 bytes.
class Tiles {
 public:
  /// Gives tile t rows[t] rows and clears it; of no rows, it is not to be used.
  void shape(const uint8_t (&rows)[8]) {
    for (int t = 0; t < 8; ++t) tiles_[t] = {.rows = rows[t]};
  }
  template <int kTile>
  void clear() {
    tiles_[kTile] = {.rows = tiles_[kTile].rows};
  }
  /// Rows `stride` bytes apart from p on; and to there.
  template <int kTile>
  void load(const void* p, int64_t stride) {
    Tile& tile = tiles_[kTile];
    for (int r = 0; r < tile.rows; ++r)
      __builtin_memcpy(tile.bytes[r], static_cast<const uint8_t*>(p) + r * stride, 64);
  }
  template <int kTile>
  void store(void* p, int64_t stride) const {
    const Tile& tile = tiles_[kTile];
    for (int r = 0; r < tile.rows; ++r)
      __builtin_memcpy(static_cast<uint8_t*>(p) + r * stride, tile.bytes[r], 64);
  }
  /// Tile kSums [rows, 16] int32 += tile kA [rows, 64] u8 times tile kB [64 / 4, 16, 4] s8.
  template <int kSums, int kA, int kB>
  void dot() {
    Tile &sums = tiles_[kSums], &a = tiles_[kA], &b = tiles_[kB];
    for (int r = 0; r < sums.rows; ++r) {
      uint32_t row[16];
      __builtin_memcpy(row, sums.bytes[r], 64);
      for (int k = 0; k < 64; ++k)
        for (int c = 0; c < 16; ++c)
          row[c] += uint32_t(a.bytes[r][k] * int8_t(b.bytes[k / 4][c * 4 + k % 4]));
      __builtin_memcpy(sums.bytes[r], row, 64);
    }
  }

 private:
  struct Tile {
    int rows = 0;
    uint8_t bytes[16][64] = {};
  };
  Tile tiles_[8];
};

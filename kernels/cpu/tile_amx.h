// The tiles of AMX, which multiply 16 rows of u8 by 16 columns of s8, 64 bytes of each, at once. What
// tile_loops.h does in loops. By hand: GCC's intrinsics take numbers of tiles only as literals.

/// The eight tiles of the calling thread, each of up to 16 rows of 64 bytes, while the object lives.
class Tiles {
 public:
  Tiles() = default;
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
  ~Tiles() { asm volatile("tilerelease" ::: "memory"); }

  /// Gives tile t rows[t] rows and clears it; of no rows, it is not to be used.
  void shape(const uint8_t (&rows)[8]) {
    struct {
      uint8_t palette = 1, rest[15] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } config;
    for (int t = 0; t < 8; ++t) config.row_bytes[t] = rows[t] > 0 ? 64 : 0, config.rows[t] = rows[t];
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  template <int kTile>
  void clear() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  /// Rows `stride` bytes apart from p on; and to there.
  template <int kTile>
  void load(const void* p, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  void store(void* p, int64_t stride) const {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(kTile) : "memory");
  }
  /// Tile kSums [rows, 16] int32 += tile kA [rows, 64] u8 times tile kB [64 / 4, 16, 4] s8.
  template <int kSums, int kA, int kB>
  void dot() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSums), "i"(kA), "i"(kB));
  }
};

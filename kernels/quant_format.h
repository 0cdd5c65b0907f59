#pragma once
#include <cstdint>

/// The formats of quantised data, for host and device alike: which bits a coefficient gets, how weights are
/// packed, what a page of the coefficient cache looks like.
namespace stamp {

/// For functions that files built for an instruction set call, too: an out-of-line copy of theirs must not
/// exist, the linker might keep it for everybody. Device code calls them as well.
#ifdef __CUDACC__
#define STAMP_INLINE __host__ __device__ __forceinline__
#else
#define STAMP_INLINE inline __attribute__((always_inline))
#endif

/// Tokens in one page of the KV cache, and in one block of the sequence transform (B of design section 3).
inline constexpr int64_t kBlock = 64;

/// The orthonormal kBlock x kBlock matrix L that mixes the tokens of a block (STaMP, arXiv 2510.26771,
/// section 3). Coefficients are ordered coarse to fine: Haar's approximation band first and then its details,
/// the longest wavelets before the shorter; DCT-II by frequency; Walsh-Hadamard by sequency.
enum class SeqTransform : uint8_t { kIdentity, kHaar, kDct, kWalshHadamard };

/// How one block is represented: the first `high_rows` coefficients get `high_bits`, the others `low_bits`.
/// Tokens outside transformed blocks always get `kTokenBits`.
struct BitPlan {
  SeqTransform transform = SeqTransform::kIdentity;
  int levels = 5;                   // of Haar, 1..6; the coarse band has kBlock >> levels rows
  int high_rows = 0;                // 0..kBlock
  int high_bits = 8, low_bits = 8;  // 2..8

  STAMP_INLINE int bits(int64_t row) const { return row < high_rows ? high_bits : low_bits; }
  double mean_bits() const {
    return (high_rows * high_bits + (kBlock - high_rows) * low_bits) / double(kBlock);
  }
  /// A block of tokens at kTokenBits each is the same with or without this plan.
  STAMP_INLINE bool is_plain() const {
    return transform == SeqTransform::kIdentity && high_bits == 8 && low_bits == 8;
  }
  bool operator==(const BitPlan&) const = default;
};

inline constexpr int kTokenBits = 8;

/// The values that the codes of a row of activations reach from first to last: of many bits, its own
/// extremes. Of few, the middle of that range, since steps get finer for more than what cutting off the
/// extremes costs (QuaRot, arXiv 2404.00456, clips as well). Rotated rows are close to normal: their extremes
/// lie further out the more channels there are, the best end of equal steps does not (Max, Quantizing for
/// Minimum Distortion, 1960, table II).
struct CodeRange {
  float low, width;
};
/// The share of a row's range that codes reach over.
STAMP_INLINE constexpr float kept_range(int bits, int64_t channels) {
  if (bits > 5) return 1.0f;
  const float best = bits > 4 ? 2.92f : bits > 3 ? 2.51f : bits > 2 ? 2.05f : 1.49f;  // standard deviations
  float extreme = 0.9f;  // about where the largest of so many is expected
  for (int64_t n = channels; n > 1; n /= 2) extreme += 0.23f;
  return best < extreme ? best / extreme : 1.0f;
}
STAMP_INLINE constexpr CodeRange code_range(float low, float high, int bits, int64_t channels) {
  const float width = high - low, cut = width * (0.5f - kept_range(bits, channels) / 2);
  return {low + cut, width - 2 * cut};
}

/// Block 0 holds the attention sink and keeps kTokenBits.
STAMP_INLINE constexpr bool is_coded_block(int64_t block) { return block > 0; }

/// Quantised weights lie in panels of kPanel output channels, zero-padded at both ends. 8-bit: for every four
/// input channels k..k+3, kPanel channels x 4 signed bytes. 4-bit: for every eight, kPanel channels x 4
/// bytes, whose low nibbles are k..k+3 and high nibbles k+4..k+7, unsigned. Either step is 64 bytes: one
/// cache line, one AVX-512 register, two of AVX2, and four-byte lanes as dot-product instructions want them.
inline constexpr int64_t kPanel = 16;
/// Input channels are padded to a multiple of this; a power of two that every group size divides or is a
/// multiple of.
inline constexpr int64_t kColAlign = 64;

/// A 4-bit code stands for the integer group_scale * code - zero, with one of each for a group of input
/// channels, times the row's scale: scales of two levels, as in VS-Quant (arXiv 2102.04503), whose integers
/// fit into signed bytes, as in QServe (arXiv 2405.04532). So sums over all input channels stay integers.
inline constexpr int kTopCode = 15, kTopGroupScale = 16;
/// Zeros that keep group_scale * code - zero in [-128, 127] for every code.
constexpr int least_zero(int group_scale) {
  return kTopCode * group_scale > 127 ? kTopCode * group_scale - 127 : 0;
}
inline constexpr int kTopZero = 128;
/// Input channels whose products of bytes, 255 by -128 at most, 32 bits hold.
inline constexpr int64_t kMaxQuantisedCols = 65536;
/// Zeros of so many groups lie together: they are another factor of integer products.
inline constexpr int64_t kZeroGroups = 4;

STAMP_INLINE constexpr int64_t divide_up(int64_t x, int64_t by) { return (x + by - 1) / by; }
STAMP_INLINE constexpr int64_t round_up(int64_t x, int64_t to) { return divide_up(x, to) * to; }

/// Where the parts of one KV head's K or V lie in a page of the coefficient cache: 64 rows (tokens of an open
/// page, coefficients of a sealed one) of head_dim values. Row r is scale[r] * (q - zero[r] /
/// zero_steps(bits)).
struct KvSide {
  int high_rows, high_bits,
      low_bits;  // 8-bit rows are bytes; others, nibbles: byte j has channel j low, j + d/2 high
  int64_t head_dim;

  static constexpr int64_t kScales = 0;          // [kBlock] IEEE binary16
  static constexpr int64_t kZeros = kBlock * 2;  // [kBlock] bytes
  static constexpr int64_t kRows = kBlock * 3;   // the rows one after another
  STAMP_INLINE int row_bits(int64_t row) const { return row < high_rows ? high_bits : low_bits; }
  /// Rows [0, wide_rows()) are bytes or lie before some that are; the others are nibbles.
  STAMP_INLINE int64_t wide_rows() const { return low_bits > 4 ? kBlock : high_bits > 4 ? high_rows : 0; }
  STAMP_INLINE int64_t row_bytes(int64_t row) const { return row_bits(row) > 4 ? head_dim : head_dim / 2; }
  STAMP_INLINE int64_t row_offset(int64_t row) const {
    return row <= high_rows ? kRows + row * row_bytes(0)
                            : kRows + (high_rows > 0 ? high_rows * row_bytes(0) : 0) +
                                  (row - high_rows) * row_bytes(kBlock - 1);
  }
  STAMP_INLINE int64_t bytes() const { return round_up(row_offset(kBlock), 64); }
};

/// Weights of a page of the cache all below this, next to softmax weights of at most 1, are no weights.
inline constexpr float kLeastPeak = 1e-30f;

/// Zero points of the cache's rows are bytes: whole steps for 8-bit rows, sixteenths for 4-bit ones.
STAMP_INLINE constexpr int zero_steps(int bits) { return bits > 4 ? 1 : 16; }

}  // namespace stamp

#pragma once
#include <cstdint>

#include "kernels/seq_transform.h"
#include "kernels/views.h"

namespace stamp {

/// Attention of a tile of queries that share one KV head: rows = tokens * group, row t * group + g is query
/// head g of the group at token t. Positions [position, position + tokens) lie in one page.
struct AttendTile {
  float* out;      // [tokens, group, head_dim], strides out_stride and head_dim
  const float* q;  // the same shape
  int64_t out_stride, q_stride;
  int64_t tokens, group, head_dim, position;
  std::byte* const* page_base;  // physical pages
  const int32_t* pages;         // the sequence's block table
  int64_t k_offset, v_offset;
  float scale;
  float* scratch;  // attend_scratch_floats(tokens * group, head_dim)
};

inline int64_t attend_scratch_floats(int64_t rows, int64_t head_dim) {
  return rows * (2 * head_dim + kBlock + 2);
}

/// The same over some of the sequence's coefficient pages, one lane a query. Pages are taken in spans of
/// kSpanPages, each with a softmax of its own, which are merged in order: spans can be computed apart.
struct CodedTile {
  float* out;      // [tokens, group, head_dim], strides out_stride and head_dim
  const float* q;  // the same shape
  int64_t out_stride, q_stride;
  int64_t tokens, group, head_dim, position;
  int64_t length;                              // tokens of the sequence in the cache
  int64_t first_page, end_page;                // first_page: that of a span
  int64_t first_sealed, end_sealed;            // the sequence's pages in this range are sealed
  std::byte *const *open, *const *sealed;      // physical pages
  const int32_t* pages;                        // the sequence's block table
  int64_t open_k, open_v, sealed_k, sealed_v;  // offsets of this head's sides in a page
  KvSide open_side, sealed_side;
  SeqTransform transform;
  int levels;
  float scale;
  const CodedTile* next;  // what this thread meets after the tile, or null
  float* state;           // coded_state_floats(tokens * group, head_dim)
  float* scratch;         // coded_scratch_floats(tokens * group, head_dim)

  STAMP_INLINE bool is_sealed(int64_t page) const { return page >= first_sealed && page < end_sealed; }
};
constexpr int64_t kSpanPages = 8;

/// Queries that meet a page together, at most (attend_page.inl).
constexpr int64_t kMostPartLanes = 2 * kPanel;

/// Outputs, greatest score and sum of each lane, of which there are whole vectors.
inline int64_t coded_state_floats(int64_t queries, int64_t head_dim) {
  return round_up(queries, kPanel) * (head_dim + 2);
}
/// Of each query: its codes and what sums over 16 of their steps begin with, step and sum.
STAMP_INLINE int64_t query_floats(int64_t head_dim) {
  return divide_up(head_dim, 4) + divide_up(head_dim, 64) + 2;
}
/// For up to kFewQueries queries and kSpanPages pages (attend_few.inl).
constexpr int64_t kFewQueries = 8;
inline int64_t few_scratch_floats(int64_t queries, int64_t head_dim) {
  constexpr int64_t kMostLanes = 16;
  const int64_t few = queries < kFewQueries ? queries : kFewQueries;
  return kSpanPages * kBlock * (head_dim / 4 + 4) +
         round_up(few * kSpanPages, kMostLanes) * (kBlock * 13 / 4 + 4) +
         kMostLanes * (head_dim + 2 + head_dim / 4);
}
inline int64_t coded_scratch_floats(int64_t queries, int64_t head_dim) {
  const int64_t ld = round_up(head_dim, 4), rows = 2 * kBlock + 8;
  const int64_t pages = rows * ld / 4 + kBlock * (ld / 2 + 2) + kBlock * (head_dim + 4);
  const int64_t parts =
      round_up(queries, kPanel) * query_floats(head_dim) + coded_state_floats(queries, head_dim);
  return pages + kMostPartLanes * (rows + kBlock * 5 / 4 + 4) + parts + few_scratch_floats(queries, head_dim);
}

/// Input channels whose products with 4-bit weights are summed in 16 bits (linear_int.inl).
constexpr int64_t kPairSpan = 64;
/// Panels of 4-bit weights that become bytes together, where products of bytes are the faster.
constexpr int kWidePanels = 2;
/// What a product needs: panels of 4-bit weights unpacked, or the rows that 8-bit ones are multiplied
/// with.
STAMP_INLINE int64_t int_scratch_bytes(const WeightView& w, int64_t rows) {
  if (w.dtype != DType::kQ4) return rows * 2 * w.padded_cols();
  const int64_t spans = w.padded_cols() / (w.group < kPairSpan ? w.group : kPairSpan);
  return w.padded_cols() * kWidePanels * kPanel + (1 + w.zero_groups() / 2 + 2 * spans) * 4 * kPanel;
}

/// A range of panels of one integer product, of whole tiles of rows. The sums of coded ones are coefficients,
/// of which `out` gets the tokens.
struct IntLinear {
  float* out = nullptr;  // [rows, cols], stride ldo
  int64_t ldo = 0, rows = 0, cols = 0;
  const uint8_t* q = nullptr;  // [rows, ldq], and the parameters of each row
  int64_t ldq = 0;
  const float *scale = nullptr, *offset = nullptr;
  const RowTile* tiles = nullptr;  // [tile_count]
  int64_t tile_count = 0;
  SeqTransform transform = SeqTransform::kIdentity;
  int levels = 0;
  const uint8_t* weights = nullptr;
  int64_t panel_bytes = 0, depth = 0;  // depth: padded input channels
  const float* weight_scale = nullptr;
  const int32_t* weight_sum = nullptr;
  // 4-bit weights alone.
  bool four_bits = false;
  int64_t groups = 0, zero_groups = 0, group = 0;
  const uint8_t *weight_group_scale = nullptr, *weight_zero = nullptr;
  /// [rows, zero_groups]: of q over each group, negated; of every four the first, the third, the second and
  /// the fourth, as the bytes of their zeros become pairs.
  const int16_t* sums = nullptr;  // CpuKernels::summed_rows
  int64_t first_panel = 0, last_panel = 0;
  uint8_t* scratch = nullptr;  // int_scratch_bytes(weight, rows)
};

constexpr int64_t kPackPad = 16;  // floats after each chain of a packed matrix

/// One instruction set's bodies: serial, on raw pointers. Files built for an instruction set must not share
/// inline functions with the rest of the program (the linker would keep one copy, maybe theirs), hence the
/// table of plain functions. CpuOps adds views, blocking and threads.
struct CpuKernels {
  const char* name;
  int64_t few_rows;                     // up to here `linear` is the faster, above `linear_packed`
  int64_t tile_rows, tile_cols, lanes;  // of linear_packed
  int64_t summed_rows;                  // of more rows int_linear does not read IntLinear::sums

  /// dst[0, n) = float(src[0, n))
  void (*widen)(float* dst, const void* src, DType dtype, int64_t n);
  /// out[r, c] = sum_k in[r, k] w[c, k] + bias[c], w of `dtype` with rows of `ldw` elements; bias may be
  /// null. Every element is one chain per SIMD lane over k, then a fixed tree: the same bits for any rows and
  /// cols.
  void (*linear)(float* out, int64_t ldo, const float* in, int64_t ldi, int64_t rows, const void* w,
                 DType dtype, int64_t ldw, int64_t cols, int64_t k, const float* bias);
  /// The same bits for at most tile_rows rows and tile_cols columns, packed before into lanes *
  /// (divide_up(k, lanes) * tile_rows (tile_cols) + kPackPad) floats.
  void (*linear_packed)(float* out, int64_t ldo, int64_t rows, int64_t cols, const float* packed_rows,
                        const float* packed_cols, int64_t k, const float* bias);
  void (*pack_rows)(float* packed, const float* in, int64_t ldi, int64_t rows, int64_t k);
  void (*pack_cols)(float* packed, const void* w, DType dtype, int64_t ldw, int64_t cols, int64_t k);
  void (*rms_norm)(float* out, const float* in, const float* gain, int64_t n, float eps);
  /// x [heads, head_dim]; cos, sin [head_dim / 2]
  void (*rope)(float* x, int64_t heads, int64_t head_dim, const float* cos, const float* sin);
  void (*silu_mul)(float* gate, const float* up, int64_t n);
  void (*add)(float* x, const float* y, int64_t n);
  void (*attend)(const AttendTile& tile);
  /// log sum exp x[0, n)
  double (*log_sum_exp)(const float* x, int64_t n);
  /// sum exp(p - log_sum_p) (p - q) over [0, n)
  double (*weighted_difference)(const float* p, const float* q, int64_t n, double log_sum_p);

  /// out = L in or L^-1 in over a block's kBlock rows; may be in place
  void (*transform)(float* out, int64_t ldo, const float* in, int64_t ldi, int64_t cols, SeqTransform kind,
                    int levels, bool inverse);
  void (*quantize_row)(uint8_t* q, float* scale, float* offset, const float* x, int64_t n, int64_t padded,
                       int bits);
  void (*dequantize_row)(float* x, const uint8_t* q, int64_t n, float scale, float offset);
  void (*group_sums)(int16_t* sums, const uint8_t* q, int64_t groups, int64_t group);  // IntLinear::sums
  /// x = scale * H x, n a power of two, H with entries of +-1
  void (*hadamard)(float* x, int64_t n, float scale);
  void (*int_linear)(const IntLinear& product);
  /// out [count, padded cols] = rows [row, row + count) of a weight as floats
  void (*widen_rows)(float* out, int64_t ldo, const IntLinear& product, int64_t row, int64_t count);
  void (*kv_write_row)(std::byte* side, const KvSide& format, int64_t row, const float* x);
  void (*kv_unpack)(float* out, const std::byte* side, const KvSide& format, int64_t rows);
  void (*kv_seal)(std::byte* side, const KvSide& format, const float* x, int64_t ldx, SeqTransform kind,
                  int levels, float* scratch);
  /// The tile's state after its pages, and its output from the states of `spans`, `stride` floats apart.
  void (*attend_coded)(const CodedTile& tile);
  void (*finish_coded)(const CodedTile& tile, int64_t spans, int64_t stride);
};

const CpuKernels& scalar_kernels();
#if defined(__x86_64__)
const CpuKernels& avx2_kernels();
const CpuKernels& avxvnni_kernels();
const CpuKernels& avx512_kernels();
const CpuKernels& avx512vnni_kernels();
const CpuKernels& amx_kernels();
#elif defined(__aarch64__)
const CpuKernels& neon_kernels();
const CpuKernels& neoni8mm_kernels();
#endif

}  // namespace stamp

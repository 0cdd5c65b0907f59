#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/tile_plan.h"
#include "kernels/draw.h"
#include "kernels/seq_transform.h"
#include "kernels/views.h"

/// The kernels' launchers. Every pointer is device memory; every call only enqueues. Shapes are those of
/// kernels/ops.h.
namespace stamp::cuda {

/// QuantMat on the device.
struct Integers {
  uint8_t* q = nullptr;  // [rows, stride]
  int64_t rows = 0, cols = 0, stride = 0;
  float *scale = nullptr, *offset = nullptr;
  BitPlan plan;
  const RowTile* tiles = nullptr;
  int64_t tile_count = 0;
  bool any_coded = false;  // of the tiles
};

/// A physical page: where its two forms begin, all layers.
struct PageBases {
  std::byte *open = nullptr, *sealed = nullptr;
};

/// Tokens of one run that go to one page, slots [begin, end). Their rows are `row` and the following.
struct PageWrite {
  int64_t page = 0, row = 0;  // page: index into Cache::pages
  int begin = 0, end = 0;
  bool seals = false;
};

/// KvPages on the device.
struct Cache {
  const PageBases* pages = nullptr;
  int64_t layer_index = 0, kv_heads = 0, head_dim = 0;
  KvFormat format;
  KvSide open_side, sealed_side;
  int64_t open_layer_bytes = 0, sealed_layer_bytes = 0;
};

/// An AttentionPlan on the device.
struct AttentionTiles {
  const QueryTile *many = nullptr, *few = nullptr, *split = nullptr;
  int64_t many_count = 0, few_count = 0, split_count = 0;
  int64_t many_queries = 0;  // of a tile of many, at most
};

/// Scratch for the splits of AttentionPlan::few.
struct Partials {
  float* sums = nullptr;      // [parts, kv_heads, kFewQueries, head_dim]
  float2* softmax = nullptr;  // [kv_heads, kFewQueries, parts]: largest score, sum of weights
  int64_t kv_heads = 0, parts = 0;
  STAMP_INLINE int64_t row(int64_t part, int64_t head) const {
    return (part * kv_heads + head) * kFewQueries;
  }
  STAMP_INLINE int64_t softmax_at(int64_t part, int64_t head, int64_t query) const {
    return (head * kFewQueries + query) * parts + part;
  }
};

void embed(Mat<float> out, const int32_t* ids, const WeightView& table, cudaStream_t stream);
void gather(Mat<float> out, Mat<const float> in, const int32_t* rows, cudaStream_t stream);
/// Rotary embedding of every head and, where a head `rotates`, its Hadamard rotation.
struct Heads {
  static constexpr int kMost = 2, kMostRotated = 512;  // matrices; channels of a head that rotates
  struct One {
    Mat<float> x{};  // [rows, heads * 2 * cos.cols]
    bool rotates = false;
    const float* signs = nullptr;  // [x.cols] or null
  };
  One one[kMost];
  int count = 0;
  Mat<const float> cos, sin;
};
void turn_heads(const Heads& heads, cudaStream_t stream);

void argmax(int32_t* out, Mat<const float> logits, cudaStream_t stream);
void draw(int32_t* out, Mat<const float> logits, const Draw* draws, int64_t count, cudaStream_t stream);
void token_logprobs(float* out, Mat<const float> logits, const int32_t* targets, cudaStream_t stream);
void kl_divergence(float* out, Mat<const float> reference, Mat<const float> logits, cudaStream_t stream);

/// out = scale * q + offset
void dequantize(Mat<float> out, const Integers& in, cudaStream_t stream);

/// Rows of activations as what cuBLASLt multiplies: row r is 2^-shift[r] times the sum of its terms, which
/// have a weight's type. Two halves keep 22 bits, three BF16 all 24; FP32 is one term, and not shifted.
struct Terms {
  DType type = DType::kF32;
  void* data = nullptr;      // [rows, count(), stride], rows on 256 bytes
  int32_t* shift = nullptr;  // [rows], of 16-bit types
  int64_t stride = 0;        // elements
  STAMP_INLINE int count() const { return type == DType::kF16 ? 2 : type == DType::kBF16 ? 3 : 1; }
};
/// What is not finite has a term that is not.
void split_terms(const Terms& out, Mat<const float> in, cudaStream_t stream);
/// out = what the terms' products [rows * count(), n] are together, + bias; `bias` may be null.
void sum_terms(Mat<float> out, Mat<const float> products, const Terms& terms, const float* bias,
               cudaStream_t stream);
/// Rows [first, first + out.rows) of a weight of any type at their float values.
void expand_weight(Mat<float> out, const WeightView& weight, int64_t first, cudaStream_t stream);
/// In place, what is left of a product of `in` after that of its values: L^-1 where a tile is coded, and the
/// bias.
void finish_tiles(Mat<float> out, const Integers& in, const DctTable* dct, const float* bias,
                  cudaStream_t stream);

/// Rows as MmaPath::kFour takes them, in lines of 64 input channels, of which 16 are 8 bytes: the low nibbles
/// channels 0..3 and 8..11 of these, the high ones 4..7 and 12..15, as in panels (quant_format.h).
struct SplitRows {
  uint8_t* nibbles = nullptr;  // [tiles, lines, 2, kBlock, 32]: lower halves, and upper ones of wide_rows()
  // Minus the sums of lines, for zero points, as two bytes, the upper signed: [tiles, 2, zero groups /
  // kZeroGroups, kBlock, kZeroGroups], the upper ones first.
  uint8_t* sums = nullptr;
  int64_t lines = 0;
  bool with_bytes = false;  // whether Integers::q is written, too, for weights of other bits
};
/// Bytes of either.
int64_t split_nibbles_size(const Integers& in, int64_t lines);
int64_t split_sums_size(const Integers& in, int64_t lines);
void split_rows(const SplitRows& out, const Integers& in, cudaStream_t stream);

/// Over tiles some of which are coded; see row_chain.h for others.
struct Quantize {
  Integers out;
  Mat<const float> in{};
  const DctTable* dct = nullptr;
  float* extremes = nullptr;    // scratch of extremes_size(out)
  float* factors = nullptr;     // [rows], scratch of whoever defers an RMS norm
  const float* gain = nullptr;  // of the norm that is left to do, x * factors * gain, or null
  SplitRows split{};            // written in the place of out.q, if it has memory
};
int64_t extremes_size(const Integers& out);
void quantize(const Quantize& quantize, cudaStream_t stream);
/// L^-1 (in weight^T) + bias by integer products, in one launch; `split` is for MmaPath::kFour. Groups are
/// powers of two from 32 on.
struct LinearInt {
  LinearProducts products;
  Integers in;
  SplitRows split;
  const DctTable* dct = nullptr;
  Device device;
};
void linear_int(const LinearInt& linear, cudaStream_t stream);
/// The same by MmaPath::kWgmma, in blocks of TilePlan::row_tiles.
void linear_wgmma(const LinearInt& linear, int row_tiles, cudaStream_t stream);
/// Whether this program has its code, which is for compute capability 9.0 alone.
bool has_wgmma_code();

/// out = the same bits for at most kFewRows rows (tile_plan.h), none of them coded, in one launch.
void linear_few(const LinearProducts& products, const Integers& in, cudaStream_t stream);

void append_kv(const Cache& cache, Mat<const float> k, Mat<const float> v, const PageWrite* writes,
               int64_t count, const DctTable* dct, cudaStream_t stream);
/// For plan_attention().
TileMemory memory_of_tile(const Cache& cache);
void attention(Mat<float> out, Mat<const float> q, const Cache& cache, const AttentionTiles& tiles,
               const Partials& partials, float scale, const DctTable* dct, cudaStream_t stream);

}  // namespace stamp::cuda

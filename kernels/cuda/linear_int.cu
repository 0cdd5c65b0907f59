// Products of integers on tensor cores. A block multiplies one tile of up to 64 rows by 1 or 4 panels of 16
// output channels, one warp a panel; rows and weights arrive through a pipeline of asynchronous copies. The
// sums of a group of input channels are exact; they are scaled group after group in the order of
// kernels/cpu/linear_int.inl, so that both give the same bits. The epilogue scales rows, turns coefficients
// back into tokens and adds the bias.
//
// The inner index may be permuted as long as both operands agree. A lane takes eight consecutive input
// channels of a row in one load, which is what a word of a panel holds: its low nibbles are channels 0..3,
// its high ones 4..7.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/seq_transform.cuh"
#include "kernels/cuda/tile_plan.h"

namespace stamp::cuda {
namespace {

constexpr int kRows = kB, kDepth = 64, kStages = 3;  // kDepth: input channels of a stage
constexpr int kMTiles = kRows / 16, kNTiles = int(kPanel) / 8;
constexpr int kChunk = 16;  // bytes of one copy

/// Bytes of a panel's stage: 64 for every 8 (4-bit) or 4 (8-bit) input channels.
template <bool kFourBits>
constexpr int kPanelStage = kDepth / (kFourBits ? 8 : 4) * 64;

/// Rows and panels lie in lines of 64 bytes: a row's input channels, or a panel's step of 16 channels x 4
/// bytes.
constexpr int kLine = 64, kChunksPerLine = kLine / kChunk;
static_assert(kDepth == kLine);

template <bool kFourBits, int kPanels>
struct Storage {
  // A quarter of a warp stores two rows of the product at once: in halves of the banks.
  static constexpr int kProductPitch = kPanels * kPanel + (kPanels % 2 == 0 ? 16 : 0);
  union {
    struct {
      alignas(16) uint8_t rows[kStages][kRows * kLine];
      alignas(16) uint8_t panels[kStages][kPanels][kPanelStage<kFourBits>];
    };
    alignas(16) float product[kRows][kProductPitch];
  };
};

/// Where a chunk of a line lies: a warp reads half lines of four lines at once, which then meet in no bank.
__device__ __forceinline__ int chunk_offset(int line, int chunk) {
  return (line * kChunksPerLine + (chunk ^ (line >> 1 & 1) * 2)) * kChunk;
}
/// The line of a panel's step. A lane reads an 8-bit step and the one after it: these lie apart, those that a
/// warp reads at once together.
template <bool kFourBits>
__device__ __forceinline__ int line_of(int step) {
  return kFourBits ? step : step / 8 * 8 + step % 8 / 2 + step % 2 * 4;
}
template <bool kFourBits>
__device__ __forceinline__ int step_of(int line) {
  return kFourBits ? line : line / 8 * 8 + line % 4 * 2 + line % 8 / 4;
}

/// Output channels of a panel are dealt to the columns of the two column tiles so that a lane's four, two of
/// each tile, follow each other: column j of tile n is channel 4 (j / 2) + 2 (j % 2) + n.
__device__ __forceinline__ uint2 panel_words(const uint8_t* panel, int line) {
  const int column = int(threadIdx.x) % kWarpSize / 4;
  return *reinterpret_cast<const uint2*>(panel + chunk_offset(line, column / 2) + column % 2 * 8);
}
/// Eight input channels from `k` of a row.
__device__ __forceinline__ uint2 row_words(const uint8_t* rows, int r, int k) {
  return *reinterpret_cast<const uint2*>(rows + chunk_offset(r, k / kChunk) + k % kChunk);
}

/// Starts the copies of the input channels [k, k + kDepth) into a stage; absent rows and panels become zeros.
template <bool kFourBits, int kPanels>
__device__ __forceinline__ void fetch(Storage<kFourBits, kPanels>& s, int stage, const RowTile& tile,
                                      const Integers& in, const WeightView& weight, int k) {
  constexpr int kThreads = kPanels * kWarpSize, kRowChunks = kDepth / kChunk;
  constexpr int kPanelChunks = kPanelStage<kFourBits> / kChunk;
  for (int i = int(threadIdx.x); i < kRows * kRowChunks; i += kThreads) {
    const int r = i / kRowChunks, chunk = i % kRowChunks;
    const bool present = r < tile.count;
    copy_async_16(&s.rows[stage][chunk_offset(r, chunk)],
                  in.q + (tile.row + (present ? r : 0)) * in.stride + k + chunk * kChunk,
                  present ? kChunk : 0);
  }
  for (int i = int(threadIdx.x); i < kPanels * kPanelChunks; i += kThreads) {
    const int p = i / kPanelChunks, line = i % kPanelChunks / kChunksPerLine, chunk = i % kChunksPerLine;
    const int64_t panel = int64_t(blockIdx.y) * kPanels + p;
    const bool present = panel < weight.panels();
    const auto* const steps = static_cast<const uint8_t*>(weight.data) +
                              (present ? panel : 0) * weight.panel_bytes() + k / (kFourBits ? 8 : 4) * kLine;
    copy_async_16(&s.panels[stage][p][chunk_offset(line, chunk)],
                  steps + step_of<kFourBits>(line) * kLine + chunk * kChunk, present ? kChunk : 0);
  }
}

/// Low nibbles of eight bytes in the order of a panel's word; the high ones of the bytes alike.
__device__ __forceinline__ uint32_t low_nibbles(uint2 x) {
  return (x.x & 0x0f0f0f0fu) | (x.y & 0x0f0f0f0fu) << 4;
}
__device__ __forceinline__ uint32_t high_nibbles(uint2 x) {
  return (x.x >> 4 & 0x0f0f0f0fu) | (x.y & 0xf0f0f0f0u);
}

/// The lane's part of the accumulators: [row tile of 16][column tile of 8][fragment].
using Sums = int32_t[kMTiles][kNTiles][4];

/// sums += 32 input channels from `k` of the stage, as 8-bit products.
template <bool kFourBits>
__device__ __forceinline__ void multiply_eight(Sums& sums, const uint8_t* rows, const uint8_t* panel, int k,
                                               int row_tiles) {
  const int group = int(threadIdx.x) % kWarpSize / 4, four = int(threadIdx.x) % 4;
  uint32_t b[kNTiles][2];
  if constexpr (kFourBits) {
    const uint2 words = panel_words(panel, k / 8 + four);
    b[0][0] = words.x & 0x0f0f0f0fu, b[0][1] = words.x >> 4 & 0x0f0f0f0fu;
    b[1][0] = words.y & 0x0f0f0f0fu, b[1][1] = words.y >> 4 & 0x0f0f0f0fu;
  } else {
    const uint2 first = panel_words(panel, line_of<false>(k / 4 + 2 * four));
    const uint2 second = panel_words(panel, line_of<false>(k / 4 + 2 * four + 1));
    b[0][0] = first.x, b[0][1] = second.x;
    b[1][0] = first.y, b[1][1] = second.y;
  }
#pragma unroll
  for (int m = 0; m < kMTiles; ++m) {
    if (m >= row_tiles) break;
    const uint2 upper = row_words(rows, m * 16 + group, k + 8 * four);
    const uint2 lower = row_words(rows, m * 16 + group + 8, k + 8 * four);
    const uint32_t a[4] = {upper.x, lower.x, upper.y, lower.y};
#pragma unroll
    for (int n = 0; n < kNTiles; ++n) {
      if constexpr (kFourBits) mma_u8_u8(sums[m][n], a, b[n]);
      else mma_u8_s8(sums[m][n], a, b[n]);
    }
  }
}

/// sums += the 64 input channels of the stage, as 4-bit products: of a row's low nibbles, and 16 times those
/// of its high ones where a row tile has any (bit m of `wide`).
__device__ __forceinline__ void multiply_four(Sums& sums, const uint8_t* rows, const uint8_t* panel,
                                              int row_tiles, unsigned wide) {
  const int group = int(threadIdx.x) % kWarpSize / 4, four = int(threadIdx.x) % 4;
  const uint2 first = panel_words(panel, four), second = panel_words(panel, 4 + four);
  const uint32_t b[kNTiles][2] = {{first.x, second.x}, {first.y, second.y}};
#pragma unroll
  for (int m = 0; m < kMTiles; ++m) {
    if (m >= row_tiles) break;
    uint2 x[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = row_words(rows, m * 16 + group + i % 2 * 8, i / 2 * 32 + 8 * four);
    const uint32_t low[4] = {low_nibbles(x[0]), low_nibbles(x[1]), low_nibbles(x[2]), low_nibbles(x[3])};
#pragma unroll
    for (int n = 0; n < kNTiles; ++n) mma_u4_u4(sums[m][n], low, b[n]);
    if ((wide >> m & 1) == 0) continue;
    const uint32_t high[4] = {high_nibbles(x[0]), high_nibbles(x[1]), high_nibbles(x[2]), high_nibbles(x[3])};
#pragma unroll
    for (int n = 0; n < kNTiles; ++n) {
      int32_t upper[4] = {};
      mma_u4_u4(upper, high, b[n]);
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] += 16 * upper[i];
    }
  }
}

/// total += scale * (sums - zero / 16 * the rows' own sums), and the sums begin anew. row_sums: of the tile's
/// rows.
template <bool kFourBits>
__device__ __forceinline__ void scale_group(float (&total)[kMTiles][kNTiles][4], Sums& sums,
                                            const WeightView& weight, int64_t panel, int64_t g,
                                            const float* row_sums, int rows) {
  const int group = int(threadIdx.x) % kWarpSize / 4, four = int(threadIdx.x) % 4;
  const int64_t at = (int64_t(panel) * weight.groups() + g) * kPanel + 4 * four;
  const uint2 halves = *reinterpret_cast<const uint2*>(weight.scale + at);
  const float scale[4] = {
      half_bits_to_float(uint16_t(halves.x)), half_bits_to_float(uint16_t(halves.x >> 16)),
      half_bits_to_float(uint16_t(halves.y)), half_bits_to_float(uint16_t(halves.y >> 16))};
  float shift[4] = {};
  if constexpr (kFourBits) {
    const uint32_t zeros = *reinterpret_cast<const uint32_t*>(weight.zero + at);
#pragma unroll
    for (int c = 0; c < 4; ++c) shift[c] = float(zeros >> 8 * c & 255) * (-1.0f / 16) * scale[c];
  }
#pragma unroll
  for (int m = 0; m < kMTiles; ++m) {
    if (m * 16 >= rows) break;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = m * 16 + group + half * 8;
      float row_sum = 0.0f;
      if constexpr (kFourBits) row_sum = r < rows ? row_sums[r] : 0.0f;
#pragma unroll
      for (int c = 0; c < 4; ++c) {  // channel c of the lane: tile c % 2, its column c / 2
        float& t = total[m][c % 2][2 * half + c / 2];
        int32_t& sum = sums[m][c % 2][2 * half + c / 2];
        t = fmaf(float(sum), scale[c], t);
        if constexpr (kFourBits) t = fmaf(row_sum, shift[c], t);
        sum = 0;
      }
    }
  }
}

template <bool kFourBits, MmaPath kPath, int kPanels>
__global__ void __launch_bounds__(kPanels* kWarpSize, 2)
    linear_int_kernel(Mat<float> out, Integers in, WeightView weight, const float* row_sums,
                      const float* bias, const DctTable* dct) {
  auto& s = shared_storage<Storage<kFourBits, kPanels>>();
  const RowTile tile = in.tiles[blockIdx.x];
  const int warp = int(threadIdx.x) / kWarpSize, rows = int(tile.count), row_tiles = (rows + 15) / 16;
  const int panel = int(blockIdx.y) * kPanels + warp, depth = int(weight.padded_cols());
  const int group = kFourBits ? int(weight.group) : depth;
  const auto sums_of = [&](int g) { return row_sums + int64_t(g) * in.rows + tile.row; };
  unsigned wide = 0;  // row tiles with more than four bits somewhere
  if constexpr (kPath == MmaPath::kFour) {
    const int rows_of_eight = in.plan.high_bits > 4 ? in.plan.high_rows : 0;
    const int wide_rows = !tile.coded || in.plan.low_bits > 4 ? kRows : rows_of_eight;
    wide = (1u << (wide_rows + 15) / 16) - 1;
  }

  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (stage * kDepth < depth) fetch(s, stage, tile, in, weight, stage * kDepth);
    commit_copies();
  }
  Sums sums = {};
  float total[kMTiles][kNTiles][4] = {};
  for (int k = 0, stage = 0; k < depth; k += kDepth, stage = (stage + 1) % kStages) {
    wait_copies<kStages - 2>();
    __syncthreads();  // the stage has arrived for everyone, and everyone is done with the one before
    const int next = k + (kStages - 1) * kDepth;
    if (next < depth) fetch(s, (stage + kStages - 1) % kStages, tile, in, weight, next);
    commit_copies();
    const uint8_t* const words = s.panels[stage][warp];
    if constexpr (kPath == MmaPath::kFour) {
      multiply_four(sums, s.rows[stage], words, row_tiles, wide);
    } else {
      multiply_eight<kFourBits>(sums, s.rows[stage], words, 0, row_tiles);
      if (kFourBits && group == 32 && panel < weight.panels())
        scale_group<kFourBits>(total, sums, weight, panel, k / 32, sums_of(k / 32), rows);
      multiply_eight<kFourBits>(sums, s.rows[stage], words, 32, row_tiles);
    }
    const int end = k + kDepth;
    if (end % group == 0 && panel < weight.panels())
      scale_group<kFourBits>(total, sums, weight, panel, end / group - 1, sums_of(end / group - 1), rows);
  }
  wait_copies<0>();
  __syncthreads();  // the stages become the product

  const int group_row = int(threadIdx.x) % kWarpSize / 4, four = int(threadIdx.x) % 4;
  float4 weight_sum = {};
  if (panel < weight.panels())
    weight_sum = *reinterpret_cast<const float4*>(weight.sum + panel * kPanel + 4 * four);
#pragma unroll
  for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = m * 16 + group_row + half * 8;
      const float scale = r < rows ? in.scale[tile.row + r] : 0.0f,
                  offset = r < rows ? in.offset[tile.row + r] : 0.0f;
      const float *const even = &total[m][0][2 * half], *const odd = &total[m][1][2 * half];
      *reinterpret_cast<float4*>(&s.product[r][warp * kPanel + 4 * four]) = make_float4(
          fmaf(scale, even[0], offset * weight_sum.x), fmaf(scale, odd[0], offset * weight_sum.y),
          fmaf(scale, even[1], offset * weight_sum.z), fmaf(scale, odd[1], offset * weight_sum.w));
    }
  }
  __syncthreads();
  for (int c = int(threadIdx.x); c < kPanels * kPanel; c += kPanels * kWarpSize) {
    const int64_t channel = int64_t(blockIdx.y) * kPanels * kPanel + c;
    if (channel >= out.cols) break;
    if (tile.coded)
      transform_column<true>(&s.product[0][c], Storage<kFourBits, kPanels>::kProductPitch, in.plan, dct);
    const float shift = bias != nullptr ? bias[channel] : 0.0f;
    for (int r = 0; r < rows; ++r) out.row(tile.row + r)[channel] = s.product[r][c] + shift;
  }
}

constexpr int kSumRows = 32, kSumDepth = 512, kSumWarps = 8;  // rows and input channels of a block

struct GroupSums {
  // Written by group / 16 lanes apart, read along rows.
  float sum[kSumDepth / 32][kSumRows + 1];
};

/// A warp reads 512 input channels of a row, 16 a lane; neighbouring lanes add up a group. Sums leave by
/// groups, rows together.
__global__ void __launch_bounds__(kSumWarps* kWarpSize)
    group_sums_kernel(float* sums, Integers in, int groups, int group) {
  auto& s = shared_storage<GroupSums>();
  const int lane = int(threadIdx.x) % kWarpSize, warp = int(threadIdx.x) / kWarpSize, lanes = group / 16;
  const int64_t first_row = int64_t(blockIdx.x) * kSumRows, depth = int64_t{groups} * group;
  const int64_t channel = int64_t(blockIdx.y) * kSumDepth + lane * 16;
  const auto rows = int(min(int64_t{kSumRows}, in.rows - first_row));
  for (int r = warp; r < rows; r += kSumWarps) {
    uint4 x{};
    if (channel < depth) x = *reinterpret_cast<const uint4*>(in.q + (first_row + r) * in.stride + channel);
    auto sum = int(__dp4a(x.x, 0x01010101u, __dp4a(x.y, 0x01010101u, 0u)) +
                   __dp4a(x.z, 0x01010101u, __dp4a(x.w, 0x01010101u, 0u)));
    for (int distance = lanes / 2; distance > 0; distance /= 2)
      sum += __shfl_xor_sync(kFullWarp, sum, distance);
    if (lane % lanes == 0) s.sum[lane / lanes][r] = float(sum);
  }
  __syncthreads();
  const int first_group = int(blockIdx.y) * (kSumDepth / group);
  const int live = min(kSumDepth / group, groups - first_group);
  for (int i = int(threadIdx.x); i < live * rows; i += kSumWarps * kWarpSize)
    sums[(first_group + i / rows) * in.rows + first_row + i % rows] = s.sum[i / rows][i % rows];
}

template <bool kFourBits, MmaPath kPath, int kPanels>
void start(Mat<float> out, const Integers& in, const WeightView& weight, const float* sums, const float* bias,
           const DctTable* dct, cudaStream_t stream) {
  const dim3 grid(uint32_t(in.tile_count), uint32_t(divide_up(weight.panels(), kPanels)));
  launch("linear_int", linear_int_kernel<kFourBits, kPath, kPanels>,
         {grid, kPanels * kWarpSize, sizeof(Storage<kFourBits, kPanels>)}, stream, out, in, weight, sums,
         bias, dct);
}

template <bool kFourBits, MmaPath kPath>
void start(const TilePlan& plan, Mat<float> out, const Integers& in, const WeightView& weight,
           const float* sums, const float* bias, const DctTable* dct, cudaStream_t stream) {
  if (plan.panels == 1) start<kFourBits, kPath, 1>(out, in, weight, sums, bias, dct, stream);
  else start<kFourBits, kPath, 4>(out, in, weight, sums, bias, dct, stream);
}

}  // namespace

void group_sums(float* sums, const Integers& in, int64_t groups, int64_t group, cudaStream_t stream) {
  const dim3 grid(uint32_t(divide_up(in.rows, kSumRows)), uint32_t(divide_up(groups * group, kSumDepth)));
  launch("group_sums", group_sums_kernel, {grid, kSumWarps * kWarpSize, sizeof(GroupSums)}, stream, sums, in,
         int(groups), int(group));
}

void linear_int(Mat<float> out, const Integers& in, const WeightView& weight, const float* sums,
                const float* bias, const DctTable* dct, int compute_capability, cudaStream_t stream) {
  const TilePlan plan = plan_linear(in.tile_count, weight, compute_capability);
  if (weight.dtype == DType::kQ8)
    start<false, MmaPath::kEight>(plan, out, in, weight, nullptr, bias, dct, stream);
  else if (plan.path == MmaPath::kFour)
    start<true, MmaPath::kFour>(plan, out, in, weight, sums, bias, dct, stream);
  else start<true, MmaPath::kEight>(plan, out, in, weight, sums, bias, dct, stream);
}

}  // namespace stamp::cuda

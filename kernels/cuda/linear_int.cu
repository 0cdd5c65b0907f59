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
constexpr int kPitch = kDepth + 32;  // bytes of a row in shared memory: 32 modulo 128 keeps rows' banks apart
constexpr int kChunk = 16;           // bytes of one copy

/// Bytes of a panel's stage: 64 for every 8 (4-bit) or 4 (8-bit) input channels.
template <bool kFourBits>
constexpr int kPanelStage = kDepth / (kFourBits ? 8 : 4) * 64;

template <bool kFourBits, int kPanels>
struct Storage {
  union {
    struct {
      alignas(16) uint8_t rows[kStages][kRows][kPitch];
      alignas(16) uint8_t panels[kStages][kPanels][kPanelStage<kFourBits>];
    };
    float product[kRows][kPanels * kPanel + 8];  // 8 modulo 32: a warp's pairs of columns fill all banks
  };
};

/// Where a panel's 64-byte step lies in its stage, and where its 16-byte chunks: so that the words that a
/// warp reads at once lie in different banks. An 8-bit step has a partner that the same lane reads next.
template <bool kFourBits>
__device__ __forceinline__ int chunk_offset(int step, int chunk) {
  const int slot = kFourBits ? step : step / 8 * 8 + step % 8 / 2 + step % 2 * 4;
  return (slot * 4 + (chunk ^ (slot >> 1 & 1) * 2)) * kChunk;
}
template <bool kFourBits>
__device__ __forceinline__ uint32_t panel_word(const uint8_t* panel, int step, int channel) {
  return *reinterpret_cast<const uint32_t*>(panel + chunk_offset<kFourBits>(step, channel / 4) +
                                            channel % 4 * 4);
}

/// Starts the copies of the input channels [k, k + kDepth) into a stage; absent rows and panels become zeros.
template <bool kFourBits, int kPanels>
__device__ __forceinline__ void fetch(Storage<kFourBits, kPanels>& s, int stage, const RowTile& tile,
                                      const Integers& in, const WeightView& weight, int64_t k) {
  constexpr int kThreads = kPanels * kWarpSize, kRowChunks = kDepth / kChunk;
  constexpr int kPanelChunks = kPanelStage<kFourBits> / kChunk;
  for (int i = int(threadIdx.x); i < kRows * kRowChunks; i += kThreads) {
    const int r = i / kRowChunks, chunk = i % kRowChunks;
    const bool present = r < tile.count;
    copy_async_16(&s.rows[stage][r][chunk * kChunk],
                  in.q + (tile.row + (present ? r : 0)) * in.stride + k + chunk * kChunk,
                  present ? kChunk : 0);
  }
  for (int i = int(threadIdx.x); i < kPanels * kPanelChunks; i += kThreads) {
    const int p = i / kPanelChunks, chunk = i % kPanelChunks;
    const int64_t panel = int64_t(blockIdx.y) * kPanels + p;
    const bool present = panel < weight.panels();
    const auto* const source = static_cast<const uint8_t*>(weight.data) +
                               (present ? panel : 0) * weight.panel_bytes() + k / (kFourBits ? 8 : 4) * 64;
    copy_async_16(&s.panels[stage][p][chunk_offset<kFourBits>(chunk / 4, chunk % 4)], source + chunk * kChunk,
                  present ? kChunk : 0);
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
__device__ __forceinline__ void multiply_eight(Sums& sums, const uint8_t (&rows)[kRows][kPitch],
                                               const uint8_t* panel, int k, int row_tiles) {
  const int group = int(threadIdx.x) % kWarpSize / 4, four = int(threadIdx.x) % 4;
  uint32_t b[kNTiles][2];
#pragma unroll
  for (int n = 0; n < kNTiles; ++n) {
    if constexpr (kFourBits) {
      const uint32_t word = panel_word<true>(panel, k / 8 + four, n * 8 + group);
      b[n][0] = word & 0x0f0f0f0fu;
      b[n][1] = word >> 4 & 0x0f0f0f0fu;
    } else {
      b[n][0] = panel_word<false>(panel, k / 4 + 2 * four, n * 8 + group);
      b[n][1] = panel_word<false>(panel, k / 4 + 2 * four + 1, n * 8 + group);
    }
  }
#pragma unroll
  for (int m = 0; m < kMTiles; ++m) {
    if (m >= row_tiles) break;
    const auto upper = *reinterpret_cast<const uint2*>(&rows[m * 16 + group][k + 8 * four]);
    const auto lower = *reinterpret_cast<const uint2*>(&rows[m * 16 + group + 8][k + 8 * four]);
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
__device__ __forceinline__ void multiply_four(Sums& sums, const uint8_t (&rows)[kRows][kPitch],
                                              const uint8_t* panel, int row_tiles, unsigned wide) {
  const int group = int(threadIdx.x) % kWarpSize / 4, four = int(threadIdx.x) % 4;
  uint32_t b[kNTiles][2];
#pragma unroll
  for (int n = 0; n < kNTiles; ++n) {
    b[n][0] = panel_word<true>(panel, four, n * 8 + group);
    b[n][1] = panel_word<true>(panel, 4 + four, n * 8 + group);
  }
#pragma unroll
  for (int m = 0; m < kMTiles; ++m) {
    if (m >= row_tiles) break;
    uint2 x[4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
      x[i] = *reinterpret_cast<const uint2*>(&rows[m * 16 + group + i % 2 * 8][i / 2 * 32 + 8 * four]);
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

/// total += scale * (sums - zero / 16 * the rows' own sums), and the sums begin anew.
template <bool kFourBits>
__device__ __forceinline__ void scale_group(float (&total)[kMTiles][kNTiles][4], Sums& sums,
                                            const WeightView& weight, int64_t panel, int64_t g,
                                            const float* row_sums, int rows) {
  const int group = int(threadIdx.x) % kWarpSize / 4, four = int(threadIdx.x) % 4;
  float scale[kNTiles][2], shift[kNTiles][2];
#pragma unroll
  for (int n = 0; n < kNTiles; ++n) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int64_t at = (panel * weight.groups() + g) * kPanel + n * 8 + 2 * four + i;
      scale[n][i] = half_bits_to_float(weight.scale[at]);
      if constexpr (kFourBits) shift[n][i] = float(weight.zero[at]) * (-1.0f / 16) * scale[n][i];
    }
  }
#pragma unroll
  for (int m = 0; m < kMTiles; ++m) {
    if (m * 16 >= rows) break;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = m * 16 + group + i / 2 * 8;
      float row_sum = 0.0f;
      if constexpr (kFourBits) row_sum = r < rows ? row_sums[r * weight.groups() + g] : 0.0f;
#pragma unroll
      for (int n = 0; n < kNTiles; ++n) {
        float& t = total[m][n][i];
        t = fmaf(float(sums[m][n][i]), scale[n][i % 2], t);
        if constexpr (kFourBits) t = fmaf(row_sum, shift[n][i % 2], t);
        sums[m][n][i] = 0;
      }
    }
  }
}

template <bool kFourBits, MmaPath kPath, int kPanels>
__global__ void __launch_bounds__(kPanels* kWarpSize)
    linear_int_kernel(Mat<float> out, Integers in, WeightView weight, const float* row_sums,
                      const float* bias, const DctTable dct) {
  auto& s = shared_storage<Storage<kFourBits, kPanels>>();
  const RowTile tile = in.tiles[blockIdx.x];
  const int warp = int(threadIdx.x) / kWarpSize, rows = int(tile.count), row_tiles = (rows + 15) / 16;
  const int64_t panel = int64_t(blockIdx.y) * kPanels + warp, depth = weight.padded_cols();
  const int64_t group = kFourBits ? weight.group : depth;
  if (row_sums != nullptr) row_sums += tile.row * weight.groups();
  // Row tiles with more than four bits somewhere.
  const int wide_rows = !tile.coded || in.plan.low_bits > 4 ? kRows
                        : in.plan.high_bits > 4             ? in.plan.high_rows
                                                            : 0;
  const unsigned wide = (1u << (wide_rows + 15) / 16) - 1;

  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (stage * kDepth < depth) fetch(s, stage, tile, in, weight, stage * kDepth);
    commit_copies();
  }
  Sums sums = {};
  float total[kMTiles][kNTiles][4] = {};
  for (int64_t k = 0, stage = 0; k < depth; k += kDepth, stage = (stage + 1) % kStages) {
    wait_copies<kStages - 2>();
    __syncthreads();  // the stage has arrived for everyone, and everyone is done with the one before
    const int64_t next = k + (kStages - 1) * kDepth;
    if (next < depth) fetch(s, int((stage + kStages - 1) % kStages), tile, in, weight, next);
    commit_copies();
    const uint8_t* const words = s.panels[stage][warp];
    if constexpr (kPath == MmaPath::kFour) {
      multiply_four(sums, s.rows[stage], words, row_tiles, wide);
    } else {
      multiply_eight<kFourBits>(sums, s.rows[stage], words, 0, row_tiles);
      if (kFourBits && group == 32 && panel < weight.panels())
        scale_group<kFourBits>(total, sums, weight, panel, k / 32, row_sums, rows);
      multiply_eight<kFourBits>(sums, s.rows[stage], words, 32, row_tiles);
    }
    const int64_t end = k + kDepth;
    if (end % group == 0 && panel < weight.panels())
      scale_group<kFourBits>(total, sums, weight, panel, end / group - 1, row_sums, rows);
  }
  wait_copies<0>();
  __syncthreads();  // the stages become the product

  const int lane_row = int(threadIdx.x) % kWarpSize / 4, lane_col = int(threadIdx.x) % 4 * 2;
#pragma unroll
  for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int r = m * 16 + lane_row + half * 8;
      const float scale = r < rows ? in.scale[tile.row + r] : 0.0f,
                  offset = r < rows ? in.offset[tile.row + r] : 0.0f;
#pragma unroll
      for (int n = 0; n < kNTiles; ++n) {
        const int64_t channel = panel * kPanel + n * 8 + lane_col;
        const bool present = panel < weight.panels();
        const float *const t = &total[m][n][2 * half], left = present ? weight.sum[channel] : 0.0f,
                           right = present ? weight.sum[channel + 1] : 0.0f;
        *reinterpret_cast<float2*>(&s.product[r][warp * kPanel + n * 8 + lane_col]) =
            make_float2(fmaf(scale, t[0], offset * left), fmaf(scale, t[1], offset * right));
      }
    }
  }
  __syncthreads();
  for (int c = int(threadIdx.x); c < kPanels * kPanel; c += kPanels * kWarpSize) {
    const int64_t channel = int64_t(blockIdx.y) * kPanels * kPanel + c;
    if (channel >= out.cols) break;
    float t[kB];
#pragma unroll
    for (int r = 0; r < kB; ++r) t[r] = s.product[r][c];
    if (tile.coded) transform<true>(t, in.plan, dct);
    const float shift = bias != nullptr ? bias[channel] : 0.0f;
#pragma unroll
    for (int r = 0; r < kB; ++r)
      if (r < rows) out.row(tile.row + r)[channel] = t[r] + shift;
  }
}

/// A block a row; `group / 4` lanes add up one group, four channels each.
__global__ void group_sums_kernel(float* sums, Integers in, int groups, int group) {
  const int lanes = group / 4, per_warp = kWarpSize / lanes, lane = int(threadIdx.x) % kWarpSize;
  const int warp = int(threadIdx.x) / kWarpSize, warps = int(blockDim.x) / kWarpSize;
  for (int first = warp * per_warp; first < groups; first += warps * per_warp) {
    const int g = first + lane / lanes;
    uint32_t word = 0;
    if (g < groups)
      word = *reinterpret_cast<const uint32_t*>(in.q + blockIdx.x * in.stride + g * group + lane % lanes * 4);
    auto sum = int(__dp4a(word, 0x01010101u, 0u));
    for (int distance = lanes / 2; distance > 0; distance /= 2)
      sum += __shfl_xor_sync(kFullWarp, sum, distance);
    if (g < groups && lane % lanes == 0) sums[int64_t(blockIdx.x) * groups + g] = float(sum);
  }
}

template <bool kFourBits, MmaPath kPath, int kPanels>
void start(Mat<float> out, const Integers& in, const WeightView& weight, const float* sums, const float* bias,
           const DctTable& dct, cudaStream_t stream) {
  const dim3 grid(uint32_t(in.tile_count), uint32_t(divide_up(weight.panels(), kPanels)));
  launch("linear_int", linear_int_kernel<kFourBits, kPath, kPanels>,
         {grid, kPanels * kWarpSize, sizeof(Storage<kFourBits, kPanels>)}, stream, out, in, weight, sums,
         bias, dct);
}

template <bool kFourBits, MmaPath kPath>
void start(const TilePlan& plan, Mat<float> out, const Integers& in, const WeightView& weight,
           const float* sums, const float* bias, const DctTable& dct, cudaStream_t stream) {
  if (plan.panels == 1) start<kFourBits, kPath, 1>(out, in, weight, sums, bias, dct, stream);
  else start<kFourBits, kPath, 4>(out, in, weight, sums, bias, dct, stream);
}

}  // namespace

void group_sums(float* sums, const Integers& in, int64_t groups, int64_t group, cudaStream_t stream) {
  launch("group_sums", group_sums_kernel, {uint32_t(in.rows), 128}, stream, sums, in, int(groups),
         int(group));
}

void linear_int(Mat<float> out, const Integers& in, const WeightView& weight, const float* sums,
                const float* bias, const DctTable& dct, int compute_capability, cudaStream_t stream) {
  const TilePlan plan = plan_linear(in.tile_count, weight, compute_capability);
  if (weight.dtype == DType::kQ8)
    start<false, MmaPath::kEight>(plan, out, in, weight, nullptr, bias, dct, stream);
  else if (plan.path == MmaPath::kFour)
    start<true, MmaPath::kFour>(plan, out, in, weight, sums, bias, dct, stream);
  else start<true, MmaPath::kEight>(plan, out, in, weight, sums, bias, dct, stream);
}

}  // namespace stamp::cuda

// Products of integers on tensor cores. A block multiplies one tile of up to 64 rows by 8 panels of 16 output
// channels, two a warp, or by one; rows and weights arrive through a pipeline of asynchronous copies. The
// sums of a group of input channels are exact; they are scaled group after group in the order of
// kernels/cpu/linear_int.inl, so that both give the same bits. The epilogue scales rows, turns coefficients
// back into tokens and adds the bias.
//
// What bounds the loop is the scaling: three operations for each sum, where a group is but one or two
// products. So sums need no conversion (kMagic), begin anew without being cleared, and a row's words are
// unpacked for 32 columns.
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

constexpr int kRows = kB, kDepth = 64, kStages = 4;                      // kDepth: input channels of a stage
constexpr int kBlockWarps = 4, kWarpPanels = kWidePanels / kBlockWarps;  // of a wide block
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
  constexpr int kThreads = (kPanels > 1 ? kBlockWarps : 1) * kWarpSize, kRowChunks = kDepth / kChunk;
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

/// Sums of a group begin at the bits of the float 1.5 * 2^23, whose last place is one: with them counted up
/// or down by less than 2^22 (a group's sums are below 2^19), the bits are those of the float 1.5 * 2^23 +
/// sum.
constexpr int32_t kMagic = 0x4b400000;
__device__ __forceinline__ float sum_as_float(int32_t sum) { return __int_as_float(sum) - 12582912.0f; }

/// A warp's operands and sums of one row tile of 16: [column tile of 8], two for each of its panels.
template <int kPerWarp>
using Columns = uint32_t[kPerWarp * kNTiles][2];
template <int kPerWarp>
using TileSums = int32_t[kPerWarp * kNTiles][4];

/// 32 input channels from `k` of the stage for 8-bit products.
template <bool kFourBits, int kPerWarp>
__device__ __forceinline__ void load_columns_eight(Columns<kPerWarp>& b, const uint8_t* panels, int k) {
  const int four = int(threadIdx.x) % 4;
#pragma unroll
  for (int p = 0; p < kPerWarp; ++p, panels += kPanelStage<kFourBits>) {
    uint32_t(&even)[2] = b[2 * p], (&odd)[2] = b[2 * p + 1];
    if constexpr (kFourBits) {
      const uint2 words = panel_words(panels, k / 8 + four);
      even[0] = words.x & 0x0f0f0f0fu, even[1] = words.x >> 4 & 0x0f0f0f0fu;
      odd[0] = words.y & 0x0f0f0f0fu, odd[1] = words.y >> 4 & 0x0f0f0f0fu;
    } else {
      const uint2 first = panel_words(panels, line_of<false>(k / 4 + 2 * four));
      const uint2 second = panel_words(panels, line_of<false>(k / 4 + 2 * four + 1));
      even[0] = first.x, even[1] = second.x;
      odd[0] = first.y, odd[1] = second.y;
    }
  }
}
/// The 64 input channels of the stage for 4-bit products.
template <int kPerWarp>
__device__ __forceinline__ void load_columns_four(Columns<kPerWarp>& b, const uint8_t* panels) {
  const int four = int(threadIdx.x) % 4;
#pragma unroll
  for (int p = 0; p < kPerWarp; ++p, panels += kPanelStage<true>) {
    const uint2 first = panel_words(panels, four), second = panel_words(panels, 4 + four);
    b[2 * p][0] = first.x, b[2 * p][1] = second.x;
    b[2 * p + 1][0] = first.y, b[2 * p + 1][1] = second.y;
  }
}

/// sums = row tile m times b + (kBegins ? kMagic : sums), 32 input channels from `k` of the stage, 8-bit.
template <bool kFourBits, bool kBegins, int kPerWarp>
__device__ __forceinline__ void multiply_eight(TileSums<kPerWarp>& sums, const uint8_t* rows, int m, int k,
                                               const Columns<kPerWarp>& b) {
  const int group = int(threadIdx.x) % kWarpSize / 4, four = int(threadIdx.x) % 4;
  const uint2 upper = row_words(rows, m * 16 + group, k + 8 * four);
  const uint2 lower = row_words(rows, m * 16 + group + 8, k + 8 * four);
  const uint32_t a[4] = {upper.x, lower.x, upper.y, lower.y};
#pragma unroll
  for (int n = 0; n < kPerWarp * kNTiles; ++n) {
    int32_t c[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) c[i] = kBegins ? kMagic : sums[n][i];
    if constexpr (kFourBits) mma_u8_u8(sums[n], a, b[n], c);
    else mma_u8_s8(sums[n], a, b[n], c);
  }
}

/// sums = kMagic + row tile m times b, the 64 input channels of the stage, 4-bit: of the rows' low nibbles,
/// and 16 times those of the high ones if the tile has any.
template <int kPerWarp>
__device__ __forceinline__ void multiply_four(TileSums<kPerWarp>& sums, const uint8_t* rows, int m,
                                              const Columns<kPerWarp>& b, bool wide) {
  const int group = int(threadIdx.x) % kWarpSize / 4, four = int(threadIdx.x) % 4;
  const int32_t begin[4] = {kMagic, kMagic, kMagic, kMagic}, nothing[4] = {};
  uint2 x[4];
  uint32_t low[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    x[i] = row_words(rows, m * 16 + group + i % 2 * 8, i / 2 * 32 + 8 * four);
    low[i] = wide ? low_nibbles(x[i]) : x[i].x + 16 * x[i].y;
  }
#pragma unroll
  for (int n = 0; n < kPerWarp * kNTiles; ++n) mma_u4_u4(sums[n], low, b[n], begin);
  if (!wide) return;
  const uint32_t high[4] = {high_nibbles(x[0]), high_nibbles(x[1]), high_nibbles(x[2]), high_nibbles(x[3])};
#pragma unroll
  for (int n = 0; n < kPerWarp * kNTiles; ++n) {
    int32_t upper[4];
    mma_u4_u4(upper, high, b[n], nothing);
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[n][i] += 16 * upper[i];
  }
}

/// A group's parameters for the lane's four output channels of each panel.
template <int kPerWarp>
struct GroupScales {
  float scale[kPerWarp][4], shift[kPerWarp][4];  // shift: -zero / 16 * scale

  /// Of panels from `panel` on; absent ones have anybody's.
  __device__ __forceinline__ GroupScales(const WeightView& weight, int panel, int g) {
#pragma unroll
    for (int p = 0; p < kPerWarp; ++p) {
      const int64_t present = min(int64_t{panel} + p, weight.panels() - 1);
      const int64_t at = (present * weight.groups() + g) * kPanel + threadIdx.x % 4 * 4;
      const uint2 halves = *reinterpret_cast<const uint2*>(weight.scale + at);
      const uint32_t zeros = *reinterpret_cast<const uint32_t*>(weight.zero + at);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        scale[p][c] = half_bits_to_float(uint16_t((c < 2 ? halves.x : halves.y) >> c % 2 * 16));
        shift[p][c] = float(zeros >> 8 * c & 255) * (-1.0f / 16) * scale[p][c];
      }
    }
  }
};

/// total += scale * (sums - zero / 16 * the rows' own sums), for row tile m. row_sums: of the tile's rows.
template <int kPerWarp>
__device__ __forceinline__ void scale_sums(float (&total)[kPerWarp * kNTiles][4],
                                           const TileSums<kPerWarp>& sums, const GroupScales<kPerWarp>& group,
                                           const float* row_sums, int m, int rows) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int r = m * 16 + int(threadIdx.x) % kWarpSize / 4 + half * 8;
    const float row_sum = r < rows ? row_sums[r] : 0.0f;
#pragma unroll
    for (int p = 0; p < kPerWarp; ++p) {
#pragma unroll
      for (int c = 0; c < 4; ++c) {  // channel c of the lane: tile c % 2, its column c / 2
        float& t = total[2 * p + c % 2][2 * half + c / 2];
        t = fmaf(sum_as_float(sums[2 * p + c % 2][2 * half + c / 2]), group.scale[p][c], t);
        t = fmaf(row_sum, group.shift[p][c], t);
      }
    }
  }
}

/// kGroups: how groups of input channels lie in stages.
enum class Groups : uint8_t { kStage, kOther, kNone };

template <MmaPath kPath, Groups kGroups, int kWarps, int kPerWarp>
__global__ void __launch_bounds__(kWarps* kWarpSize, 2)
    linear_int_kernel(Mat<float> out, Integers in, WeightView weight, const float* row_sums,
                      const float* bias, const DctTable* dct) {
  constexpr bool kFourBits = kGroups != Groups::kNone;
  constexpr int kPanels = kWarps * kPerWarp, kTiles = kPerWarp * kNTiles;
  auto& s = shared_storage<Storage<kFourBits, kPanels>>();
  const RowTile tile = in.tiles[blockIdx.x];
  const int warp = int(threadIdx.x) / kWarpSize, rows = int(tile.count), row_tiles = (rows + 15) / 16;
  const int panel = int(blockIdx.y) * kPanels + warp * kPerWarp, depth = int(weight.padded_cols());
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
  // Sums that outlive a stage: without groups, or of groups that are not a stage each.
  int32_t sums[kMTiles][kTiles][4];
  float total[kMTiles][kTiles][4] = {};
#pragma unroll
  for (auto& of_tile : sums)
#pragma unroll
    for (auto& fragment : of_tile)
#pragma unroll
      for (int32_t& sum : fragment) sum = kGroups == Groups::kNone ? 0 : kMagic;
  for (int k = 0, stage = 0; k < depth; k += kDepth, stage = (stage + 1) % kStages) {
    wait_copies<kStages - 2>();
    __syncthreads();  // the stage has arrived for everyone, and everyone is done with the one before
    const int next = k + (kStages - 1) * kDepth;
    if (next < depth) fetch(s, (stage + kStages - 1) % kStages, tile, in, weight, next);
    commit_copies();
    const uint8_t *const panels = s.panels[stage][warp * kPerWarp], *const lines = s.rows[stage];
    if constexpr (kGroups == Groups::kStage) {
      const GroupScales<kPerWarp> scales(weight, panel, k / kDepth);
      Columns<kPerWarp> b, upper;
      if constexpr (kPath == MmaPath::kFour) {
        load_columns_four<kPerWarp>(b, panels);
      } else {
        load_columns_eight<true, kPerWarp>(b, panels, 0);
        load_columns_eight<true, kPerWarp>(upper, panels, 32);
      }
#pragma unroll
      for (int m = 0; m < kMTiles; ++m) {
        if (m >= row_tiles) break;
        TileSums<kPerWarp> group;
        if constexpr (kPath == MmaPath::kFour) {
          multiply_four<kPerWarp>(group, lines, m, b, wide >> m & 1);
        } else {
          multiply_eight<true, true, kPerWarp>(group, lines, m, 0, b);
          multiply_eight<true, false, kPerWarp>(group, lines, m, 32, upper);
        }
        scale_sums<kPerWarp>(total[m], group, scales, sums_of(k / kDepth), m, rows);
      }
    } else {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Columns<kPerWarp> b;
        load_columns_eight<kFourBits, kPerWarp>(b, panels, 32 * half);
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
          if (m >= row_tiles) break;
          multiply_eight<kFourBits, false, kPerWarp>(sums[m], lines, m, 32 * half, b);
        }
        const int end = k + 32 * (half + 1), group = int(weight.group);
        if (!kFourBits || end % group != 0) continue;
        const GroupScales<kPerWarp> scales(weight, panel, end / group - 1);
#pragma unroll
        for (int m = 0; m < kMTiles; ++m) {
          if (m >= row_tiles) break;
          scale_sums<kPerWarp>(total[m], sums[m], scales, sums_of(end / group - 1), m, rows);
#pragma unroll
          for (auto& fragment : sums[m])
#pragma unroll
            for (int32_t& sum : fragment) sum = kMagic;
        }
      }
    }
  }
  wait_copies<0>();
  __syncthreads();  // the stages become the product

  const int group_row = int(threadIdx.x) % kWarpSize / 4, four = int(threadIdx.x) % 4;
#pragma unroll
  for (int p = 0; p < kPerWarp; ++p) {
    float4 weight_sum = {};
    float scale_of[4] = {};
    if (panel + p < weight.panels()) {
      const int64_t at = (panel + p) * kPanel + 4 * four;
      weight_sum = *reinterpret_cast<const float4*>(weight.sum + at);
      if constexpr (!kFourBits) {
        const uint2 halves = *reinterpret_cast<const uint2*>(weight.scale + at);
#pragma unroll
        for (int c = 0; c < 4; ++c)
          scale_of[c] = half_bits_to_float(uint16_t((c < 2 ? halves.x : halves.y) >> c % 2 * 16));
      }
    }
#pragma unroll
    for (int m = 0; m < kMTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int r = m * 16 + group_row + half * 8;
        const float scale = r < rows ? in.scale[tile.row + r] : 0.0f,
                    offset = r < rows ? in.offset[tile.row + r] : 0.0f;
        const auto value = [&](int c) {
          const int tile_of = 2 * p + c % 2, i = 2 * half + c / 2;
          return kFourBits ? total[m][tile_of][i] : fmaf(float(sums[m][tile_of][i]), scale_of[c], 0.0f);
        };
        *reinterpret_cast<float4*>(&s.product[r][(warp * kPerWarp + p) * kPanel + 4 * four]) = make_float4(
            fmaf(scale, value(0), offset * weight_sum.x), fmaf(scale, value(1), offset * weight_sum.y),
            fmaf(scale, value(2), offset * weight_sum.z), fmaf(scale, value(3), offset * weight_sum.w));
      }
    }
  }
  __syncthreads();
  for (int c = int(threadIdx.x); c < kPanels * kPanel; c += kWarps * kWarpSize) {
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

template <MmaPath kPath, Groups kGroups>
void start(const TilePlan& plan, Mat<float> out, const Integers& in, const WeightView& weight,
           const float* sums, const float* bias, const DctTable* dct, cudaStream_t stream) {
  const auto run = [&]<int kWarps, int kPerWarp>() {
    constexpr int kPanels = kWarps * kPerWarp;
    const dim3 grid(uint32_t(in.tile_count), uint32_t(divide_up(weight.panels(), kPanels)));
    launch("linear_int", linear_int_kernel<kPath, kGroups, kWarps, kPerWarp>,
           {grid, kWarps * kWarpSize, sizeof(Storage<kGroups != Groups::kNone, kPanels>)}, stream, out, in,
           weight, sums, bias, dct);
  };
  if (plan.panels == 1) run.template operator()<1, 1>();
  else run.template operator()<kBlockWarps, kWarpPanels>();
}

}  // namespace

void group_sums(float* sums, const Integers& in, int64_t groups, int64_t group, cudaStream_t stream) {
  const dim3 grid(uint32_t(divide_up(in.rows, kSumRows)), uint32_t(divide_up(groups * group, kSumDepth)));
  launch("group_sums", group_sums_kernel, {grid, kSumWarps * kWarpSize, sizeof(GroupSums)}, stream, sums, in,
         int(groups), int(group));
}

void linear_int(Mat<float> out, const Integers& in, const WeightView& weight, const float* sums,
                const float* bias, const DctTable* dct, const Device& device, cudaStream_t stream) {
  const TilePlan plan = plan_linear(in.tile_count, weight, device);
  if (weight.dtype == DType::kQ8)
    start<MmaPath::kEight, Groups::kNone>(plan, out, in, weight, nullptr, bias, dct, stream);
  else if (weight.group != kDepth)
    start<MmaPath::kEight, Groups::kOther>(plan, out, in, weight, sums, bias, dct, stream);
  else if (plan.path == MmaPath::kFour)
    start<MmaPath::kFour, Groups::kStage>(plan, out, in, weight, sums, bias, dct, stream);
  else start<MmaPath::kEight, Groups::kStage>(plan, out, in, weight, sums, bias, dct, stream);
}

}  // namespace stamp::cuda

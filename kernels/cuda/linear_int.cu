// Products of integers on tensor cores. A warp multiplies 32 output channels, two panels of weights, by up to
// 64 rows; a block of four is one tile of rows times channels of any of the products (tile_plan.h). Rows,
// weights and the parameters of groups arrive through a pipeline of asynchronous copies. The sums of a group
// of input channels are exact; they are scaled group after group in the order of kernels/cpu/linear_int.inl.
// The epilogue scales rows, turns coefficients back into tokens and adds the bias.
//
// What bounds the loop is the issue of instructions, and of these the scaling: three operations for each sum,
// where a group is but one or two products. So sums need no conversion (kMagic) and begin anew without being
// cleared, and whatever addresses depend on is computed before.
//
// Weights are the products' left operand, so that a lane has four output channels, whose parameters it keeps
// for all its rows. The inner index may be permuted as long as both operands agree: a lane takes 16
// consecutive input channels of a row in one load, for two products, which are two words of a panel, whose
// low nibbles are channels 0..3, its high ones 4..7.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/seq_transform.cuh"
#include "kernels/cuda/tile_plan.h"

namespace stamp::cuda {
namespace {

constexpr int kTileRows = int(kBlock), kWarpPanels = kWarpChannels / int(kPanel);
constexpr int kWarps = kLinearWarps, kThreads = kWarps * kWarpSize;
constexpr int kChunk = 16;                               // bytes of one copy
constexpr int kLine = 64, kLineChunks = kLine / kChunk;  // a row's 64 input channels, or a panel's step

/// Where a chunk of a line lies: lanes that read at once are apart in the banks.
__device__ __forceinline__ int chunk_offset(int line, int chunk) {
  return (line * kLineChunks + (chunk ^ (line >> 1 & 1) * 2)) * kChunk;
}
/// The step of a panel that lies in line `line` of 64 input channels: those that a warp reads at once
/// together, which are every second, or fourth if weights have eight bits. In groups of 32 they follow each
/// other.
template <int kGroup>
__device__ __forceinline__ int step_of(int line) {
  return kGroup == 32 ? line : kGroup > 0 ? line % 4 * 2 + line / 4 : line % 4 * 4 + line / 4;
}
/// Sums of the rows' groups lie so that a lane reads its four of two column tiles at once.
__device__ __forceinline__ int row_of_sum(int i) {
  return i / 16 * 16 + i % 4 / 2 * 8 + i / 4 % 4 * 2 + i % 2;
}

/// kGroup: input channels that share a scale, or 0 for 8-bit weights. kChannelWarps: TilePlan::channel_warps.
template <int kGroup, int kChannelWarps>
struct Storage {
  static constexpr bool kFourBits = kGroup > 0;
  static constexpr int kDepth = kGroup > kLine ? kGroup : kLine;  // input channels of a stage
  static constexpr int kParts = kDepth / kLine, kGroups = kFourBits ? kDepth / kGroup : 1;
  static constexpr int kStages = kParts > 1 ? 3 : 4;
  static constexpr int kChannels = kChannelWarps * kWarpChannels, kPanels = kChannels / int(kPanel);
  static constexpr int kSteps = kFourBits ? 8 : 16;  // of a panel in a part
  // Lanes store eight channels of four rows at once, every second one: a quarter of the banks apart.
  static constexpr int kProductPitch = kChannels + 4;
  struct Stage {
    alignas(16) uint8_t rows[kParts][kTileRows * kLine];
    alignas(16) uint8_t panels[kParts][kPanels][kSteps * kLine];
    alignas(16) uint16_t scale[kPanels][kGroups][kPanel];
    alignas(16) uint8_t zero[kPanels][kGroups][kPanel];
    alignas(16) float sums[kGroups][kTileRows];
  };
  /// weight.padded_cols() without a division.
  static __device__ __forceinline__ int64_t depth(const WeightView& weight) {
    return round_up(weight.cols, kDepth);
  }
  union {
    Stage stages[kStages];
    alignas(16) float product[kTileRows][kProductPitch];
  };
};

/// Sources that advance together: the first, and how far from it the others are.
template <int kCount>
struct Sources {
  const uint8_t* first;
  int from_first[kCount];
  template <class At>  // At(i): the i-th source
  __device__ __forceinline__ explicit Sources(const At& at) : first(at(0)) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) from_first[i] = int(at(i) - first);
  }
  __device__ __forceinline__ const uint8_t* operator[](int i) const {
    return i == 0 ? first : first + from_first[i];
  }
};

/// What one thread copies of every stage: the sources go from stage to stage, the places stay. Rows and
/// panels beyond the last are others: their products are not used.
template <int kGroup, int kChannelWarps>
class Copies {
  using Shared = Storage<kGroup, kChannelWarps>;
  using Stage = typename Shared::Stage;
  static constexpr int kParts = Shared::kParts, kGroups = Shared::kGroups;
  static constexpr int kRowCopies = kTileRows * kLineChunks / kThreads;
  static constexpr int kPanelBytes = Shared::kSteps * kLine, kPanelChunks = kPanelBytes / kChunk,
                       kAllChunks = Shared::kPanels * kPanelChunks,
                       kPanelCopies = (kAllChunks + kThreads - 1) / kThreads;
  // One more chunk, of the groups' parameters.
  static constexpr int kZeroChunks = Shared::kPanels * kGroups, kScaleChunks = 2 * kZeroChunks,
                       kTileChunks = kTileRows * int(sizeof(float)) / kChunk,
                       kSumChunks = kGroups * kTileChunks;
  static_assert(kTileRows * kLineChunks % kThreads == 0 && kThreads % kPanelChunks == 0 &&
                kScaleChunks + kZeroChunks + kSumChunks <= kThreads);

 public:
  __device__ __forceinline__ Copies(const RowTile& tile, const Integers& in, const WeightView& weight,
                                    int first_panel, const float* row_sums)
      : rows_([&](int i) {
          const int chunk = int(threadIdx.x) + i * kThreads;
          return in.q + (tile.row + min(int64_t{chunk / kLineChunks}, tile.count - 1)) * in.stride +
                 chunk % kLineChunks * kChunk;
        }),
        panels_([&](int i) {
          const int chunk = int(threadIdx.x) + i * kThreads, line = chunk % kPanelChunks / kLineChunks;
          return static_cast<const uint8_t*>(weight.data) +
                 panel_at(weight, first_panel + chunk / kPanelChunks) *
                     (Shared::depth(weight) * kPanel / (kGroup > 0 ? 2 : 1)) +
                 step_of<kGroup>(line) * kLine + chunk % kLineChunks * kChunk;
        }) {
    const int thread = int(threadIdx.x);
    const int64_t groups = kGroup > 0 ? Shared::depth(weight) / kGroup : 0;
    row_to_ = chunk_offset(thread / kLineChunks, thread % kLineChunks);
    panel_to_ = thread / kPanelChunks * kPanelBytes +
                chunk_offset(thread % kPanelChunks / kLineChunks, thread % kLineChunks);
    int chunk = thread;
    if (kGroup > 0 && chunk < kScaleChunks) {
      other_ = reinterpret_cast<const uint8_t*>(
                   weight.scale + panel_at(weight, first_panel + chunk / (2 * kGroups)) * groups * kPanel) +
               chunk % (2 * kGroups) * kChunk;
      other_step_ = kGroups * 2 * kChunk;
      other_to_ = int(offsetof(Stage, scale)) + chunk * kChunk;
    } else if (chunk -= kScaleChunks; kGroup > 0 && chunk < kZeroChunks) {
      other_ =
          weight.zero + (panel_at(weight, first_panel + chunk / kGroups) * groups + chunk % kGroups) * kPanel;
      other_step_ = kGroups * kChunk;
      other_to_ = int(offsetof(Stage, zero)) + chunk * kChunk;
    } else if (chunk -= kZeroChunks; kGroup > 0 && chunk < kSumChunks) {
      const int64_t tiles = chunk / kTileChunks * in.tile_count + blockIdx.x;
      other_ = reinterpret_cast<const uint8_t*>(row_sums + tiles * kTileRows) + chunk % kTileChunks * kChunk;
      other_step_ = kGroups * int(in.tile_count) * kTileRows * int(sizeof(float));
      other_to_ = int(offsetof(Stage, sums)) + chunk * kChunk;
    }
  }

  /// Starts those of the next stage.
  __device__ __forceinline__ void start(Stage& stage) {
#pragma unroll
    for (int i = 0; i < kRowCopies; ++i) {
#pragma unroll
      for (int part = 0; part < kParts; ++part)
        copy_async_16(&stage.rows[part][0] + row_to_ + i * kThreads * kChunk, rows_[i] + part * kLine);
    }
    rows_.first += Shared::kDepth;
#pragma unroll
    for (int i = 0; i < kPanelCopies; ++i) {
      if ((i + 1) * kThreads <= kAllChunks || int(threadIdx.x) + i * kThreads < kAllChunks) {
#pragma unroll
        for (int part = 0; part < kParts; ++part)
          copy_async_16(&stage.panels[part][0][0] + panel_to_ + i * kThreads * kChunk,
                        panels_[i] + part * kPanelBytes);
      }
    }
    panels_.first += kParts * kPanelBytes;
    if (other_to_ >= 0) copy_async_16(reinterpret_cast<uint8_t*>(&stage) + other_to_, other_);
    other_ += other_step_;
  }

 private:
  static __device__ __forceinline__ int64_t panel_at(const WeightView& weight, int panel) {
    return min(int64_t{panel}, weight.panels() - 1);
  }
  Sources<kRowCopies> rows_;
  Sources<kPanelCopies> panels_;
  const uint8_t* other_ = nullptr;
  int other_step_ = 0, row_to_, panel_to_, other_to_ = -1;
};

/// A lane's output channels are 2 group and the next of either panel of its warp: two rows of each of two row
/// tiles of the products.
struct Lane {
  int group = int(threadIdx.x) % kWarpSize / 4, four = int(threadIdx.x) % 4;
};
using Weights = uint32_t[2][2][4];  // [row tile][product of a line]: the products' left operands
using Sums = int32_t[2][4];

/// Those of 64 input channels. For 4-bit products these are but one.
template <MmaPath kPath, int kGroup, int kBytes>
__device__ __forceinline__ void load_weights(Weights& a, const uint8_t (*panels)[kBytes], const Lane& at) {
#pragma unroll
  for (int t = 0; t < kWarpPanels; ++t) {
    const uint8_t* const from = panels[t] + chunk_offset(at.four, at.group / 2) + at.group % 2 * 8;
    const auto words = [&](int i) { return *reinterpret_cast<const uint2*>(from + i * 4 * kLine); };
    if constexpr (kPath == MmaPath::kFour) {
      const uint2 first = words(0), second = words(1);
      a[t][0][0] = first.x, a[t][0][1] = first.y, a[t][0][2] = second.x, a[t][0][3] = second.y;
    } else {
#pragma unroll
      for (int product = 0; product < 2; ++product) {
        uint32_t(&to)[4] = a[t][product];
        if constexpr (kGroup > 0) {
          constexpr uint32_t kLow = 0x0f0f0f0fu;
          const uint2 x = words(product);
          to[0] = x.x & kLow, to[1] = x.y & kLow, to[2] = x.x >> 4 & kLow, to[3] = x.y >> 4 & kLow;
        } else {
          const uint2 first = words(2 * product), second = words(2 * product + 1);
          to[0] = first.x, to[1] = first.y, to[2] = second.x, to[3] = second.y;
        }
      }
    }
  }
}

/// The lane's words of a line of 64 input channels of a row, .x and .y for the first product, .z and .w for
/// the second. `line` is that of the lane's row.
template <int kGroup>
__device__ __forceinline__ uint4 load_row(const uint8_t* lines, const Lane& at) {
  if constexpr (kGroup == 32) {
    const int within = at.four % 2 * 8;
    const uint2 first = *reinterpret_cast<const uint2*>(lines + chunk_offset(at.group, at.four / 2) + within),
                second =
                    *reinterpret_cast<const uint2*>(lines + chunk_offset(at.group, 2 + at.four / 2) + within);
    return make_uint4(first.x, first.y, second.x, second.y);
  }
  return *reinterpret_cast<const uint4*>(lines + chunk_offset(at.group, at.four));
}

/// Sums of a group begin at the bits of the float 1.5 * 2^23, whose last place is one: with them counted up
/// or down by less than 2^22 (a group's sums are below 2^19), the bits are those of the float 1.5 * 2^23 +
/// sum.
constexpr int32_t kMagic = 0x4b400000;
__device__ __forceinline__ float sum_as_float(int32_t sum) { return __int_as_float(sum) - 12582912.0f; }

/// sums = weights times eight rows of four bits + begin.
__device__ __forceinline__ void multiply_nibbles(Sums& sums, const Weights& a, const uint32_t (&rows)[2],
                                                 int32_t begin) {
  const int32_t c[4] = {begin, begin, begin, begin};
#pragma unroll
  for (int t = 0; t < 2; ++t) mma_u4_u4(sums[t], a[t][0], rows, c);
}

/// sums = kMagic + weights times eight rows `x` over 64 input channels by 4-bit products. wide: some of the
/// rows have more than four bits, which takes a second product, of the upper ones.
__device__ __forceinline__ void multiply_four(Sums& sums, const Weights& a, const uint4& x, bool wide) {
  constexpr uint32_t kLow = 0x0f0f0f0fu;
  if (!wide) return multiply_nibbles(sums, a, {x.x + 16 * x.y, x.z + 16 * x.w}, kMagic);
  Sums high;
  multiply_nibbles(sums, a, {(x.x & kLow) | (x.y & kLow) << 4, (x.z & kLow) | (x.w & kLow) << 4}, kMagic);
  multiply_nibbles(high, a, {(x.x >> 4 & kLow) | (x.y & ~kLow), (x.z >> 4 & kLow) | (x.w & ~kLow)}, 0);
#pragma unroll
  for (int t = 0; t < 2; ++t)
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[t][i] += 16 * high[t][i];
}

/// sums += weights times eight rows `x`: one 8-bit product of the two over 64 input channels.
template <int kGroup>
__device__ __forceinline__ void multiply_eight(Sums& sums, const Weights& a, const uint4& x, int product) {
  const uint32_t b[2] = {product == 0 ? x.x : x.z, product == 0 ? x.y : x.w};
#pragma unroll
  for (int t = 0; t < 2; ++t) {
    if constexpr (kGroup > 0) mma_u8_u8(sums[t], a[t][product], b, sums[t]);
    else mma_s8_u8(sums[t], a[t][product], b, sums[t]);
  }
}

/// Two scales of neighbouring channels.
__device__ __forceinline__ float2 two_halves(const uint16_t* from) {
  const uint32_t halves = *reinterpret_cast<const uint32_t*>(from);
  return make_float2(half_bits_to_float(uint16_t(halves)), half_bits_to_float(uint16_t(halves >> 16)));
}

/// A group's parameters for the lane's output channels.
struct GroupScales {
  float scale[kWarpPanels][2], shift[kWarpPanels][2];  // shift: -zero / 16 * scale

  template <int kGroups>
  __device__ __forceinline__ GroupScales(const uint16_t (*scales)[kGroups][kPanel],
                                         const uint8_t (*zeros)[kGroups][kPanel], int g, const Lane& at) {
#pragma unroll
    for (int t = 0; t < kWarpPanels; ++t) {
      const float2 two = two_halves(&scales[t][g][2 * at.group]);
      const uint32_t bytes = *reinterpret_cast<const uint16_t*>(&zeros[t][g][2 * at.group]);
      scale[t][0] = two.x, scale[t][1] = two.y;
#pragma unroll
      for (int c = 0; c < 2; ++c) {  // the bits of 2^23 + zero; exact
        const float zero = __int_as_float(int(0x4b000000u | (c == 0 ? bytes & 255 : bytes >> 8)));
        shift[t][c] = fmaf(zero, -1.0f / 16, 524288.0f) * scale[t][c];
      }
    }
  }
};

/// total += scale * (sums - zero / 16 * the rows' own sums).
__device__ __forceinline__ void scale_sums(float (&total)[2][4], const Sums& sums, const GroupScales& group,
                                           float2 row_sums) {
#pragma unroll
  for (int t = 0; t < 2; ++t) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      total[t][i] = fmaf(sum_as_float(sums[t][i]), group.scale[t][i / 2], total[t][i]);
      total[t][i] = fmaf(i % 2 == 0 ? row_sums.x : row_sums.y, group.shift[t][i / 2], total[t][i]);
    }
  }
}

/// Blocks whose registers a multiprocessor has room for. With 100 KiB of shared memory wide ones are but two.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
template <int kChannelWarps>
inline constexpr int kLeastResident = kChannelWarps == 4 ? 2 : kResidentBlocks;
#else
template <int kChannelWarps>
inline constexpr int kLeastResident = kResidentBlocks;
#endif

template <MmaPath kPath, int kGroup, int kChannelWarps>
__global__ void __launch_bounds__(kThreads, kLeastResident<kChannelWarps>)
    linear_int_kernel(const __grid_constant__ LinearProducts products, Integers in, const float* row_sums,
                      const DctTable* dct) {
  using Shared = Storage<kGroup, kChannelWarps>;
  constexpr bool kFourBits = kGroup > 0;
  constexpr int kStages = Shared::kStages, kColumns = kTileRows / 8 * kChannelWarps / kWarps;
  auto& s = shared_storage<Shared>();
  const auto [which, channel_block] = products.place(blockIdx.y, Shared::kChannels);
  const auto& [out, weight, bias] = products.one[which];
  const int first_panel = int(channel_block) * Shared::kPanels;
  const int warp = int(threadIdx.x) / kWarpSize;
  const int warp_panel = warp % kChannelWarps * kWarpPanels, warp_row = warp / kChannelWarps * kColumns * 8;
  const Lane at;
  const RowTile& tile = in.tiles[blockIdx.x];  // read again after the loop: registers are scarce
  const bool busy = warp_row < tile.count;
  int wide = 0;  // so many rows of the tile have more than four bits
  if constexpr (kPath == MmaPath::kFour) {
    const bool low = tile.coded && in.plan.low_bits <= 4;
    wide = !low ? kTileRows : in.plan.high_bits > 4 ? in.plan.high_rows : 0;
  }

  Copies<kGroup, kChannelWarps> copies(tile, in, weight, first_panel, row_sums);
  const int steps = int(Shared::depth(weight)) / Shared::kDepth;
  for (int step = 0; step < kStages - 1; ++step) {
    if (step < steps) copies.start(s.stages[step]);
    commit_copies();
  }
  int32_t sums[kColumns][2][4] = {};  // of all input channels, without groups
  float total[kColumns][2][4] = {};
  for (int step = 0, stage = 0; step < steps; ++step, stage = stage + 1 < kStages ? stage + 1 : 0) {
    wait_copies<kStages - 2>();
    __syncthreads();  // the stage has arrived for everyone, and everyone is done with the one before
    if (step + kStages - 1 < steps) copies.start(s.stages[stage > 0 ? stage - 1 : kStages - 1]);
    commit_copies();
    if (!busy) continue;
    const auto& now = s.stages[stage];
    const auto panels_of = [&](int part) { return &now.panels[part][warp_panel]; };
    const auto rows_of = [&](int part) { return now.rows[part] + warp_row * kLine; };
    if constexpr (!kFourBits) {
      Weights a;
      load_weights<kPath, kGroup>(a, panels_of(0), at);
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        const uint4 x = load_row<kGroup>(rows_of(0) + n * 8 * kLine, at);
#pragma unroll
        for (int product = 0; product < 2; ++product) multiply_eight<kGroup>(sums[n], a, x, product);
      }
    } else {
      constexpr int kParts = Shared::kParts, kGroups = Shared::kGroups;
      Weights a[kParts];
#pragma unroll
      for (int part = 0; part < kParts; ++part) load_weights<kPath, kGroup>(a[part], panels_of(part), at);
#pragma unroll
      for (int g = 0; g < kGroups; ++g) {
        const GroupScales scales(&now.scale[warp_panel], &now.zero[warp_panel], g, at);
        const float* const group_sums = now.sums[g] + warp_row + at.four * 4;
#pragma unroll
        for (int n = 0; n < kColumns; ++n) {
          Sums group = {{kMagic, kMagic, kMagic, kMagic}, {kMagic, kMagic, kMagic, kMagic}};
#pragma unroll
          for (int part = 0; part < kParts; ++part) {
            const uint4 x = load_row<kGroup>(rows_of(part) + n * 8 * kLine, at);
            if constexpr (kPath == MmaPath::kFour) {
              multiply_four(group, a[part], x, warp_row + n * 8 < wide);
            } else {
#pragma unroll
              for (int product = kGroup == 32 ? g : 0; product < (kGroup == 32 ? g + 1 : 2); ++product)
                multiply_eight<kGroup>(group, a[part], x, product);
            }
          }
          scale_sums(total[n], group, scales,
                     *reinterpret_cast<const float2*>(group_sums + n / 2 * 16 + n % 2 * 2));
        }
      }
    }
  }
  wait_copies<0>();
  __syncthreads();  // the stages become the product

  const int64_t first_channel = int64_t{first_panel} * kPanel, first_of_tile = tile.row, rows = tile.count;
#pragma unroll
  for (int p = 0; p < kWarpPanels; ++p) {
    const int channel = (warp_panel + p) * int(kPanel) + at.group * 2;
    float2 weight_sum{}, weight_scale{};
    if (first_panel + warp_panel + p < weight.panels()) {
      weight_sum = *reinterpret_cast<const float2*>(weight.sum + first_channel + channel);
      if constexpr (!kFourBits) weight_scale = two_halves(weight.scale + first_channel + channel);
    }
#pragma unroll
    for (int i = 0; i < kColumns * 2; ++i) {
      const int n = i / 2, r = warp_row + n * 8 + at.four * 2 + i % 2;
      const float scale = r < rows ? in.scale[first_of_tile + r] : 0.0f,
                  offset = r < rows ? in.offset[first_of_tile + r] : 0.0f;
      float2 value = make_float2(total[n][p][i % 2], total[n][p][2 + i % 2]);
      if constexpr (!kFourBits)
        value = make_float2(fmaf(float(sums[n][p][i % 2]), weight_scale.x, 0.0f),
                            fmaf(float(sums[n][p][2 + i % 2]), weight_scale.y, 0.0f));
      *reinterpret_cast<float2*>(&s.product[r][channel]) = make_float2(
          fmaf(scale, value.x, offset * weight_sum.x), fmaf(scale, value.y, offset * weight_sum.y));
    }
  }
  __syncthreads();
  constexpr int kChannels = Shared::kChannels, kStep = kThreads / kChannels;
  const int column = int(threadIdx.x) % kChannels, first_row = int(threadIdx.x) / kChannels;
  if (tile.coded) {
    if (first_row == 0) transform_column<true>(&s.product[0][column], Shared::kProductPitch, in.plan, dct);
    __syncthreads();
  }
  const int64_t channel = first_channel + column;
  if (channel >= out.cols) return;
  const float shift = bias != nullptr ? bias[channel] : 0.0f;
  float* to = out.row(first_of_tile + first_row) + channel;
  for (int r = first_row; r < rows; r += kStep, to += kStep * out.stride) *to = s.product[r][column] + shift;
}

constexpr int kSumRows = 32, kSumDepth = 512, kSumWarps = 8;  // rows and input channels of a block

struct GroupSums {
  // Written by group / 16 lanes apart, read along rows.
  float sum[kSumDepth / 32][kSumRows + 1];
};

/// Half a tile. A warp reads 512 input channels of a row, 16 a lane; neighbouring lanes add up a group. Sums
/// leave by groups, in the order of row_of_sum; those of absent rows are zero.
__global__ void __launch_bounds__(kSumWarps* kWarpSize)
    group_sums_kernel(float* sums, Integers in, int groups, int group) {
  auto& s = shared_storage<GroupSums>();
  const int lane = int(threadIdx.x) % kWarpSize, warp = int(threadIdx.x) / kWarpSize, lanes = group / 16;
  const int64_t tile_index = blockIdx.x / 2, depth = int64_t{groups} * group;
  const int first_row = int(blockIdx.x) % 2 * kSumRows;
  const RowTile tile = in.tiles[tile_index];
  const int64_t channel = int64_t(blockIdx.y) * kSumDepth + lane * 16;
  for (int r = warp; r < kSumRows; r += kSumWarps) {
    uint4 x{};
    if (first_row + r < tile.count && channel < depth)
      x = *reinterpret_cast<const uint4*>(in.q + (tile.row + first_row + r) * in.stride + channel);
    auto sum = int(__dp4a(x.x, 0x01010101u, __dp4a(x.y, 0x01010101u, 0u)) +
                   __dp4a(x.z, 0x01010101u, __dp4a(x.w, 0x01010101u, 0u)));
    for (int distance = lanes / 2; distance > 0; distance /= 2)
      sum += __shfl_xor_sync(kFullWarp, sum, distance);
    if (lane % lanes == 0) s.sum[lane / lanes][r] = float(sum);
  }
  __syncthreads();
  const int first_group = int(blockIdx.y) * (kSumDepth / group);
  const int live = min(kSumDepth / group, groups - first_group);
  for (int i = int(threadIdx.x); i < live * kSumRows; i += kSumWarps * kWarpSize)
    sums[((first_group + i / kSumRows) * in.tile_count + tile_index) * kTileRows + first_row + i % kSumRows] =
        s.sum[i / kSumRows][row_of_sum(i % kSumRows)];
}

template <MmaPath kPath, int kGroup>
void start(const TilePlan& plan, const LinearProducts& products, const Integers& in, const float* sums,
           const DctTable* dct, cudaStream_t stream) {
  const auto run = [&]<int kChannelWarps>() {
    using Shared = Storage<kGroup, kChannelWarps>;
    const dim3 grid(uint32_t(in.tile_count), uint32_t(products.blocks(Shared::kChannels)));
    launch("linear_int", linear_int_kernel<kPath, kGroup, kChannelWarps>, {grid, kThreads, sizeof(Shared)},
           stream, products, in, sums, dct);
  };
  if (plan.channel_warps == 4) run.template operator()<4>();
  else if (plan.channel_warps == 2) run.template operator()<2>();
  else run.template operator()<1>();
}

}  // namespace

int64_t group_sums_size(const Integers& in, int64_t groups) { return groups * in.tile_count * kTileRows; }

void group_sums(float* sums, const Integers& in, int64_t groups, int64_t group, cudaStream_t stream) {
  const dim3 grid(uint32_t(in.tile_count * (kTileRows / kSumRows)),
                  uint32_t(divide_up(groups * group, kSumDepth)));
  launch("group_sums", group_sums_kernel, {grid, kSumWarps * kWarpSize, sizeof(GroupSums)}, stream, sums, in,
         int(groups), int(group));
}

void linear_int(const LinearProducts& products, const Integers& in, const float* sums, const DctTable* dct,
                const Device& device, cudaStream_t stream) {
  const TilePlan plan = plan_linear(in.tile_count, products, device);
  const auto run = [&]<MmaPath kPath, int kGroup>() {
    start<kPath, kGroup>(plan, products, in, sums, dct, stream);
  };
  const WeightView& first = products.one[0].weight;
  if (first.dtype == DType::kQ8) run.template operator()<MmaPath::kEight, 0>();
  else if (first.group == 32) run.template operator()<MmaPath::kEight, 32>();
  else if (first.group == 128) run.template operator()<MmaPath::kEight, 128>();
  else if (plan.path == MmaPath::kFour) run.template operator()<MmaPath::kFour, 64>();
  else run.template operator()<MmaPath::kEight, 64>();
}

}  // namespace stamp::cuda

// Products of integers on tensor cores. A warp multiplies 32 output channels, two panels of weights, by up to
// 64 rows; a block of four is one tile of rows times channels of any of the products (tile_plan.h). Rows,
// weights and the parameters of groups arrive through a pipeline of asynchronous copies. Sums over all input
// channels are exact integers, so neither the order nor the path changes a bit. The epilogue scales them,
// turns coefficients back into tokens and adds the bias.
//
// For 8-bit products 4-bit weights become signed bytes in registers. 4-bit products (MmaPath) multiply codes
// by rows that were split into nibbles once before: a group's sums are scaled as they are added up, and what
// zero points take off is a product over groups, of the zero points and of minus the rows' own sums, from
// which the sums begin.
//
// What bounds the loop is the issue of instructions. So it is unrolled over the stages, whose places are then
// constants.
//
// Weights are the products' left operand, so that a lane has four output channels, whose parameters it keeps
// for all its rows. The inner index may be permuted as long as both operands agree: a lane takes 16
// consecutive input channels of a row in one load, for two products, which are two words of a panel, whose
// low nibbles are channels 0..3, its high ones 4..7.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_block.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/seq_transform.cuh"
#include "kernels/cuda/split_rows.cuh"
#include "kernels/cuda/tile_plan.h"

namespace stamp::cuda {
namespace {

constexpr int kTileRows = int(kBlock), kWarpPanels = kWarpChannels / int(kPanel);
constexpr int kWarps = kLinearWarps, kThreads = kWarps * kWarpSize;
constexpr int kChunk = 16;                      // bytes of one copy
constexpr int kLineChunks = kLine / kChunk;     // a row's 64 input channels, or a panel's step
constexpr int kLineBits = 6, kLeastGroup = 32;  // its logarithm; input channels of a group

/// Where a chunk of a line lies: lanes that read at once are apart in the banks.
__device__ __forceinline__ int chunk_offset(int line, int chunk) {
  return (line * kLineChunks + (chunk ^ (line >> 1 & 1) * 2)) * kChunk;
}
/// The step of a panel that lies in line `line` of 64 input channels: those that a warp reads at once
/// together, which are every second, or fourth if weights have eight bits.
template <int kBits>
__device__ __forceinline__ int step_of(int line) {
  constexpr int kOfLane = kBits == 4 ? 2 : 4;
  return line % 4 * kOfLane + line / 4;
}

/// kBits: of weights. kChannelWarps: TilePlan::channel_warps. A stage has kLine input channels.
template <int kBits, int kChannelWarps>
struct Storage {
  static constexpr int kStages = 4, kMostGroups = kLine / kLeastGroup;  // groups of a stage
  static constexpr int kChannels = kChannelWarps * kWarpChannels, kPanels = kChannels / int(kPanel);
  static constexpr int kSteps = kBits == 4 ? 8 : 16;  // of a panel
  // Lanes store eight channels of four rows at once, every second one: a quarter of the banks apart.
  static constexpr int kProductPitch = kChannels + 4;
  struct Stage {
    alignas(16) uint8_t rows[kTileRows * kLine];
    alignas(16) uint8_t panels[kPanels][kSteps * kLine];
    alignas(16) uint8_t zero[kPanels][kPanel][kZeroGroups];
    // Of eight panels, another one's place keeps the banks of groups apart.
    alignas(16) uint8_t group_scale[kMostGroups][kPanels + kPanels / 8][kPanel];
  };
  union {
    Stage stages[kStages];
    alignas(16) float product[kTileRows][kProductPitch];
  };
  float2 row[kTileRows];  // scale and offset, of coefficients with what L^-1 scales them by
};

/// What one thread copies of every stage: the sources go from stage to stage, the places stay. Rows and
/// panels beyond the last are others: their products are not used.
template <MmaPath kPath, int kBits, int kChannelWarps>
class Copies {
  using Shared = Storage<kBits, kChannelWarps>;
  using Stage = typename Shared::Stage;
  // Of split rows the second is one of the upper halves.
  static constexpr int kRowCopies = kTileRows * kLineChunks / kThreads;
  static constexpr int kRowStep = kPath == MmaPath::kFour ? 2 * kHalfRows : kLine;
  static constexpr int kPanelBytes = Shared::kSteps * kLine, kPanelChunks = kPanelBytes / kChunk,
                       kAllChunks = Shared::kPanels * kPanelChunks,
                       kPanelCopies = (kAllChunks + kThreads - 1) / kThreads;
  // One more chunk, of the groups' parameters.
  static constexpr int kScaleChunks = Shared::kPanels * Shared::kMostGroups,
                       kZeroChunks = Shared::kPanels * int(kZeroGroups);
  static_assert(kHalfRows == kThreads * kChunk && kTileRows * kLineChunks % kThreads == 0 &&
                kThreads % kPanelChunks == 0 && kScaleChunks + kZeroChunks <= kThreads);

 public:
  __device__ __forceinline__ Copies(const RowTile& tile, const Integers& in, const SplitRows& split, int wide,
                                    const BlockPanels<Shared::kPanels>& panels) {
    const WeightView& weight = panels.product->weight;  // for what is the same of all
#pragma unroll
    for (int i = 0; i < kRowCopies; ++i) {
      const int chunk = int(threadIdx.x) + i * kThreads;
      if constexpr (kPath == MmaPath::kFour)
        rows_[i] =
            split.nibbles + int64_t{blockIdx.x} * (depth_of(weight) / kLine) * 2 * kHalfRows + chunk * kChunk;
      else
        rows_[i] = in.q + (tile.row + min(int64_t{chunk / kLineChunks}, tile.count - 1)) * in.stride +
                   chunk % kLineChunks * kChunk;
    }
#pragma unroll
    for (int i = 0; i < kPanelCopies; ++i) {
      const int chunk = int(threadIdx.x) + i * kThreads, line = chunk % kPanelChunks / kLineChunks;
      const int panel = min(chunk / kPanelChunks, Shared::kPanels - 1);
      panels_[i] = static_cast<const uint8_t*>(panels.weight_of(panel).data) +
                   panels.source(panel) * (int64_t{depth_of(weight)} * kPanel * kBits / 8) +
                   step_of<kBits>(line) * kLine + chunk % kLineChunks * kChunk;
    }
    const int thread = int(threadIdx.x);
    row_to_ =
        kPath == MmaPath::kFour ? thread * kChunk : chunk_offset(thread / kLineChunks, thread % kLineChunks);
    upper_rows_ = kPath == MmaPath::kFour && thread * kChunk < wide * kHalfLine;
    panel_to_ = thread / kPanelChunks * kPanelBytes +
                chunk_offset(thread % kPanelChunks / kLineChunks, thread % kLineChunks);
    if constexpr (kBits == 4) {
      // Sizes of groups are powers of two.
      const int group_bits = kPath == MmaPath::kFour ? kLineBits : group_bits_of(weight),
                groups = depth_of(weight) >> group_bits;
      int chunk = thread;
      if (kPath == MmaPath::kEight && chunk < kZeroChunks) {
        constexpr int kOfQuad = int(kPanel * kZeroGroups);
        const int64_t quads = divide_up(groups, kZeroGroups);
        const int panel = chunk / int(kZeroGroups);
        other_ = panels.weight_of(panel).zero + panels.source(panel) * quads * kOfQuad +
                 chunk % int(kZeroGroups) * kChunk;
        other_step_ = kOfQuad;
        other_bits_ = group_bits + 2 - kLineBits;
        other_to_ = int(offsetof(Stage, zero)) + chunk * kChunk;
        return;
      }
      if (kPath == MmaPath::kEight) chunk -= kZeroChunks;
      const int group = chunk / Shared::kPanels, panel = chunk % Shared::kPanels;
      if (chunk >= kScaleChunks || group << group_bits >= kLine) return;
      other_ = panels.weight_of(panel).group_scale + (panels.source(panel) * groups + group) * kPanel;
      other_step_ = group_bits < kLineBits ? kLine / kLeastGroup * int(kPanel) : int(kPanel);
      other_bits_ = max(group_bits - kLineBits, 0);
      other_to_ = int(offsetof(Stage, group_scale)) +
                  (group * (Shared::kPanels + Shared::kPanels / 8) + panel) * kChunk;
    }
  }

  /// Starts those of the stage that is `ahead` of where advance() is; it is `step` of all.
  __device__ __forceinline__ void start(Stage& stage, int ahead, int step) const {
#pragma unroll
    for (int i = 0; i < kRowCopies; ++i)
      if (kPath == MmaPath::kEight || i == 0 || upper_rows_)
        copy_async_16(stage.rows + row_to_ + i * kThreads * kChunk, rows_[i] + ahead * kRowStep);
#pragma unroll
    for (int i = 0; i < kPanelCopies; ++i)
      if ((i + 1) * kThreads <= kAllChunks || int(threadIdx.x) + i * kThreads < kAllChunks)
        copy_async_16(&stage.panels[0][0] + panel_to_ + i * kThreads * kChunk,
                      panels_[i] + ahead * kPanelBytes);
    if (kBits == 4 && other_to_ >= 0)
      copy_async_16(
          reinterpret_cast<uint8_t*>(&stage) + other_to_,
          other_ + (kPath == MmaPath::kFour ? ahead * int(kPanel) : (step >> other_bits_) * other_step_));
  }
  __device__ __forceinline__ void advance(int stages) {
#pragma unroll
    for (const uint8_t*& rows : rows_) rows += stages * kRowStep;
#pragma unroll
    for (const uint8_t*& panels : panels_) panels += stages * kPanelBytes;
    if constexpr (kPath == MmaPath::kFour) other_ += stages * int(kPanel);
  }

 private:
  const uint8_t *rows_[kRowCopies], *panels_[kPanelCopies];
  const uint8_t* other_ = nullptr;
  int other_step_ = 0, other_bits_ = 0, row_to_, panel_to_, other_to_ = -1;
  bool upper_rows_;
};

/// A lane's output channels are 2 group and the next of either panel of its warp: two rows of each of two row
/// tiles of the products.
struct Lane {
  int group = int(threadIdx.x) % kWarpSize / 4, four = int(threadIdx.x) % 4;
};
using Weights = uint32_t[2][2][4];  // [row tile][product of a line]: the products' left operands
using Sums = int32_t[2][4];         // [row tile]

/// The words of the lane's two channels of a panel, in the `i`-th of its lines that are the lane's.
template <int kBytesOf>
__device__ __forceinline__ uint2 weight_words(const uint8_t (&panel)[kBytesOf], int i, const Lane& at) {
  return *reinterpret_cast<const uint2*>(panel + chunk_offset(at.four, at.group / 2) + at.group % 2 * 8 +
                                         i * 4 * kLine);
}

/// Those of 64 input channels, as signed bytes; of 4-bit weights `line` is the stage's of the whole input.
template <int kBits, class Stage>
__device__ __forceinline__ void load_bytes(Weights& a, const Stage& now, int warp_panel, int line,
                                           int group_bits, const Lane& at) {
  const int first_group = at.four * kChunk >> group_bits;  // the lane's in the stage
  const int group = (line << kLineBits >> group_bits) + first_group;
#pragma unroll
  for (int t = 0; t < kWarpPanels; ++t) {
    const auto& panel = now.panels[warp_panel + t];
    if constexpr (kBits == 4) {
      const int channel = at.group * 2;
      const SignedBytes bytes(&now.group_scale[first_group][warp_panel + t][channel],
                              &now.zero[warp_panel + t][channel][0], uint32_t(group));
#pragma unroll
      for (int product = 0; product < 2; ++product) {
        const uint2 x = weight_words(panel, product, at);
        uint32_t(&to)[4] = a[t][product];
        to[0] = bytes.first(x.x), to[1] = bytes.second(x.y);
        to[2] = bytes.first(x.x >> 4), to[3] = bytes.second(x.y >> 4);
      }
    } else {
#pragma unroll
      for (int product = 0; product < 2; ++product) {
        const uint2 first = weight_words(panel, 2 * product, at),
                    second = weight_words(panel, 2 * product + 1, at);
        uint32_t(&to)[4] = a[t][product];
        to[0] = first.x, to[1] = first.y, to[2] = second.x, to[3] = second.y;
      }
    }
  }
}

/// The lane's words of a line of 64 input channels of a row, .x and .y for the first product, .z and .w for
/// the second. `lines`: from the row at.group places before on.
__device__ __forceinline__ uint4 load_row(const uint8_t* lines, const Lane& at) {
  return *reinterpret_cast<const uint4*>(lines + chunk_offset(at.group, at.four));
}

/// sum + scale * x, where sums in between may be beyond the last one's 32 bits.
__device__ __forceinline__ int32_t add_scaled(int32_t sum, uint32_t scale, int32_t x) {
  return int32_t(uint32_t(sum) + scale * uint32_t(x));
}

/// The 4-bit products' operands of 64 input channels: codes, and the group's scales.
struct Codes {
  uint32_t a[kWarpPanels][4], scale[kWarpPanels][2];
  template <class Stage>
  __device__ __forceinline__ Codes(const Stage& now, int warp_panel, const Lane& at) {
#pragma unroll
    for (int t = 0; t < kWarpPanels; ++t) {
      const TwoBytes scales(&now.group_scale[0][warp_panel + t][at.group * 2]);
      scale[t][0] = scales.first, scale[t][1] = scales.second;
      const uint2 first = weight_words(now.panels[warp_panel + t], 0, at),
                  second = weight_words(now.panels[warp_panel + t], 1, at);
      a[t][0] = first.x, a[t][1] = first.y, a[t][2] = second.x, a[t][3] = second.y;
    }
  }
};

/// sums += times * scale * the product of codes and eight rows of nibbles.
__device__ __forceinline__ void multiply_nibbles(Sums& sums, const Codes& codes, const uint32_t (&rows)[2],
                                                 uint32_t times) {
  constexpr int32_t kNothing[4] = {};
#pragma unroll
  for (int t = 0; t < kWarpPanels; ++t) {
    int32_t group[4];
    mma_u4_u4(group, codes.a[t], rows, kNothing);
#pragma unroll
    for (int i = 0; i < 4; ++i) sums[t][i] = add_scaled(sums[t][i], times * codes.scale[t][i / 2], group[i]);
  }
}
/// The lane's words of a split row. `halves`: from the row at.group places before on.
__device__ __forceinline__ void load_nibbles(uint32_t (&words)[2], const uint8_t* halves, const Lane& at) {
  const uint2 both = *reinterpret_cast<const uint2*>(halves + at.group * kHalfLine + at.four * 8);
  words[0] = both.x, words[1] = both.y;
}

/// sums += scale * the product of codes and eight split rows, `halves` their lower ones. Wide rows take a
/// second product, of the upper ones.
template <bool kWide>
__device__ __forceinline__ void multiply_split(Sums& sums, const Codes& codes, const uint8_t* halves,
                                               const Lane& at) {
  uint32_t rows[2];
  load_nibbles(rows, halves, at);
  multiply_nibbles(sums, codes, rows, 1);
  if constexpr (kWide) {
    load_nibbles(rows, halves + kHalfRows, at);
    multiply_nibbles(sums, codes, rows, 16);
  }
}

/// sums += what zero points take off: zero points times `line_sums` (SplitRows::sums), either of their two
/// bytes. `panel`, `row`: the warp's first in the block and in the tile.
template <bool kUpper, int kColumns, int kPanels>
__device__ __forceinline__ void add_zeros(Sums (&sums)[kColumns], const BlockPanels<kPanels>& panels,
                                          int panel, const uint8_t* line_sums, int row, const Lane& at) {
  constexpr int kQuads = 8, kWords = int(kPanel);  // four groups each, of a product; of a quad's zero points
  const int quads = int(divide_up(depth_of(panels.product->weight) / kLine, kZeroGroups));
  const auto* const zeros = reinterpret_cast<const uint32_t*>(panels.weight_of(panel).zero) + at.group * 2;
  const uint32_t* const of_panel[kWarpPanels] = {zeros + panels.source(panel) * quads * kWords,
                                                 zeros + panels.source(panel + 1) * quads * kWords};
  const auto* const from = reinterpret_cast<const uint32_t*>(line_sums) +
                           (int64_t{blockIdx.x} * 2 + (kUpper ? 0 : 1)) * quads * kTileRows + row + at.group;
  for (int first = at.four; first < quads + at.four; first += kQuads) {
    const int second = first + kQuads / 2;
    uint32_t a[kWarpPanels][4] = {};
#pragma unroll
    for (int t = 0; t < kWarpPanels; ++t) {
      uint2 low{}, high{};
      if (first < quads) low = *reinterpret_cast<const uint2*>(of_panel[t] + first * kWords);
      if (second < quads) high = *reinterpret_cast<const uint2*>(of_panel[t] + second * kWords);
      a[t][0] = low.x, a[t][1] = low.y, a[t][2] = high.x, a[t][3] = high.y;
    }
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      const uint32_t b[2] = {first < quads ? from[first * kTileRows + n * 8] : 0,
                             second < quads ? from[second * kTileRows + n * 8] : 0};
#pragma unroll
      for (int t = 0; t < kWarpPanels; ++t) {
        if constexpr (kUpper) mma_u8_s8(sums[n][t], a[t], b, sums[n][t]);
        else mma_u8_u8(sums[n][t], a[t], b, sums[n][t]);
      }
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

template <MmaPath kPath, int kBits, int kChannelWarps>
__global__ void __launch_bounds__(kThreads, kLeastResident<kChannelWarps>)
    linear_int_kernel(const __grid_constant__ LinearProducts products, Integers in, SplitRows split,
                      const DctTable* dct) {
  wait_for_predecessors();
  using Shared = Storage<kBits, kChannelWarps>;
  constexpr int kStages = Shared::kStages, kColumns = kTileRows / 8 * kChannelWarps / kWarps;
  auto& s = shared_storage<Shared>();
  const auto [which, channel_block] = products.place(blockIdx.y, Shared::kChannels);
  const WeightView& weight = products.one[which].weight;
  const BlockPanels<Shared::kPanels> panels(products, which, int(channel_block));
  const int warp = int(threadIdx.x) / kWarpSize;
  const int warp_panel = warp % kChannelWarps * kWarpPanels, warp_row = warp / kChannelWarps * kColumns * 8;
  const Lane at;
  const RowTile& tile = in.tiles[blockIdx.x];  // read again after the loop: registers are scarce
  const bool busy = kChannelWarps == kWarps || warp_row < int(tile.count);
  int wide = 0;        // so many rows of the warp, or more; for split ones
  int group_bits = 0;  // the logarithm of the group's size
  if constexpr (kPath == MmaPath::kFour) {
    wide = wide_rows(tile.coded, in.plan);
  } else if constexpr (kBits == 4) {
    group_bits = group_bits_of(weight);
  }

  Copies<kPath, kBits, kChannelWarps> copies(tile, in, split, wide, panels);
  wide -= warp_row;
  const int steps = depth_of(weight) / kLine;
#pragma unroll
  for (int stage = 0; stage < kStages - 1; ++stage) {
    if (stage < steps) copies.start(s.stages[stage], stage, stage);
    commit_copies();
  }
  copies.advance(kStages - 1);
  Sums sums[kColumns] = {};
  if constexpr (kPath == MmaPath::kFour) {
    if (busy) {
      add_zeros<true>(sums, panels, warp_panel, split.sums, warp_row, at);
#pragma unroll
      for (auto& column : sums)
#pragma unroll
        for (auto& panel : column)
#pragma unroll
          for (int32_t& sum : panel) sum = add_scaled(0, 256, sum);
      add_zeros<false>(sums, panels, warp_panel, split.sums, warp_row, at);
    }
  }
  const auto multiply = [&](const typename Shared::Stage& now, int step) {
    if constexpr (kPath == MmaPath::kEight) {
      Weights a;
      load_bytes<kBits>(a, now, warp_panel, step, group_bits, at);
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        const uint4 x = load_row(now.rows + (warp_row + n * 8) * kLine, at);
        const uint32_t b[2][2] = {{x.x, x.y}, {x.z, x.w}};
#pragma unroll
        for (int product = 0; product < 2; ++product)
#pragma unroll
          for (int t = 0; t < 2; ++t) mma_s8_u8(sums[n][t], a[t][product], b[product], sums[n][t]);
      }
    } else {
      const Codes codes(now, warp_panel, at);
      const auto multiply_eight = [&]<bool kWide>(int n) {
        multiply_split<kWide>(sums[n], codes, now.rows + (warp_row + n * 8) * kHalfLine, at);
      };
      if (wide > 0) multiply_eight.template operator()<true>(0);
      else multiply_eight.template operator()<false>(0);
      if (wide > 8) {
#pragma unroll
        for (int n = 1; n < kColumns; ++n) multiply_eight.template operator()<true>(n);
      } else {
#pragma unroll
        for (int n = 1; n < kColumns; ++n) multiply_eight.template operator()<false>(n);
      }
    }
  };
#pragma unroll 1
  for (int first = 0; first < steps; first += kStages) {
#pragma unroll
    for (int stage = 0; stage < kStages; ++stage) {
      const int step = first + stage;
      if (step >= steps) break;
      wait_copies<kStages - 2>();
      __syncthreads();  // the stage has arrived for everyone, and everyone is done with the one before
      if (step + kStages - 1 < steps)
        copies.start(s.stages[(stage + kStages - 1) % kStages], stage, step + kStages - 1);
      commit_copies();
      if (busy) multiply(s.stages[stage], step);
    }
    copies.advance(kStages);
  }
  const RowTile done = tile;
  if (const int r = int(threadIdx.x); r < done.count) s.row[r] = row_factors(in, done, r);
  wait_copies<0>();
  __syncthreads();  // the stages become the product

#pragma unroll
  for (int p = 0; p < kWarpPanels; ++p) {
    const ChannelPair pair(panels, warp_panel + p, at.group);
    const int channel = (warp_panel + p) * int(kPanel) + at.group * 2;
#pragma unroll
    for (int i = 0; i < kColumns * 2; ++i) {
      const int n = i / 2, r = warp_row + n * 8 + at.four * 2 + i % 2;
      *reinterpret_cast<float2*>(&s.product[r][channel]) =
          pair.scaled(sums[n][p][i % 2], sums[n][p][2 + i % 2], r < done.count ? s.row[r] : float2{});
    }
  }
  __syncthreads();
  if (done.coded) {
    const int column = int(threadIdx.x);
    if (column < Shared::kChannels)
      column_sums<true>(&s.product[0][column], Shared::kProductPitch, in.plan, dct);
    __syncthreads();
  }
  ProductWriter<Shared::kChannels, kThreads>(products, panels).write(s.product, done);
}

constexpr int kSplitRows = 32, kSplitDepth = 512, kSplitWarps = 8;  // rows, input channels of a block
constexpr int kSplitQuads = kSplitDepth / kLine / int(kZeroGroups);

struct LineSums {
  // Lower and upper; one row more, which keeps the banks of a row's lines apart.
  alignas(4) uint8_t bytes[2][kSplitQuads][kSplitRows + 1][kZeroGroups];
};

/// Half a tile; absent rows are zeros. A warp reads 512 input channels of a row, 16 a lane; four neighbouring
/// lanes have a line.
__global__ void __launch_bounds__(kSplitWarps* kWarpSize) split_rows_kernel(SplitRows out, Integers in) {
  auto& s = shared_storage<LineSums>();
  const int lane = int(threadIdx.x) % kWarpSize, warp = int(threadIdx.x) / kWarpSize, four = lane % 4;
  const int64_t tile_index = blockIdx.x / 2;
  const int first_row = int(blockIdx.x) % 2 * kSplitRows;
  const RowTile tile = in.tiles[tile_index];
  const int wide = wide_rows(tile.coded, in.plan);
  const int lines = int(out.lines), quads = int(divide_up(lines, kZeroGroups)),
            first_quad = int(blockIdx.y) * kSplitQuads, line_of_block = lane / 4,
            line = first_quad * int(kZeroGroups) + line_of_block;
  for (int r = warp; r < kSplitRows; r += kSplitWarps) {
    const int row = first_row + r;
    uint4 x{};
    if (row < tile.count && line < lines)
      x = *reinterpret_cast<const uint4*>(in.q + (tile.row + row) * in.stride + line * kLine + four * 16);
    const uint32_t sum = minus_line_sum(x);
    if (four < 2)  // a byte each
      s.bytes[four][line_of_block / int(kZeroGroups)][r][line_of_block % int(kZeroGroups)] =
          uint8_t(sum >> four * 8);
    if (line < lines) store_nibbles(out, tile_index, line, row, four, row < wide, x);
  }
  __syncthreads();
  const int live = min(kSplitQuads, quads - first_quad);
  for (int i = int(threadIdx.x); i < 2 * live * kSplitRows; i += kSplitWarps * kWarpSize) {
    const int r = i % kSplitRows, quad = i / kSplitRows % live, upper = i / kSplitRows / live;
    *reinterpret_cast<uint32_t*>(sums_at(out, tile_index, upper != 0, first_quad + quad, first_row + r)) =
        *reinterpret_cast<const uint32_t*>(s.bytes[upper][quad][r]);
  }
}

template <MmaPath kPath, int kBits>
void start(const TilePlan& plan, const LinearProducts& products, const Integers& in, const SplitRows& split,
           const DctTable* dct, cudaStream_t stream) {
  const auto run = [&]<int kChannelWarps>() {
    using Shared = Storage<kBits, kChannelWarps>;
    const dim3 grid(uint32_t(in.tile_count), uint32_t(products.blocks(Shared::kChannels)));
    const bool overlaps = in.tile_count == 1 && !in.any_coded;
    launch("linear_int", linear_int_kernel<kPath, kBits, kChannelWarps>,
           {grid, kThreads, sizeof(Shared), overlaps}, stream, products, in, split, dct);
  };
  if (plan.channel_warps == 4) run.template operator()<4>();
  else if (plan.channel_warps == 2) run.template operator()<2>();
  else run.template operator()<1>();
}

}  // namespace

int64_t split_nibbles_size(const Integers& in, int64_t lines) {
  return in.tile_count * lines * 2 * kHalfRows;
}
int64_t split_sums_size(const Integers& in, int64_t lines) {
  return in.tile_count * 2 * round_up(lines, kZeroGroups) * kTileRows;
}

void split_rows(const SplitRows& out, const Integers& in, cudaStream_t stream) {
  const dim3 grid(uint32_t(in.tile_count * (kTileRows / kSplitRows)),
                  uint32_t(divide_up(out.lines * kLine, kSplitDepth)));
  launch("split_rows", split_rows_kernel, {grid, kSplitWarps * kWarpSize, sizeof(LineSums)}, stream, out, in);
}

void linear_int(const LinearInt& linear, cudaStream_t stream) {
  const auto& [products, in, split, dct, device] = linear;
  const TilePlan plan = plan_linear(in.tile_count, products, device, in.any_coded, in.plan);
  const auto run = [&]<MmaPath kPath, int kBits>() {
    start<kPath, kBits>(plan, products, in, split, dct, stream);
  };
  if (plan.path == MmaPath::kWgmma) linear_wgmma(linear, plan.row_tiles, stream);
  else if (products.one[0].weight.dtype == DType::kQ8) run.template operator()<MmaPath::kEight, 8>();
  else if (plan.path == MmaPath::kEight) run.template operator()<MmaPath::kEight, 4>();
  else run.template operator()<MmaPath::kFour, 4>();
}

}  // namespace stamp::cuda

// Products of bytes on Hopper's tensor cores, for many rows: wgmma, which multiplies 64 output channels by
// 128 rows that it reads from shared memory itself, while the warps unpack the next weights. Two groups of
// four warps have 64 channels each of one or two times 128 rows, so that weights become bytes once for all of
// them. Sums are exact integers: the bits are those of linear_int.cu, which says more about operands and
// epilogue.
//
// Weights are the left operand, from registers; a warp has one panel. Four lanes share two channels of it: of
// 32 input channels lane `four` needs channels 4 four and the three after and those 16 further. Every word of
// codes holds eight, of which even lanes take the low nibbles and odd ones the high.
//
// The products of half a stage run while the weights of the next half are unpacked, so that a stage is still
// being read after the next one's barrier: of four stages two arrive.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_block.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/seq_transform.cuh"
#include "kernels/cuda/tile_plan.h"

namespace stamp::cuda {
namespace {

constexpr int kTileRows = int(kBlock), kThreads = kWgmmaWarps * kWarpSize;
constexpr int kChannels = kWgmmaChannels, kPanels = kChannels / int(kPanel);
[[maybe_unused]] constexpr int kRows = 128, kDepth = 32;  // of one instruction
// A stage's input channels are a swizzled line. Half of them, which have one group, are multiplied at a time.
constexpr int kHalf = int(kWgmmaLeastGroup), kWide = 2 * kHalf, kTogether = kHalf / kDepth;
constexpr int kChunk = 16;                       // bytes of one copy
constexpr int kAhead = 2, kStages = kAhead + 2;  // stages that copies are started ahead; all
constexpr size_t kAllShared = 228 << 10, kReservedShared = 1 << 10;  // of a multiprocessor, for every block
static_assert(kPanels == kWgmmaWarps && kWide == 128);

/// kBits: of weights. kTiles: of rows, TilePlan::row_tiles.
template <int kBits, int kTiles>
struct Storage {
  static constexpr int kPanelBytes = kWide * int(kPanel) * kBits / 8;
  static constexpr int kProductPitch = kChannels + 4;  // as in linear_int.cu
  struct Stage {
    alignas(1024) uint8_t rows[kTiles * kTileRows * kWide];
    alignas(16) uint8_t panels[kPanels][kPanelBytes];
    alignas(16) uint8_t zero[kPanels][kPanel][kZeroGroups];
    alignas(16) uint8_t group_scale[2][kPanels][kPanel];  // of either half
  };
  union {
    Stage stages[kStages];
    alignas(16) float product[kTiles][kTileRows][kProductPitch];
  };
  float2 row[kTiles][kTileRows];  // row_factors()
  RowTile tiles[kTiles];          // those beyond the last have no rows
};

/// Where chunk `chunk` of a panel lies, four of them for a step of input channels: what the lanes of a warp
/// read at once, of up to four steps, is apart in the banks.
[[maybe_unused]] __device__ __forceinline__ int place_in_panel(int chunk) {
  return (chunk ^ (chunk >> 3 & 1) * 2) * kChunk;
}

/// What one thread copies of every stage. Rows and panels beyond the last are others; input channels beyond
/// the last, half a line, are zeros.
template <int kBits, int kTiles>
class Copies {
  using Shared = Storage<kBits, kTiles>;
  using Stage = typename Shared::Stage;
  static constexpr int kLineChunks = kWide / kChunk, kPassRows = kThreads / kLineChunks;
  static constexpr int kRowCopies = kTiles * kTileRows / kPassRows;
  static constexpr int kPanelChunks = Shared::kPanelBytes / kChunk,
                       kPanelCopies = kPanels * kPanelChunks / kThreads;
  static_assert(kTileRows % kPassRows == 0 && kThreads % kPanelChunks == 0);

 public:
  /// `group_bits`: the logarithm of the group's size.
  __device__ __forceinline__ Copies(const RowTile (&tiles)[kTiles], const Integers& in,
                                    const BlockPanels<kPanels>& panels, int group_bits)
      : q_(in.q), group_bits_(group_bits) {
    const int thread = int(threadIdx.x), line = thread / kLineChunks, chunk = thread % kLineChunks;
    const int depth = depth_of(panels.product->weight);
    steps_ = int(divide_up(depth, kWide));
    ragged_ = depth % kWide != 0;
#pragma unroll
    for (int i = 0; i < kRowCopies; ++i) {
      const RowTile& tile = tiles[i * kPassRows / kTileRows];
      const int row = min(i * kPassRows % kTileRows + line, max(int(tile.count) - 1, 0));
      rows_[i] = uint32_t((tile.row + row) * (in.stride / kChunk)) + chunk;
    }
    row_to_ = (line * kLineChunks + (chunk ^ line % 8)) * kChunk;
#pragma unroll
    for (int i = 0; i < kPanelCopies; ++i) {
      const int panel = (thread + i * kThreads) / kPanelChunks;
      panels_[i] = static_cast<const uint8_t*>(panels.weight_of(panel).data) +
                   panels.source(panel) * (int64_t{depth} * kPanel * kBits / 8) +
                   thread % kPanelChunks * kChunk;
    }
    upper_ = thread % kPanelChunks >= kPanelChunks / 2;
    if constexpr (kBits == 4) {
      const int groups = depth >> group_bits;
      constexpr int kZeroChunks = kPanels * int(kZeroGroups), kOfQuad = int(kPanel * kZeroGroups);
      if (thread < kZeroChunks) {  // one quad of groups
        const int panel = thread / int(kZeroGroups);
        other_ = panels.weight_of(panel).zero +
                 panels.source(panel) * divide_up(groups, kZeroGroups) * kOfQuad +
                 thread % int(kZeroGroups) * kChunk;
        other_to_ = int(offsetof(Stage, zero)) + thread * kChunk;
        other_mask_ = -kOfQuad;
      } else if (thread < kZeroChunks + 2 * kPanels) {
        const int half = (thread - kZeroChunks) / kPanels, panel = thread % kPanels;
        other_ = panels.weight_of(panel).group_scale +
                 (panels.source(panel) * groups + (half * kHalf >> group_bits)) * kPanel;
        other_to_ = int(offsetof(Stage, group_scale)) + (half * kPanels + panel) * int(kPanel);
        other_mask_ = -1;
        other_upper_ = half == 1;
      }
    }
  }

  __device__ __forceinline__ int steps() const { return steps_; }

  /// Starts those of stage `step`, as many as advance() was called times.
  __device__ __forceinline__ void start(Stage& stage, int step) const {
    const bool half = ragged_ && step == steps_ - 1;
#pragma unroll
    for (int i = 0; i < kRowCopies; ++i)
      copy_async_16(stage.rows + row_to_ + i * kPassRows * kWide, q_ + uint64_t{rows_[i]} * kChunk);
#pragma unroll
    for (int i = 0; i < kPanelCopies; ++i)
      copy_async_16(&stage.panels[0][0] + place_in_panel(int(threadIdx.x)) + i * kThreads * kChunk,
                    panels_[i], half && upper_ ? 0 : kChunk);
    if (kBits == 4 && other_to_ >= 0)  // a group's scales of a panel are a quarter of a quad's zero points
      copy_async_16(reinterpret_cast<uint8_t*>(&stage) + other_to_,
                    other_ + ((step * kWide >> group_bits_) * int(kPanel) & other_mask_),
                    half && other_upper_ ? 0 : kChunk);
  }
  __device__ __forceinline__ void advance() {
    q_ += kWide;
#pragma unroll
    for (const uint8_t*& panels : panels_) panels += Shared::kPanelBytes;
  }

 private:
  const uint8_t *q_, *panels_[kPanelCopies];
  uint32_t rows_[kRowCopies];  // where they are from q_ on, in chunks
  const uint8_t* other_ = nullptr;
  int steps_, group_bits_, row_to_, other_to_ = -1, other_mask_ = 0;
  bool ragged_, upper_, other_upper_ = false;
};

struct Lane {
  int group = int(threadIdx.x) % kWarpSize / 4, four = int(threadIdx.x) % 4;
};
using Weights = uint32_t[kTogether][4];  // the left operands of half a stage's products

/// Those of a warp's panel, as signed bytes; of 4-bit weights `step` is the stage's of the whole input.
template <int kBits, class Stage>
__device__ __forceinline__ void load_bytes(Weights& a, const Stage& now, int panel, int step, int half,
                                           int group_bits, const Lane& at) {
  constexpr int kStep = kBits == 4 ? 8 : 4;  // input channels of a step, four chunks
  const int of_lane = place_in_panel(at.four * 4 / kStep * 4 + at.group / 2) + at.group % 2 * 8;
  const auto words = [&](int k) {     // of the lane's channels, from input channel k on, a multiple of 16
    const int chunk = k / kStep * 4;  // has no bit in common with the lane's
    return *reinterpret_cast<const uint2*>(
        &now.panels[panel][chunk * kChunk + (of_lane ^ (place_in_panel(chunk) - chunk * kChunk))]);
  };
  const auto load = [&](const auto& first, const auto& second) {
#pragma unroll
    for (int p = 0; p < kTogether; ++p) {
      const int k = half * kHalf + p * kDepth;
      const uint2 low = words(k), high = words(k + kDepth / 2);
      a[p][0] = first(low.x), a[p][1] = second(low.y), a[p][2] = first(high.x), a[p][3] = second(high.y);
    }
  };
  if constexpr (kBits == 4) {
    const int channel = at.group * 2, odd = at.four % 2 * 4;
    const SignedBytes bytes(&now.group_scale[half][panel][channel], &now.zero[panel][channel][0],
                            uint32_t(step * kWide + half * kHalf) >> group_bits);
    load([&](uint32_t codes) { return bytes.first(codes >> odd); },
         [&](uint32_t codes) { return bytes.second(codes >> odd); });
  } else {
    const auto as_they_are = [](uint32_t x) { return x; };
    load(as_they_are, as_they_are);
  }
}

template <int kBits, int kTiles>
__global__ void __launch_bounds__(kThreads, resident_wgmma_blocks(kBits, kTiles))
    linear_wgmma_kernel(const __grid_constant__ LinearProducts products, Integers in, const DctTable* dct) {
#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Shared = Storage<kBits, kTiles>;
  constexpr int kRowParts = kTiles * kTileRows / kRows;
  auto& s = shared_storage<Shared>();
  const int thread = int(threadIdx.x);
  if (thread < kTiles) {
    const int64_t index = int64_t{blockIdx.x} * kTiles + thread;
    RowTile tile = in.tiles[min(index, in.tile_count - 1)];
    if (index >= in.tile_count) tile.count = 0, tile.coded = false;
    s.tiles[thread] = tile;
  }
  __syncthreads();
  const auto [which, channel_block] = products.place(blockIdx.y, kChannels);
  const BlockPanels<kPanels> panels(products, which, int(channel_block));
  const int panel = thread / kWarpSize;
  const Lane at;
  const int group_bits = kBits == 4 ? group_bits_of(panels.product->weight) : 0;

  Copies<kBits, kTiles> copies(s.tiles, in, panels, group_bits);
  const int steps = copies.steps();
#pragma unroll
  for (int stage = 0; stage < kAhead; ++stage) {
    if (stage < steps) copies.start(s.stages[stage], stage);
    commit_copies();
    copies.advance();
  }
  int32_t sums[kRowParts][64] = {};
  Weights a[2];  // of the products that run, and of the next
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    wait_copies<kAhead - 1>();
    fence_for_wgmma();
    __syncthreads();  // the stage has arrived for everyone, and everyone is done with the one before the last
    if (step + kAhead < steps) copies.start(s.stages[(step + kAhead) % kStages], step + kAhead);
    commit_copies();
    copies.advance();
    auto& now = s.stages[step % kStages];
    const uint64_t rows = swizzled_rows(now.rows);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      load_bytes<kBits>(a[half], now, panel, step, half, group_bits, at);
#pragma unroll
      for (auto& operand : a[half]) pin(operand);
      fence_wgmma();
#pragma unroll
      for (int p = 0; p < kTogether; ++p)
#pragma unroll
        for (int part = 0; part < kRowParts; ++part)
          wgmma_s8_u8(sums[part], a[half][p],
                      further(rows, part * kRows * kWide + (half * kTogether + p) * kDepth));
      commit_wgmma();
      wait_wgmma<1>();
    }
  }
  wait_wgmma<0>();
#pragma unroll
  for (auto& part : sums) pin(part);
  if (const int tile = thread / kTileRows, r = thread % kTileRows; tile < kTiles && r < s.tiles[tile].count)
    s.row[tile][r] = row_factors(in, s.tiles[tile], r);
  wait_copies<0>();
  __syncthreads();  // the stages become the products

  const ChannelPair pair(panels, panel, at.group);
#pragma unroll
  for (int i = 0; i < kRowParts * 32; ++i) {
    const int n = i / 2 * 8 + at.four * 2 + i % 2, tile = n / kTileRows, r = n % kTileRows;
    const int32_t* const sum = sums[i / 32] + i % 32 / 2 * 4 + i % 2;
    *reinterpret_cast<float2*>(&s.product[tile][r][panel * int(kPanel) + at.group * 2]) =
        pair.scaled(sum[0], sum[2], r < s.tiles[tile].count ? s.row[tile][r] : float2{});
  }
  __syncthreads();
  for (int i = thread; i < kTiles * kChannels; i += kThreads)
    if (const int tile = i / kChannels; s.tiles[tile].coded)
      column_sums<true>(&s.product[tile][0][i % kChannels], Shared::kProductPitch, in.plan, dct);
  __syncthreads();
  const ProductWriter<kChannels, kThreads> writer(products, panels);
  for (int tile = 0; tile < kTiles; ++tile) writer.write(s.product[tile], s.tiles[tile]);
#endif
}

template <int kBits, int kTiles>
void start(const LinearInt& linear, cudaStream_t stream) {
  using Shared = Storage<kBits, kTiles>;
  static_assert(resident_wgmma_blocks(kBits, kTiles) * (sizeof(Shared) + kReservedShared) <= kAllShared);
  const dim3 grid(uint32_t(divide_up(linear.in.tile_count, kTiles)),
                  uint32_t(linear.products.blocks(kChannels)));
  launch("linear_wgmma", linear_wgmma_kernel<kBits, kTiles>, {grid, kThreads, sizeof(Shared)}, stream,
         linear.products, linear.in, linear.dct);
}

}  // namespace

bool has_wgmma_code() {
#if !defined(__CUDACC__) || defined(STAMP_SM_90A)
  return true;
#else
  return false;
#endif
}

void linear_wgmma(const LinearInt& linear, int row_tiles, cudaStream_t stream) {
  const auto run = [&]<int kBits>() {
    if (row_tiles == 4) start<kBits, 4>(linear, stream);
    else start<kBits, 2>(linear, stream);
  };
  if (linear.products.one[0].weight.dtype == DType::kQ8) run.template operator()<8>();
  else run.template operator()<4>();
}

}  // namespace stamp::cuda

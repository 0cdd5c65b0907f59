// Products of integers for few rows, as in decoding: tensor cores would multiply mostly absent rows, and the
// time is that of reading the weights once. A block has one panel of 16 output channels, of any of the
// products. A warp takes 512
// input channels at a time, a lane 64 of them for four output channels, so that a lane's 16-byte loads are
// whole sectors with its neighbours' and a group's sum needs no exchange. Sums of integers are exact however
// they are dealt out; the scaling of groups runs in their order, so the bits are those of linear_int.cu.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "kernels/cuda/tile_plan.h"

namespace stamp::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarpSize;
constexpr int kQuads = int(kPanel) / 4, kLaneDepth = 64, kSteps = kLaneDepth / 8;
constexpr int kWarpDepth = kWarpSize / kQuads * kLaneDepth, kDepth = kWarps * kWarpDepth;

/// What the warps leave for the scaling of one round of kDepth input channels. A unit is as many of them as a
/// lane adds up before it must begin anew: a group of 32, else 64. Odd halves of the banks for odd rows.
template <int kRows, int kUnits>
struct Round {
  alignas(16) int32_t sum[kRows][kUnits * kPanel + kPanel];
  alignas(16) float scale[kUnits][kPanel];  // of groups, from the round's first on
  alignas(16) float shift[kUnits][kPanel];  // -zero / 16 * scale
  int32_t row_sum[kRows][kUnits + 1];
};
template <int kRows, int kUnits>
struct Storage {
  alignas(16) uint8_t rows[kWarps][kRows][kWarpDepth];
  Round<kRows, kUnits> round[2];  // in turn, so that one barrier a round is enough
};
template <int kRows>
struct StorageOfEight {
  alignas(16) uint8_t rows[kWarps][kRows][kWarpDepth];
  alignas(16) int32_t sum[kWarps][kRows][kPanel];
};

struct Lane {
  int warp = int(threadIdx.x) / kWarpSize, lane = int(threadIdx.x) % kWarpSize;
  int quad = lane % kQuads;  // its output channels are 4 quad .. + 3
  int part = lane / kQuads;  // its input channels begin at 64 part of the warp's
  // Lanes go through their steps in different orders, i ^ turn, which keeps the banks of rows and sums apart:
  // the bits of `part` backwards.
  int turn = (part & 1) << 2 | (part & 2) | part >> 2;
};

/// The warp's input channels of every row, from `k` on, to shared memory; zeros where there are none.
template <int kRows>
__device__ __forceinline__ void stage_rows(uint8_t (&rows)[kRows][kWarpDepth], const Integers& in, int k,
                                           int depth, const Lane& at) {
  __syncwarp();  // those before are done with
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    uint4 x{};
    if (r < in.rows && k + at.lane * 16 < depth)
      x = *reinterpret_cast<const uint4*>(in.q + r * in.stride + k + at.lane * 16);
    *reinterpret_cast<uint4*>(&rows[r][at.lane * 16]) = x;
  }
  __syncwarp();
}

/// sums[r][c] += the products of eight input channels of the lane's, those of `step`.
template <bool kFourBits, int kRows>
__device__ __forceinline__ void multiply_step(int32_t (&sums)[kRows][4],
                                              const uint8_t (&rows)[kRows][kWarpDepth],
                                              const uint4 (&words)[kFourBits ? 1 : 2], int step,
                                              const Lane& at) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const uint2 x = *reinterpret_cast<const uint2*>(&rows[r][at.part * kLaneDepth + step * 8]);
    const auto add = [&](int c, uint32_t first, uint32_t second) {
      if constexpr (kFourBits) {
        sums[r][c] = dp4a_u8_u8(x.x, first & 0x0f0f0f0fu, sums[r][c]);
        sums[r][c] = dp4a_u8_u8(x.y, first >> 4 & 0x0f0f0f0fu, sums[r][c]);
      } else {
        sums[r][c] = dp4a_u8_s8(x.x, first, sums[r][c]);
        sums[r][c] = dp4a_u8_s8(x.y, second, sums[r][c]);
      }
    };
    const uint4 &first = words[0], &second = words[kFourBits ? 0 : 1];
    add(0, first.x, second.x);
    add(1, first.y, second.y);
    add(2, first.z, second.z);
    add(3, first.w, second.w);
  }
}

/// The lane's words of its eight steps from input channel `k` on; zeros beyond the panel.
template <bool kFourBits>
__device__ __forceinline__ void load_words(uint4 (&words)[kSteps][kFourBits ? 1 : 2], const uint8_t* panel,
                                           int k, int depth, const Lane& at) {
  constexpr int kLines = kFourBits ? 1 : 2;  // of 64 bytes, for eight input channels
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      words[j][i] = {};
      if (k < depth)
        words[j][i] = *reinterpret_cast<const uint4*>(panel + ((k / 8 + (j ^ at.turn)) * kLines + i) * 64 +
                                                      at.quad * 16);
    }
  }
}

/// This block's product, and its panel of it.
struct Place {
  const LinearProduct& product;
  int64_t panel;
};
__device__ __forceinline__ Place place_of(const LinearProducts& products) {
  const auto [product, panel] = products.place(blockIdx.x, kPanel);
  return {products.one[product], panel};
}

/// The row's scale and offset, and the bias.
__device__ __forceinline__ void finish(const Place& place, const Integers& in, int row, int column,
                                       float total) {
  const auto& [out, weight, bias] = place.product;
  const int64_t channel = place.panel * kPanel + column;
  if (row >= in.rows || channel >= out.cols) return;
  const float product = fmaf(in.scale[row], total, in.offset[row] * weight.sum[channel]);
  out.row(row)[channel] = product + (bias != nullptr ? bias[channel] : 0.0f);
}

template <int kRows, int kUnit>
__global__ void __launch_bounds__(kThreads)
    linear_few_four_kernel(const __grid_constant__ LinearProducts products, Integers in) {
  const Place place = place_of(products);
  const WeightView& weight = place.product.weight;
  constexpr int kUnits = kDepth / kUnit;
  auto& s = shared_storage<Storage<kRows, kUnits>>();
  const Lane at;
  const int tid = int(threadIdx.x), depth = int(weight.padded_cols()), group = int(weight.group),
            groups = depth / group;
  const auto* const panel = static_cast<const uint8_t*>(weight.data) + place.panel * weight.panel_bytes();
  const int64_t parameters = place.panel * groups * kPanel;
  // The scaling: a thread has one row and one output channel.
  const int row = tid / int(kPanel), column = tid % int(kPanel);
  float total = 0.0f;

  uint4 words[kSteps][1];
  load_words<true>(words, panel, at.warp * kWarpDepth + at.part * kLaneDepth, depth, at);
  for (int k = 0, turn = 0; k < depth; k += kDepth, turn ^= 1) {
    auto& rows = s.rows[at.warp];
    auto& round = s.round[turn];
    const int warp_k = k + at.warp * kWarpDepth;
    stage_rows<kRows>(rows, in, warp_k, depth, at);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {  // 16 channels a lane
      constexpr int kLanes = kUnit / 16;
      constexpr uint32_t kOnes = 0x01010101u;
      const uint4 x = *reinterpret_cast<const uint4*>(&rows[r][at.lane * 16]);
      int32_t sum = dp4a_u8_u8(x.x, kOnes, dp4a_u8_u8(x.y, kOnes, 0));
      sum = dp4a_u8_u8(x.z, kOnes, dp4a_u8_u8(x.w, kOnes, sum));
      for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kFullWarp, sum, lanes);
      if (at.lane % kLanes == 0) round.row_sum[r][(at.warp * kWarpSize + at.lane) / kLanes] = sum;
    }

    int32_t sums[kRows][4] = {};
    const auto leave = [&](int unit) {  // one of the warp's is complete
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        int32_t* const to = &round.sum[r][(at.warp * (kWarpDepth / kUnit) + unit) * kPanel + at.quad * 4];
        *reinterpret_cast<int4*>(to) = make_int4(sums[r][0], sums[r][1], sums[r][2], sums[r][3]);
#pragma unroll
        for (int c = 0; c < 4; ++c) sums[r][c] = 0;
      }
    };
    constexpr bool kHalves = kUnit < kLaneDepth;
    const int half = at.turn >> 2;  // the one that comes first
#pragma unroll
    for (int j = 0; j < kSteps; ++j) {
      multiply_step<true>(sums, rows, words[j], j ^ at.turn, at);
      if (kHalves && j == kSteps / 2 - 1) leave(2 * at.part + half);
    }
    leave(kHalves ? 2 * at.part + 1 - half : at.part);
    load_words<true>(words, panel, warp_k + kDepth + at.part * kLaneDepth, depth, at);

    const int first = k / group, live = min(kDepth / group, groups - first);
    for (int i = tid; i < live * kQuads; i += kThreads) {
      const int64_t from = parameters + (int64_t{first} * kQuads + i) * 4;
      const uint2 halves = *reinterpret_cast<const uint2*>(weight.scale + from);
      const uint32_t zeros = *reinterpret_cast<const uint32_t*>(weight.zero + from);
      const float4 scale =
          make_float4(half_bits_to_float(uint16_t(halves.x)), half_bits_to_float(uint16_t(halves.x >> 16)),
                      half_bits_to_float(uint16_t(halves.y)), half_bits_to_float(uint16_t(halves.y >> 16)));
      constexpr float kSixteenth = -1.0f / 16;
      *reinterpret_cast<float4*>(&round.scale[i / kQuads][i % kQuads * 4]) = scale;
      *reinterpret_cast<float4*>(&round.shift[i / kQuads][i % kQuads * 4]) = make_float4(
          float(zeros & 255) * kSixteenth * scale.x, float(zeros >> 8 & 255) * kSixteenth * scale.y,
          float(zeros >> 16 & 255) * kSixteenth * scale.z, float(zeros >> 24) * kSixteenth * scale.w);
    }
    __syncthreads();
    if (row >= kRows) continue;
    const int units = group / kUnit;  // of a group: one or two
    for (int g = 0; g < live; ++g) {
      int32_t sum = round.sum[row][g * units * kPanel + column], row_sum = round.row_sum[row][g * units];
      if (units == 2) {
        sum += round.sum[row][(2 * g + 1) * kPanel + column];
        row_sum += round.row_sum[row][2 * g + 1];
      }
      total = fmaf(float(sum), round.scale[g][column], total);
      total = fmaf(float(row_sum), round.shift[g][column], total);
    }
  }
  if (row < kRows) finish(place, in, row, column, total);
}

template <int kRows>
__global__ void __launch_bounds__(kThreads)
    linear_few_eight_kernel(const __grid_constant__ LinearProducts products, Integers in) {
  const Place place = place_of(products);
  const WeightView& weight = place.product.weight;
  auto& s = shared_storage<StorageOfEight<kRows>>();
  const Lane at;
  const int depth = int(weight.padded_cols());
  const auto* const panel = static_cast<const uint8_t*>(weight.data) + place.panel * weight.panel_bytes();
  int32_t sums[kRows][4] = {};
  for (int k = at.warp * kWarpDepth; k < depth; k += kDepth) {
    uint4 words[kSteps][2];
    load_words<false>(words, panel, k + at.part * kLaneDepth, depth, at);
    stage_rows<kRows>(s.rows[at.warp], in, k, depth, at);
#pragma unroll
    for (int j = 0; j < kSteps; ++j) multiply_step<false>(sums, s.rows[at.warp], words[j], j ^ at.turn, at);
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < 4; ++c)
      for (int lanes = kQuads; lanes < kWarpSize; lanes *= 2)
        sums[r][c] += __shfl_xor_sync(kFullWarp, sums[r][c], lanes);
    if (at.part == 0)
      *reinterpret_cast<int4*>(&s.sum[at.warp][r][at.quad * 4]) =
          make_int4(sums[r][0], sums[r][1], sums[r][2], sums[r][3]);
  }
  __syncthreads();
  const int row = int(threadIdx.x) / int(kPanel), column = int(threadIdx.x) % int(kPanel);
  if (row >= kRows) return;
  int32_t sum = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) sum += s.sum[warp][row][column];
  const float scale = half_bits_to_float(weight.scale[place.panel * kPanel + column]);
  finish(place, in, row, column, fmaf(float(sum), scale, 0.0f));
}

template <int kRows>
void start(const LinearProducts& products, const Integers& in, cudaStream_t stream) {
  const auto blocks = uint32_t(products.blocks(kPanel));
  const auto four = [&]<int kUnit>() {
    launch("linear_few_four", linear_few_four_kernel<kRows, kUnit>,
           {blocks, kThreads, sizeof(Storage<kRows, kDepth / kUnit>)}, stream, products, in);
  };
  const WeightView& first = products.one[0].weight;
  if (first.dtype == DType::kQ8)
    launch("linear_few_eight", linear_few_eight_kernel<kRows>,
           {blocks, kThreads, sizeof(StorageOfEight<kRows>)}, stream, products, in);
  else if (first.group < kLaneDepth) four.template operator()<32>();
  else four.template operator()<kLaneDepth>();
}

}  // namespace

void linear_few(const LinearProducts& products, const Integers& in, cudaStream_t stream) {
  if (in.rows == 1) start<1>(products, in, stream);
  else if (in.rows <= 4) start<4>(products, in, stream);
  else start<kFewRows>(products, in, stream);
}

}  // namespace stamp::cuda

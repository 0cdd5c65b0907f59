// Products of integers for few rows, as in decoding: tensor cores would multiply mostly absent rows, and the
// time is that of reading the weights once. A block has one panel of 16 output channels, of any of the
// products. A warp takes 512 input channels at a time, a lane 64 of them for four output channels, so that a
// lane's 16-byte loads are whole sectors with its neighbours', and keeps its integer sums to the end. These
// are exact however they are dealt out, so the bits are those of linear_int.cu.
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

template <int kRows>
struct Storage {
  alignas(16) uint8_t rows[kWarps][kRows][kWarpDepth];
  alignas(16) int32_t sum[kWarps][kRows][kPanel];
};

struct Lane {
  int warp = int(threadIdx.x) / kWarpSize, lane = int(threadIdx.x) % kWarpSize;
  int quad = lane % kQuads;  // its output channels are 4 quad .. + 3
  int part = lane / kQuads;  // its input channels begin at 64 part of the warp's
  // Lanes go through their steps in different orders, i ^ turn, which keeps the banks of rows apart:
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

/// Parameters of the lane's groups, which are neighbours, for its four output channels, as they lie there.
template <int kLaneGroups>
struct GroupParameters {
  uint32_t scale[kLaneGroups];
  uint4 zero;
};
template <int kLaneGroups>
__device__ __forceinline__ void load_parameters(GroupParameters<kLaneGroups>& p, const WeightView& weight,
                                                int64_t panel, int groups, int group, const Lane& at) {
  const int64_t quads = divide_up(groups, kZeroGroups);
  p = {};
  if (group >= groups) return;
#pragma unroll
  for (int g = 0; g < kLaneGroups; ++g)
    p.scale[g] = *reinterpret_cast<const uint32_t*>(weight.group_scale +
                                                    (panel * groups + group + g) * kPanel + at.quad * 4);
  p.zero =
      reinterpret_cast<const uint4*>(weight.zero)[(panel * quads + group / kZeroGroups) * kQuads + at.quad];
}

/// total += scale * sums - zero * row_sum; the zeros are those of `group`.
template <int kRows>
__device__ __forceinline__ void add_group(int32_t (&total)[kRows][4], const int32_t (&sums)[kRows][4],
                                          const int32_t (&row_sum)[kRows], uint32_t scales,
                                          const uint4& zeros, int group) {
  const int shift = group % int(kZeroGroups) * 8;
  const uint32_t zero[4] = {zeros.x >> shift & 255, zeros.y >> shift & 255, zeros.z >> shift & 255,
                            zeros.w >> shift & 255};
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const uint32_t scale = scales >> c * 8 & 255;
#pragma unroll
    for (int r = 0; r < kRows; ++r)  // beyond 32 bits in between
      total[r][c] =
          int32_t(uint32_t(total[r][c]) + scale * uint32_t(sums[r][c]) - zero[c] * uint32_t(row_sum[r]));
  }
}

/// kLaneGroups: of 4-bit weights, groups that a lane's input channels begin or lie in; 0: 8-bit weights.
template <int kRows, int kLaneGroups>
__global__ void __launch_bounds__(kThreads)
    linear_few_kernel(const __grid_constant__ LinearProducts products, Integers in) {
  constexpr bool kFourBits = kLaneGroups > 0;
  const auto [which, panel_index] = products.place(blockIdx.x, kPanel);
  const auto& [out, weight, bias] = products.one[which];
  auto& s = shared_storage<Storage<kRows>>();
  const Lane at;
  const int depth = int(weight.padded_cols());
  const int group_bits = kFourBits ? group_bits_of(weight) : 0, groups = depth >> group_bits;
  const auto* const panel = static_cast<const uint8_t*>(weight.data) + panel_index * weight.panel_bytes();
  int32_t total[kRows][4] = {};

  uint4 words[kSteps][kFourBits ? 1 : 2];
  GroupParameters<kFourBits ? kLaneGroups : 1> parameters;
  const auto load = [&](int k) {  // the lane's
    load_words<kFourBits>(words, panel, k, depth, at);
    if constexpr (kFourBits) load_parameters(parameters, weight, panel_index, groups, k >> group_bits, at);
  };
  load(at.warp * kWarpDepth + at.part * kLaneDepth);  // weights: no kernel writes them
  wait_for_predecessors();
  for (int warp_k = at.warp * kWarpDepth; warp_k < depth; warp_k += kDepth) {
    auto& rows = s.rows[at.warp];
    const int k = warp_k + at.part * kLaneDepth;
    stage_rows<kRows>(rows, in, warp_k, depth, at);
    if constexpr (!kFourBits) {
#pragma unroll
      for (int j = 0; j < kSteps; ++j) multiply_step<kFourBits>(total, rows, words[j], j ^ at.turn, at);
    } else {
      int32_t row_sum[kLaneGroups][kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {  // a quarter, which neighbours have the others of
        const uint4 x = *reinterpret_cast<const uint4*>(&rows[r][at.lane * 16]);
        int32_t sum = sum_of_bytes(x);
        sum += __shfl_xor_sync(kFullWarp, sum, 1);
        const int32_t other = __shfl_xor_sync(kFullWarp, sum, 2);
        if constexpr (kLaneGroups == 1) row_sum[0][r] = sum + other;
        else row_sum[0][r] = at.quad < 2 ? sum : other, row_sum[1][r] = at.quad < 2 ? other : sum;
      }
      int32_t sums[kRows][4] = {};
      const auto add = [&](int g) {  // sums, to begin anew; no index but by constants: these are registers
        int32_t of_group[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) of_group[r] = g == 0 ? row_sum[0][r] : row_sum[kLaneGroups - 1][r];
        add_group(total, sums, of_group, g == 0 ? parameters.scale[0] : parameters.scale[kLaneGroups - 1],
                  parameters.zero, (k >> group_bits) + g);
#pragma unroll
        for (auto& of_row : sums)
#pragma unroll
          for (int32_t& sum : of_row) sum = 0;
      };
      const int first = kLaneGroups == 2 ? at.turn >> 2 : 0;  // the half of its steps that comes first
#pragma unroll
      for (int j = 0; j < kSteps; ++j) {
        multiply_step<kFourBits>(sums, rows, words[j], j ^ at.turn, at);
        if (kLaneGroups == 2 && j == kSteps / 2 - 1) add(first);
      }
      add(kLaneGroups == 2 ? 1 - first : 0);
    }
    load(k + kDepth);
  }

#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < 4; ++c)
      for (int lanes = kQuads; lanes < kWarpSize; lanes *= 2)
        total[r][c] += __shfl_xor_sync(kFullWarp, total[r][c], lanes);
    if (at.part == 0)
      *reinterpret_cast<int4*>(&s.sum[at.warp][r][at.quad * 4]) =
          make_int4(total[r][0], total[r][1], total[r][2], total[r][3]);
  }
  __syncthreads();
  // A thread has one row and one output channel.
  const int row = int(threadIdx.x) / int(kPanel), column = int(threadIdx.x) % int(kPanel);
  const int64_t channel = panel_index * kPanel + column;
  if (row >= min(int64_t{kRows}, in.rows) || channel >= out.cols) return;
  int32_t sum = 0;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) sum += s.sum[warp][row][column];
  const float product =
      scaled_sum(sum, in.scale[row], in.offset[row], weight.scale[channel], weight.sum[channel]);
  out.row(row)[channel] = product + (bias != nullptr ? bias[channel] : 0.0f);
}

template <int kRows>
void start(const LinearProducts& products, const Integers& in, cudaStream_t stream) {
  const Shape shape{uint32_t(products.blocks(kPanel)), kThreads, sizeof(Storage<kRows>), kOverlaps};
  const WeightView& first = products.one[0].weight;
  if (first.dtype == DType::kQ8)
    launch("linear_few", linear_few_kernel<kRows, 0>, shape, stream, products, in);
  else if (first.group < kLaneDepth)
    launch("linear_few", linear_few_kernel<kRows, 2>, shape, stream, products, in);
  else launch("linear_few", linear_few_kernel<kRows, 1>, shape, stream, products, in);
}

}  // namespace

void linear_few(const LinearProducts& products, const Integers& in, cudaStream_t stream) {
  if (in.rows == 1) start<1>(products, in, stream);
  else if (in.rows <= 4) start<4>(products, in, stream);
  else start<kFewRows>(products, in, stream);
}

}  // namespace stamp::cuda

// See row_chain.h. A thread has four neighbouring channels at a time, in decoding mostly once. Butterflies
// within a warp's 128 channels are registers and shuffles, wider ones go through shared memory, the mix of
// blocks is the last pass on the way out.
#include "kernels/cuda/row_chain.h"

#include <algorithm>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"

namespace stamp::cuda {
namespace {

constexpr int kMostThreads = 512, kMostWarps = kMostThreads / kWarpSize;
constexpr int kMostMixed = 64;  // blocks whose mix is copied to shared memory, too

struct Extremes {
  float low[kMostWarps], high[kMostWarps], sums[kWarpSize];
};

STAMP_INLINE int64_t mix_size(const RowChain& chain) {
  const int64_t blocks = chain.mix == nullptr ? 0 : chain.a.cols / chain.rotation_block;
  return blocks > 1 && blocks <= kMostMixed ? blocks * blocks : 0;
}
STAMP_INLINE int64_t shared_bytes(const RowChain& chain) {
  return int64_t{sizeof(Extremes)} + (round_up(chain.a.cols, 4) + mix_size(chain)) * int64_t{sizeof(float)};
}

/// Butterflies of the lane's four channels of the warp's 128, up to `block` channels wide.
__device__ __forceinline__ void butterflies(float (&x)[4], int block) {
  const auto turn = [](float& a, float& b) {
    const float sum = a + b;
    b = a - b;
    a = sum;
  };
  if (block > 1) turn(x[0], x[1]), turn(x[2], x[3]);
  if (block > 2) turn(x[0], x[2]), turn(x[1], x[3]);
  for (int lanes = 1; lanes < kWarpSize && 4 * lanes < block; lanes *= 2) {
    const bool second = (threadIdx.x & unsigned(lanes)) != 0;
#pragma unroll
    for (float& value : x) {
      const float other = __shfl_xor_sync(kFullWarp, value, lanes);
      value = second ? other - value : value + other;
    }
  }
}

__global__ void __launch_bounds__(kMostThreads) row_chain_kernel(const __grid_constant__ RowChain chain) {
  std::byte* const memory = shared_array<std::byte>(shared_bytes(chain));
  auto& shared = *reinterpret_cast<Extremes*>(memory);
  auto* const t = reinterpret_cast<float*>(memory + sizeof(Extremes));
  const int tid = int(threadIdx.x), lane = tid % kWarpSize, step = int(blockDim.x) * 4;
  const int cols = int(chain.a.cols), block = chain.rotation_block;
  const float* const a = chain.a.row(blockIdx.x);

  // What no kernel writes is on its way before the rows are there.
  const bool turns = block > 0, mixes = chain.mix != nullptr && turns;
  for (int c = tid * 4; c < cols; c += step) {
    if (chain.gain != nullptr && chain.factors == nullptr) prefetch_l2(chain.gain + c);
    if (chain.signs != nullptr) prefetch_l2(chain.signs + c);
  }
  const int mixed = int(mix_size(chain));
  float* const copy = t + round_up(cols, 4);
  for (int i = tid; i < mixed; i += int(blockDim.x)) copy[i] = chain.mix[i];
  wait_for_predecessors();

  float squares = 0.0f;
  for (int c = tid * 4; c < cols; c += step) {
    float4 x = load_four(a, c, cols);
    if (chain.first != RowChain::First::kNothing) {
      const float4 y = load_four(chain.b.row(blockIdx.x), c, cols);
      if (chain.first == RowChain::First::kAdd) x = make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w);
      else x = make_float4(silu(x.x) * y.x, silu(x.y) * y.y, silu(x.z) * y.z, silu(x.w) * y.w);
    }
    if (chain.kept.data != nullptr) store_four(chain.kept.row(blockIdx.x), c, cols, x);
    squares = fmaf(x.x, x.x, squares);
    squares = fmaf(x.y, x.y, squares);
    squares = fmaf(x.z, x.z, squares);
    squares = fmaf(x.w, x.w, squares);
    *reinterpret_cast<float4*>(t + c) = x;
  }
  float inverse_norm = 1.0f;
  if (chain.gain != nullptr) {
    squares = block_reduce(squares, shared.sums, Sum{});
    inverse_norm = 1.0f / sqrtf(squares / float(cols) + chain.eps);
    if (chain.factors != nullptr) {
      if (tid == 0) chain.factors[blockIdx.x] = inverse_norm;
      return;
    }
  }

  if (chain.gain != nullptr || turns) {
    for (int base = (tid - lane) * 4; base < cols; base += step) {  // whole warps: lanes exchange channels
      const int c = base + lane * 4;
      float4 x{};
      if (c < cols) x = *reinterpret_cast<const float4*>(t + c);
      if (chain.gain != nullptr) {
        const float4 g = load_four(chain.gain, c, cols);
        x = make_float4(x.x * inverse_norm * g.x, x.y * inverse_norm * g.y, x.z * inverse_norm * g.z,
                        x.w * inverse_norm * g.w);
      }
      if (turns) {
        if (!chain.inverse && chain.signs != nullptr) {
          const float4 s = load_four(chain.signs, c, cols);
          x = make_float4(x.x * s.x, x.y * s.y, x.z * s.z, x.w * s.w);
        }
        float four[4] = {x.x, x.y, x.z, x.w};
        butterflies(four, block);
        x = make_float4(four[0], four[1], four[2], four[3]);
      }
      if (c < cols) *reinterpret_cast<float4*>(t + c) = x;
    }
  }
  const float* mix = chain.mix;
  if (turns) {
    if (mixed > 0) mix = copy;
    __syncthreads();
    for (int h = 4 * kWarpSize; h < block; h *= 2) {
      for (int pair = tid * 4; pair < cols / 2; pair += step) {
        const int i = (pair & -h) * 2 + (pair & (h - 1));
        auto &x = *reinterpret_cast<float4*>(t + i), &y = *reinterpret_cast<float4*>(t + i + h);
        const float4 u = x, v = y;
        x = make_float4(u.x + v.x, u.y + v.y, u.z + v.z, u.w + v.w);
        y = make_float4(u.x - v.x, u.y - v.y, u.z - v.z, u.w - v.w);
      }
      __syncthreads();
    }
  }

  int log_block = 0;
  while (1 << log_block < block) ++log_block;
  const int blocks = cols >> log_block;
  const float scale = turns ? 1.0f / sqrtf(float(block)) : 1.0f;
  float low = INFINITY, high = -INFINITY;
  for (int c = tid * 4; c < cols; c += step) {
    const float4 before = *reinterpret_cast<const float4*>(t + c);
    float x[4] = {before.x, before.y, before.z, before.w};
    if (mixes && block >= 4) {  // the four are of one block
      const int own = c >> log_block, within = c & (block - 1);
      float4 sum{};
      for (int other = 0; other < blocks; ++other) {
        const float m = mix[chain.inverse ? other * blocks + own : own * blocks + other];
        const float4 y = *reinterpret_cast<const float4*>(t + (other << log_block) + within);
        sum = make_float4(fmaf(m, y.x, sum.x), fmaf(m, y.y, sum.y), fmaf(m, y.z, sum.z), fmaf(m, y.w, sum.w));
      }
      x[0] = sum.x, x[1] = sum.y, x[2] = sum.z, x[3] = sum.w;
    } else if (mixes) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (c + i >= cols) break;
        const int own = (c + i) >> log_block, within = (c + i) & (block - 1);
        x[i] = 0.0f;
        for (int other = 0; other < blocks; ++other)
          x[i] = fmaf(mix[chain.inverse ? other * blocks + own : own * blocks + other],
                      t[(other << log_block) + within], x[i]);
      }
    }
    if (turns) {
      float4 s = make_float4(1.0f, 1.0f, 1.0f, 1.0f);
      if (chain.inverse && chain.signs != nullptr) s = load_four(chain.signs, c, cols);
      x[0] = x[0] * scale * s.x, x[1] = x[1] * scale * s.y;
      x[2] = x[2] * scale * s.z, x[3] = x[3] * scale * s.w;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i)
      if (c + i < cols) low = fminf(low, x[i]), high = fmaxf(high, x[i]);
    const float4 value = make_float4(x[0], x[1], x[2], x[3]);
    if (chain.out.data != nullptr) store_four(chain.out.row(blockIdx.x), c, cols, value);
    if (!mixes) *reinterpret_cast<float4*>(t + c) = value;  // while mixing, others still read
  }
  const Integers& integers = chain.integers;
  if (integers.q == nullptr) return;

  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2) {
    low = fminf(low, __shfl_xor_sync(kFullWarp, low, lanes));
    high = fmaxf(high, __shfl_xor_sync(kFullWarp, high, lanes));
  }
  if (lane == 0) shared.low[tid / kWarpSize] = low, shared.high[tid / kWarpSize] = high;
  __syncthreads();
  for (int warp = 0; warp < int(blockDim.x) / kWarpSize; ++warp)
    low = fminf(low, shared.low[warp]), high = fmaxf(high, shared.high[warp]);
  constexpr float kSteps = float((1 << kTokenBits) - 1);
  const float range = high - low, factor = range > 0.0f ? kSteps / range : 0.0f;
  if (tid == 0) integers.scale[blockIdx.x] = range / kSteps, integers.offset[blockIdx.x] = low;
  const auto code = [&](int c, float x) {
    return c < cols ? uint32_t(__float2int_rn(fminf((x - low) * factor, kSteps))) : 0u;
  };
  uint8_t* const q = integers.q + blockIdx.x * integers.stride;
  for (int c = tid * 4; c < integers.stride; c += step) {
    float4 x{};
    if (c < cols)
      x = mixes ? load_four(chain.out.row(blockIdx.x), c, cols) : *reinterpret_cast<const float4*>(t + c);
    *reinterpret_cast<uint32_t*>(q + c) =
        code(c, x.x) | code(c + 1, x.y) << 8 | code(c + 2, x.z) << 16 | code(c + 3, x.w) << 24;
  }
}

}  // namespace

void run(const RowChain& chain, cudaStream_t stream) {
  const auto threads =
      uint32_t(std::min(int64_t{kMostThreads}, round_up(divide_up(chain.a.cols, 4), kWarpSize)));
  launch("row_chain", row_chain_kernel,
         {uint32_t(chain.a.rows), threads, size_t(shared_bytes(chain)), kOverlaps}, stream, chain);
}

}  // namespace stamp::cuda

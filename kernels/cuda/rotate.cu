// Rotations of channels: a block turns one row in shared memory, or some whole blocks of it where no mix ties
// them together. Butterflies within a warp's 32 channels are shuffles, wider ones go through shared memory,
// the mix of blocks is the last pass on the way out.
#include <algorithm>
#include <bit>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

namespace stamp::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kMostMixed = 64;  // blocks whose mix is copied to shared memory, too

STAMP_INLINE int64_t mix_size(int64_t cols, int64_t block) {
  const int64_t blocks = cols / block;
  return blocks > 1 && blocks <= kMostMixed ? blocks * blocks : 0;
}

/// `part`: channels that a block of threads turns, whole rotation blocks of 1 << log_block.
__global__ void __launch_bounds__(kThreads)
    rotate_kernel(Mat<float> x, int part, int log_block, const float* signs, const float* mix, bool inverse) {
  const int first = int(blockIdx.y) * part, cols = min(part, int(x.cols) - first), block = 1 << log_block;
  const int mixed = mix != nullptr ? int(mix_size(cols, block)) : 0;
  float* const t = shared_array<float>(part + mixed);
  float* const row = x.row(blockIdx.x) + first;
  if (signs != nullptr) signs += first;
  const int lane = int(threadIdx.x) % kWarpSize;
  for (int base = int(threadIdx.x) - lane; base < cols; base += kThreads) {
    const int c = base + lane;
    float value = c < cols ? row[c] : 0.0f;
    if (!inverse && signs != nullptr && c < cols) value *= signs[c];
    for (int h = 1; h < min(block, kWarpSize); h *= 2) {
      const float other = __shfl_xor_sync(kFullWarp, value, h);
      value = (lane & h) != 0 ? other - value : value + other;
    }
    if (c < cols) t[c] = value;
  }
  for (int i = int(threadIdx.x); i < mixed; i += kThreads) t[cols + i] = mix[i];
  if (mixed > 0) mix = t + cols;
  __syncthreads();
  for (int h = kWarpSize; h < block; h *= 2) {
    for (int pair = int(threadIdx.x); pair < cols / 2; pair += kThreads) {
      const int i = (pair & -h) * 2 + (pair & (h - 1));
      const float a = t[i], b = t[i + h];
      t[i] = a + b;
      t[i + h] = a - b;
    }
    __syncthreads();
  }
  const int blocks = cols >> log_block;
  const float scale = 1.0f / sqrtf(float(block));
  for (int c = int(threadIdx.x); c < cols; c += kThreads) {
    float value = t[c];
    if (mix != nullptr) {
      const int own = c >> log_block, within = c & (block - 1);
      value = 0.0f;
      for (int b = 0; b < blocks; ++b)
        value = fmaf(mix[inverse ? b * blocks + own : own * blocks + b], t[(b << log_block) + within], value);
    }
    value *= scale;
    row[c] = inverse && signs != nullptr ? value * signs[c] : value;
  }
}

}  // namespace

void rotate(Mat<float> x, int64_t block, const float* signs, const float* mix, bool inverse,
            cudaStream_t stream) {
  const int64_t part = mix != nullptr ? x.cols : std::min(x.cols, std::max(block, int64_t{kThreads}));
  const int64_t mixed = mix != nullptr ? mix_size(x.cols, block) : 0;
  const dim3 grid(uint32_t(x.rows), uint32_t(divide_up(x.cols, part)));
  launch("rotate", rotate_kernel, {grid, kThreads, size_t(part + mixed) * sizeof(float)}, stream, x,
         int(part), std::countr_zero(uint64_t(block)), signs, mix, inverse);
}

}  // namespace stamp::cuda

// Rotations of channels: a block turns one row in shared memory. Butterflies within a warp's 32 channels are
// shuffles, wider ones go through shared memory, the mix of blocks is the last pass on the way out.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

namespace stamp::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMostMixed = 64;  // blocks whose mix is copied to shared memory, too

STAMP_INLINE int64_t mix_size(int64_t cols, int64_t block) {
  const int64_t blocks = cols / block;
  return blocks > 1 && blocks <= kMostMixed ? blocks * blocks : 0;
}

__global__ void rotate_kernel(Mat<float> x, int block, const float* signs, const float* mix, bool inverse) {
  const int mixed = mix != nullptr ? int(mix_size(x.cols, block)) : 0;
  float* const t = shared_array<float>(x.cols + mixed);
  float* const row = x.row(blockIdx.x);
  const int cols = int(x.cols), lane = int(threadIdx.x) % kWarpSize;
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
      const int i = pair / h * 2 * h + pair % h;
      const float a = t[i], b = t[i + h];
      t[i] = a + b;
      t[i + h] = a - b;
    }
    __syncthreads();
  }
  const int blocks = cols / block;
  const float scale = 1.0f / sqrtf(float(block));
  for (int c = int(threadIdx.x); c < cols; c += kThreads) {
    float value = t[c];
    if (mix != nullptr) {
      value = 0.0f;
      for (int b = 0; b < blocks; ++b)
        value = fmaf(mix[inverse ? b * blocks + c / block : c / block * blocks + b], t[b * block + c % block],
                     value);
    }
    value *= scale;
    row[c] = inverse && signs != nullptr ? value * signs[c] : value;
  }
}

}  // namespace

void rotate(Mat<float> x, int64_t block, const float* signs, const float* mix, bool inverse,
            cudaStream_t stream) {
  const int64_t mixed = mix != nullptr ? mix_size(x.cols, block) : 0;
  launch("rotate", rotate_kernel, {uint32_t(x.rows), kThreads, size_t(x.cols + mixed) * sizeof(float)},
         stream, x, int(block), signs, mix, inverse);
}

}  // namespace stamp::cuda

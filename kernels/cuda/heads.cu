// Rotary embedding, and the rotation of every head that follows it. A warp turns one head of one row: a lane
// has channels 32 apart, both of each pair of the embedding, so that all but the first five butterflies stay
// in the lane.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

namespace stamp::cuda {
namespace {

constexpr int kWarps = 4;

/// kPairs: of channels a lane has, at most; pair j of a lane is j * 32 + lane.
template <int kPairs>
__global__ void __launch_bounds__(kWarps* kWarpSize) heads_kernel(const __grid_constant__ Heads heads) {
  wait_for_predecessors();
  const int64_t r = blockIdx.x;
  const int half = int(heads.cos.cols), lane = int(threadIdx.x) % kWarpSize;
  int64_t index = int64_t(blockIdx.y) * kWarps + threadIdx.x / kWarpSize;
  int which = 0;
  while (which < heads.count && index >= heads.one[which].x.cols / (2 * half))
    index -= heads.one[which++].x.cols / (2 * half);
  if (which == heads.count) return;  // the whole warp
  const auto& [x, rotates, signs] = heads.one[which];
  float* const head = x.row(r) + index * 2 * half;
  // More channels than the lanes hold are for embedding alone.
  for (int first = 0; first < half; first += kPairs * kWarpSize) {
    float a[kPairs], b[kPairs];
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const int i = first + j * kWarpSize + lane;
      a[j] = b[j] = 0.0f;
      if (i >= half) continue;
      const float u = head[i], v = head[half + i], c = heads.cos.row(r)[i], s = heads.sin.row(r)[i];
      a[j] = u * c - v * s;
      b[j] = u * s + v * c;
      if (!rotates || signs == nullptr) continue;
      a[j] *= signs[index * 2 * half + i];
      b[j] *= signs[index * 2 * half + half + i];
    }
    if (rotates) {
      for (int h = 1; h < min(half, kWarpSize); h *= 2) {
#pragma unroll
        for (int j = 0; j < kPairs; ++j) {
          const float other_a = __shfl_xor_sync(kFullWarp, a[j], h),
                      other_b = __shfl_xor_sync(kFullWarp, b[j], h);
          a[j] = (lane & h) != 0 ? other_a - a[j] : a[j] + other_a;
          b[j] = (lane & h) != 0 ? other_b - b[j] : b[j] + other_b;
        }
      }
      const auto turn = [](float& u, float& v) {
        const float sum = u + v;
        v = u - v;
        u = sum;
      };
#pragma unroll
      for (int h = 1; h < kPairs; h *= 2) {
#pragma unroll
        for (int j = 0; j < kPairs; ++j)
          if ((j & h) == 0 && h * kWarpSize < half) turn(a[j], a[j + h]), turn(b[j], b[j + h]);
      }
      const float scale = 1.0f / sqrtf(float(2 * half));
#pragma unroll
      for (int j = 0; j < kPairs; ++j) {
        turn(a[j], b[j]);
        a[j] *= scale;
        b[j] *= scale;
      }
    }
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const int i = first + j * kWarpSize + lane;
      if (i < half) head[i] = a[j], head[half + i] = b[j];
    }
  }
}

}  // namespace

void turn_heads(const Heads& heads, cudaStream_t stream) {
  const int64_t half = heads.cos.cols;
  int64_t count = 0;
  for (int i = 0; i < heads.count; ++i) count += heads.one[i].x.cols / (2 * half);
  const Shape shape{dim3(uint32_t(heads.one[0].x.rows), uint32_t(divide_up(count, kWarps))),
                    kWarps * kWarpSize, 0, kOverlaps};
  if (half <= kWarpSize) launch("heads", heads_kernel<1>, shape, stream, heads);
  else if (half <= 2 * kWarpSize) launch("heads", heads_kernel<2>, shape, stream, heads);
  else if (half <= 4 * kWarpSize) launch("heads", heads_kernel<4>, shape, stream, heads);
  else launch("heads", heads_kernel<8>, shape, stream, heads);
}

}  // namespace stamp::cuda

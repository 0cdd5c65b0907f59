// Products of float activations: 64 x 64 outputs a block, 4 x 4 a thread, inner products in the order of k
// for every row and column, so that a row's bits do not depend on the batch.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

namespace stamp::cuda {
namespace {

constexpr int kTile = 64, kDepth = 16, kThreads = 256, kPer = 4;  // kPer x kPer outputs a thread

/// Both operands with k first. A pitch of 2 modulo 32: a warp stores 16 k of two rows into 32 banks.
struct Storage {
  float in[kDepth][kTile + 2], weight[kDepth][kTile + 2];
};

__global__ void __launch_bounds__(kThreads)
    linear_float_kernel(Mat<float> out, Mat<const float> in, WeightView weight, const float* bias) {
  auto& s = shared_storage<Storage>();
  const int tid = int(threadIdx.x), tx = tid % 16, ty = tid / 16;
  const int64_t first_row = int64_t(blockIdx.x) * kTile, first_col = int64_t(blockIdx.y) * kTile;
  float sum[kPer][kPer] = {};
  for (int64_t k = 0; k < in.cols; k += kDepth) {
    const int64_t kk = k + tx;
    for (int i = ty; i < kTile; i += kThreads / kDepth) {
      const int64_t r = first_row + i, n = first_col + i;
      s.in[tx][i] = kk < in.cols && r < in.rows ? in.row(r)[kk] : 0.0f;
      s.weight[tx][i] = kk < in.cols && n < weight.rows ? weight_value(weight, n, kk) : 0.0f;
    }
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      float a[kPer], b[kPer];
#pragma unroll
      for (int i = 0; i < kPer; ++i) {
        a[i] = s.in[d][ty + 16 * i];
        b[i] = s.weight[d][tx + 16 * i];
      }
#pragma unroll
      for (int i = 0; i < kPer; ++i)
#pragma unroll
        for (int j = 0; j < kPer; ++j) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kPer; ++i) {
#pragma unroll
    for (int j = 0; j < kPer; ++j) {
      const int64_t r = first_row + ty + 16 * i, n = first_col + tx + 16 * j;
      if (r < out.rows && n < out.cols) out.row(r)[n] = sum[i][j] + (bias != nullptr ? bias[n] : 0.0f);
    }
  }
}

}  // namespace

void linear_float(Mat<float> out, Mat<const float> in, const WeightView& weight, const float* bias,
                  cudaStream_t stream) {
  const dim3 grid(uint32_t(divide_up(in.rows, kTile)), uint32_t(divide_up(weight.rows, kTile)));
  launch("linear_float", linear_float_kernel, {grid, kThreads, sizeof(Storage)}, stream, out, in, weight,
         bias);
}

}  // namespace stamp::cuda

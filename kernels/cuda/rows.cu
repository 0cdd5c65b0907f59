// The largest logit, and measures of them: one block a row.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

namespace stamp::cuda {
namespace {

constexpr int kThreads = 256, kArgmaxThreads = 1024;

struct Partials : RowPeak::Partials {
  double doubles[kWarpSize];
};

__global__ void __launch_bounds__(kArgmaxThreads) argmax_kernel(int32_t* out, Mat<const float> logits) {
  wait_for_predecessors();
  auto& shared = shared_storage<Partials>();
  const float* const x = logits.row(blockIdx.x);
  const RowPeak peak = RowPeak::of<kArgmaxThreads>(x, logits.cols, shared);
  uint32_t first = ~0u;
#pragma unroll 4
  for (int64_t c = threadIdx.x; c < logits.cols; c += kArgmaxThreads)
    if (x[c] == peak.value) first = min(first, uint32_t(c));
  first = block_reduce(first, shared.words, [](uint32_t a, uint32_t b) { return min(a, b); });
  if (threadIdx.x == 0) out[blockIdx.x] = peak.is_finite ? int32_t(first) : -1;
}

/// log(sum(exp(x))), in double: these operations measure, they do not run in generation.
__device__ double log_sum_exp(const float* x, int64_t cols, Partials& shared) {
  float top = x[0];
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) top = fmaxf(top, x[c]);
  top = block_reduce(top, shared.floats, Max{});
  double sum = 0;
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) sum += exp(double(x[c]) - double(top));
  return double(top) + log(block_reduce(sum, shared.doubles, Sum{}));
}

__global__ void token_logprobs_kernel(float* out, Mat<const float> logits, const int32_t* targets) {
  wait_for_predecessors();
  auto& shared = shared_storage<Partials>();
  const float* const x = logits.row(blockIdx.x);
  const double total = log_sum_exp(x, logits.cols, shared);
  if (threadIdx.x == 0) out[blockIdx.x] = float(double(x[targets[blockIdx.x]]) - total);
}

__global__ void kl_divergence_kernel(float* out, Mat<const float> reference, Mat<const float> logits) {
  wait_for_predecessors();
  auto& shared = shared_storage<Partials>();
  const float *const p = reference.row(blockIdx.x), *const q = logits.row(blockIdx.x);
  const double total_p = log_sum_exp(p, logits.cols, shared), total_q = log_sum_exp(q, logits.cols, shared);
  double kl = 0;
  for (int64_t c = threadIdx.x; c < logits.cols; c += kThreads) {
    const double log_p = double(p[c]) - total_p, log_q = double(q[c]) - total_q;
    kl += exp(log_p) * (log_p - log_q);
  }
  kl = block_reduce(kl, shared.doubles, Sum{});
  if (threadIdx.x == 0) out[blockIdx.x] = float(kl);
}

Shape shape_of(int64_t rows, int threads = kThreads) {
  return {uint32_t(rows), uint32_t(threads), sizeof(Partials), kOverlaps};
}

}  // namespace

void argmax(int32_t* out, Mat<const float> logits, cudaStream_t stream) {
  launch("argmax", argmax_kernel, shape_of(logits.rows, kArgmaxThreads), stream, out, logits);
}
void token_logprobs(float* out, Mat<const float> logits, const int32_t* targets, cudaStream_t stream) {
  launch("token_logprobs", token_logprobs_kernel, shape_of(logits.rows), stream, out, logits, targets);
}
void kl_divergence(float* out, Mat<const float> reference, Mat<const float> logits, cudaStream_t stream) {
  launch("kl_divergence", kl_divergence_kernel, shape_of(logits.rows), stream, out, reference, logits);
}

}  // namespace stamp::cuda

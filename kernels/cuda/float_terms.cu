// What float products (float_products.h) need besides cuBLASLt: rows of activations as terms in a weight's
// type, quantised weights as floats, and sums of the terms' products.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

namespace stamp::cuda {
namespace {

constexpr int kThreads = 256, kPer = 4;  // channels a thread

/// The bits of the next term, which is taken off `rest`. What is not finite leaves NaN behind.
template <DType kType>
__device__ __forceinline__ uint32_t take_term(float& rest) {
  if constexpr (kType == DType::kF16) {
    const __half nearest = __float2half_rn(rest);
    rest -= __half2float(nearest);
    return __half_as_ushort(nearest);
  } else {  // cut off, not rounded: it cannot overflow, and three of 8 bits are all 24
    const uint32_t bits = __float_as_uint(rest) >> 16;
    rest -= __int_as_float(int(bits << 16));
    return bits;
  }
}

/// Of a row of 16-bit terms: brings the largest to just below 2^kTopExponent, where halves do not overflow,
/// and their smallest step, 2^-24, is 2^-38 of it at most.
template <DType kType>
__device__ __forceinline__ int shift_for(float largest) {
  constexpr int kTopExponent = kType == DType::kF16 ? 15 : 0;
  const int biased = max(int(__float_as_uint(largest) >> 23), 1);  // largest < 2^(biased - 126)
  return kTopExponent - (biased - 126);
}

__device__ __forceinline__ float4 shifted(const float4& x, int shift) {
  return make_float4(ldexpf(x.x, shift), ldexpf(x.y, shift), ldexpf(x.z, shift), ldexpf(x.w, shift));
}

struct Storage {
  float warps[kWarpSize];
};

template <DType kType>
__global__ void __launch_bounds__(kThreads) split_terms_kernel(Terms to, Mat<const float> in) {
  wait_for_predecessors();
  const int64_t r = blockIdx.x;
  const int first = int(threadIdx.x) * kPer;
  const float* const x = in.row(r);
  float largest = 0.0f;
  for (int64_t c = first; c < in.cols; c += kThreads * kPer) {
    const float4 v = load_four(x, c, in.cols);
    largest = fmaxf(fmaxf(fmaxf(largest, fabsf(v.x)), fmaxf(fabsf(v.y), fabsf(v.z))), fabsf(v.w));
  }
  const int shift = shift_for<kType>(block_reduce(largest, shared_storage<Storage>().warps, Max{}));
  if (threadIdx.x == 0) to.shift[r] = shift;
  uint16_t* const terms = static_cast<uint16_t*>(to.data) + r * to.count() * to.stride;
  for (int64_t c = first; c < in.cols; c += kThreads * kPer) {
    float4 rest = shifted(load_four(x, c, in.cols), shift);
    for (int t = 0; t < to.count(); ++t) {
      const uint32_t low = take_term<kType>(rest.x) | take_term<kType>(rest.y) << 16,
                     high = take_term<kType>(rest.z) | take_term<kType>(rest.w) << 16;
      *reinterpret_cast<uint2*>(terms + t * to.stride + c) = make_uint2(low, high);
    }
  }
}

/// FP32's one term is the value.
__global__ void __launch_bounds__(kThreads) copy_rows_kernel(Mat<float> to, Mat<const float> in) {
  wait_for_predecessors();
  const int64_t r = blockIdx.x, c = (int64_t(blockIdx.y) * kThreads + threadIdx.x) * kPer;
  if (c < in.cols) store_four(to.row(r), c, in.cols, load_four(in.row(r), c, in.cols));
}

/// Small terms first.
__global__ void __launch_bounds__(kThreads)
    sum_terms_kernel(Mat<float> out, Mat<const float> products, Terms terms, const float* bias) {
  wait_for_predecessors();
  const int64_t r = blockIdx.x, c = (int64_t(blockIdx.y) * kThreads + threadIdx.x) * kPer;
  if (c >= out.cols) return;
  float4 sum = load_four(products.row((r + 1) * terms.count() - 1), c, out.cols);
  for (int t = terms.count() - 2; t >= 0; --t) {
    const float4 y = load_four(products.row(r * terms.count() + t), c, out.cols);
    sum = make_float4(sum.x + y.x, sum.y + y.y, sum.z + y.z, sum.w + y.w);
  }
  if (terms.type != DType::kF32) sum = shifted(sum, -terms.shift[r]);
  if (bias != nullptr) {
    const float4 b = load_four(bias, c, out.cols);
    sum = make_float4(sum.x + b.x, sum.y + b.y, sum.z + b.z, sum.w + b.w);
  }
  store_four(out.row(r), c, out.cols, sum);
}

__global__ void __launch_bounds__(kThreads)
    expand_weight_kernel(Mat<float> out, WeightView weight, int64_t first) {
  wait_for_predecessors();
  const int64_t r = blockIdx.x, c = int64_t(blockIdx.y) * kThreads + threadIdx.x;
  if (c < out.cols) out.row(r)[c] = weight_value(weight, first + r, c);
}

dim3 grid_of(int64_t rows, int64_t cols, int64_t per_thread) {
  return {uint32_t(rows), uint32_t(divide_up(cols, kThreads * per_thread))};
}

}  // namespace

void split_terms(const Terms& out, Mat<const float> in, cudaStream_t stream) {
  if (out.type == DType::kF32) {
    const Mat<float> to{static_cast<float*>(out.data), in.rows, in.cols, out.stride};
    launch("copy_rows", copy_rows_kernel, {grid_of(in.rows, in.cols, kPer), kThreads, 0, kOverlaps}, stream,
           to, in);
    return;
  }
  launch("split_terms",
         out.type == DType::kF16 ? split_terms_kernel<DType::kF16> : split_terms_kernel<DType::kBF16>,
         {uint32_t(in.rows), kThreads, sizeof(Storage), kOverlaps}, stream, out, in);
}

void sum_terms(Mat<float> out, Mat<const float> products, const Terms& terms, const float* bias,
               cudaStream_t stream) {
  launch("sum_terms", sum_terms_kernel, {grid_of(out.rows, out.cols, kPer), kThreads, 0, kOverlaps}, stream,
         out, products, terms, bias);
}

void expand_weight(Mat<float> out, const WeightView& weight, int64_t first, cudaStream_t stream) {
  launch("expand_weight", expand_weight_kernel, {grid_of(out.rows, out.cols, 1), kThreads, 0, kOverlaps},
         stream, out, weight, first);
}

}  // namespace stamp::cuda

// Operations on single elements: one thread each, a block for 256 columns of a row.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

namespace stamp::cuda {
namespace {

constexpr int kThreads = 256;

Shape shape_of(int64_t rows, int64_t cols) {
  return {dim3(uint32_t(rows), uint32_t(divide_up(cols, kThreads))), kThreads};
}
__device__ __forceinline__ int64_t column() { return int64_t(blockIdx.y) * kThreads + threadIdx.x; }

__global__ void embed_kernel(Mat<float> out, const int32_t* ids, WeightView table) {
  const int64_t r = blockIdx.x, c = column();
  if (c < out.cols) out.row(r)[c] = weight_value(table, ids[r], c);
}

__global__ void gather_kernel(Mat<float> out, Mat<const float> in, const int32_t* rows) {
  const int64_t r = blockIdx.x, c = column();
  if (c < out.cols) out.row(r)[c] = in.row(rows[r])[c];
}

__global__ void rope_kernel(Mat<float> x, Mat<const float> cos, Mat<const float> sin) {
  const int64_t r = blockIdx.x, pair = column(), half = cos.cols;
  if (pair >= x.cols / 2) return;
  float* const head = x.row(r) + pair / half * 2 * half;
  const int64_t i = pair % half;
  const float a = head[i], b = head[half + i], c = cos.row(r)[i], s = sin.row(r)[i];
  head[i] = a * c - b * s;
  head[half + i] = a * s + b * c;
}

__global__ void silu_mul_kernel(Mat<float> gate, Mat<const float> up) {
  const int64_t r = blockIdx.x, c = column();
  if (c >= gate.cols) return;
  const float g = gate.row(r)[c];
  gate.row(r)[c] = g / (1.0f + expf(-g)) * up.row(r)[c];
}

__global__ void add_kernel(Mat<float> x, Mat<const float> y) {
  const int64_t r = blockIdx.x, c = column();
  if (c < x.cols) x.row(r)[c] += y.row(r)[c];
}

}  // namespace

void embed(Mat<float> out, const int32_t* ids, const WeightView& table, cudaStream_t stream) {
  launch("embed", embed_kernel, shape_of(out.rows, out.cols), stream, out, ids, table);
}
void gather(Mat<float> out, Mat<const float> in, const int32_t* rows, cudaStream_t stream) {
  launch("gather", gather_kernel, shape_of(out.rows, out.cols), stream, out, in, rows);
}
void rope(Mat<float> x, Mat<const float> cos, Mat<const float> sin, cudaStream_t stream) {
  launch("rope", rope_kernel, shape_of(x.rows, x.cols / 2), stream, x, cos, sin);
}
void silu_mul(Mat<float> gate, Mat<const float> up, cudaStream_t stream) {
  launch("silu_mul", silu_mul_kernel, shape_of(gate.rows, gate.cols), stream, gate, up);
}
void add(Mat<float> x, Mat<const float> y, cudaStream_t stream) {
  launch("add", add_kernel, shape_of(x.rows, x.cols), stream, x, y);
}

}  // namespace stamp::cuda

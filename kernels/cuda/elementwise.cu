// Rows of a table: one thread each, a block for 256 columns of a row.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

namespace stamp::cuda {
namespace {

constexpr int kThreads = 256;

Shape shape_of(int64_t rows, int64_t cols) {
  return {dim3(uint32_t(rows), uint32_t(divide_up(cols, kThreads))), kThreads, 0, kOverlaps};
}
__device__ __forceinline__ int64_t column() { return int64_t(blockIdx.y) * kThreads + threadIdx.x; }

__global__ void embed_kernel(Mat<float> out, const int32_t* ids, WeightView table) {
  wait_for_predecessors();
  const int64_t r = blockIdx.x, c = column();
  if (c < out.cols) out.row(r)[c] = weight_value(table, ids[r], c);
}

__global__ void gather_kernel(Mat<float> out, Mat<const float> in, const int32_t* rows) {
  wait_for_predecessors();
  const int64_t r = blockIdx.x, c = column();
  if (c < out.cols) out.row(r)[c] = in.row(rows[r])[c];
}

}  // namespace

void embed(Mat<float> out, const int32_t* ids, const WeightView& table, cudaStream_t stream) {
  launch("embed", embed_kernel, shape_of(out.rows, out.cols), stream, out, ids, table);
}
void gather(Mat<float> out, Mat<const float> in, const int32_t* rows, cudaStream_t stream) {
  launch("gather", gather_kernel, shape_of(out.rows, out.cols), stream, out, in, rows);
}

}  // namespace stamp::cuda

#pragma once
#include <cublasLt.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <tuple>

#include "kernels/buffer.h"
#include "kernels/cuda/kernels.h"

namespace stamp::cuda {

/// Products of float activations by cuBLASLt, which is loaded at the first of them. Activations are split
/// into terms of the weight's type (Terms), sums are FP32. A row's bits do not depend on other rows or their
/// number.
class FloatProducts {
 public:
  FloatProducts(Memory& memory, cudaStream_t stream);
  ~FloatProducts();
  FloatProducts(const FloatProducts&) = delete;
  FloatProducts& operator=(const FloatProducts&) = delete;

  /// out = in weight^T + bias for weights of any type at their float values, each of which begins on 256
  /// bytes, as allocations do. Only enqueues.     in [rows, k], out [rows, n]
  void multiply(std::span<const LinearProduct> products, Mat<const float> in);

 private:
  class Shape;

  Terms split(Mat<const float> in, DType type);
  void multiply(const LinearProduct& product, const Terms& terms);
  void multiply_floats(const LinearProduct& product, const Terms& terms);
  Shape& shape_of(const WeightView& weight);

  Memory& memory_;
  cudaStream_t stream_;
  cublasLtHandle_t handle_ = nullptr;
  // By a weight's type, rows and columns.
  std::map<std::tuple<DType, int64_t, int64_t>, std::unique_ptr<Shape>> shapes_;
  // Scratch of one product at a time.
  Buffer<uint8_t> terms_;
  Buffer<int32_t> shifts_;
  Buffer<float> products_, expanded_;  // of terms; of a quantised weight
};

}  // namespace stamp::cuda

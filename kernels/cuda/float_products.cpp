#include "kernels/cuda/float_products.h"

#include <algorithm>
#include <array>
#include <bit>
#include <string>
#include <type_traits>

#include "kernels/cuda/cublas_lt.h"
#include "kernels/error.h"

namespace stamp::cuda {
namespace {

constexpr int64_t kAlignment = 256;                 // of operands, and of rows of scratch, in bytes
constexpr int64_t kUsualRows = 64;                  // that algorithms are chosen for
constexpr int64_t kMostRows = 1024;                 // at a time;
constexpr int64_t kMostBytes = int64_t{256} << 20;  // fewer where their terms' products would take more
constexpr int64_t kMostExpanded = 2048;             // rows of a quantised weight at a time

int64_t padded_rows(int64_t rows) { return round_up(rows, kUsualRows); }
/// Elements from row to row of scratch.
int64_t stride_of(int64_t cols, int64_t element) { return round_up(cols * element, kAlignment) / element; }
int64_t stride_of(int64_t cols) { return stride_of(cols, sizeof(float)); }

DType float_type(const WeightView& weight) { return is_quantised(weight.dtype) ? DType::kF32 : weight.dtype; }
cudaDataType_t data_type(DType type) {
  return type == DType::kF16 ? CUDA_R_16F : type == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F;
}

int64_t rows_at_a_time(std::span<const LinearProduct> products) {
  int64_t most = kMostRows;
  for (const LinearProduct& product : products) {
    const WeightView& w = product.weight;
    const int64_t bytes = Terms{.type = float_type(w)}.count() * stride_of(w.rows) * int64_t{sizeof(float)};
    most = std::min(most, kMostBytes / bytes / kUsualRows * kUsualRows);
  }
  return std::max(most, kUsualRows);
}

/// What cuBLASLt creates and destroys.
template <class T>
using Owned = std::unique_ptr<std::remove_pointer_t<T>, cublasStatus_t (*)(T)>;

template <class T>
T* grown(Buffer<T>& buffer, int64_t size, Memory& memory) {
  if (buffer.size() < size) {
    buffer = {};  // first: there may be no memory for both
    buffer = Buffer<T>(int64_t(std::bit_ceil(uint64_t(size))), memory);
  }
  return buffer.data();
}

}  // namespace

/// y = x weight^T for weights of one type and shape. To cuBLASLt, whose matrices lie column by column, that
/// is y^T [n, rows] = (weight^T)^T x^T [k, rows]: rows are columns there, and no alignment depends on their
/// number.
class FloatProducts::Shape {
 public:
  Shape(cublasLtHandle_t handle, DType type, int64_t n, int64_t k)
      : handle_(handle),
        usual_(kUsualRows * Terms{.type = type}.count()),
        x_stride_(stride_of(k, dtype_size(type)) * dtype_size(type)),
        y_stride_(stride_of(n)),
        operation_(make_operation()),
        weight_(make_layout(data_type(type), k, n, k)),
        x_(make_layout(data_type(type), k, usual_, stride_of(k, dtype_size(type)))),
        y_(make_layout(CUDA_R_32F, n, usual_, y_stride_)) {
    choose_algorithm(std::string(dtype_name(type)) + " weights [" + std::to_string(n) + ", " +
                     std::to_string(k) + "]");
  }

  /// Of `rows` rows of terms. x and y have memory for the next multiple of kUsualRows rows of activations.
  void multiply(float* y, const void* x, const void* weight, int64_t rows, cudaStream_t stream) {
    set_rows(rows);
    if (is_taken_) return run(y, x, weight, stream);
    set_rows(usual_);
    for (int64_t first = 0; first < rows; first += usual_)
      run(y + first * y_stride_, static_cast<const std::byte*>(x) + first * x_stride_, weight, stream);
  }

 private:
  static Owned<cublasLtMatmulDesc_t> make_operation() {
    cublasLtMatmulDesc_t made = nullptr;
    check(cublas_lt().create_operation(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F), "creating a product");
    Owned<cublasLtMatmulDesc_t> operation(made, cublas_lt().destroy_operation);
    const int32_t transposed = CUBLAS_OP_T;
    check(cublas_lt().set_operation(made, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)),
          "transposing the weight");
    return operation;
  }
  static Owned<cublasLtMatrixLayout_t> make_layout(cudaDataType_t type, int64_t rows, int64_t cols,
                                                   int64_t stride) {
    cublasLtMatrixLayout_t made = nullptr;
    check(cublas_lt().create_layout(&made, type, uint64_t(rows), uint64_t(cols), stride),
          "describing a matrix");
    return {made, cublas_lt().destroy_layout};
  }

  /// Without workspace and reductions nothing can split the sums over k, which might be done in another way
  /// for another number of rows.
  void choose_algorithm(const std::string& what) {
    cublasLtMatmulPreference_t made = nullptr;
    check(cublas_lt().create_preference(&made), "creating a preference");
    const Owned<cublasLtMatmulPreference_t> preference(made, cublas_lt().destroy_preference);
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      check(cublas_lt().set_preference(made, attribute, &value, sizeof(value)), "setting a preference");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{0});
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
    for (const auto alignment :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      prefer(alignment, uint32_t{kAlignment});
    std::array<cublasLtMatmulHeuristicResult_t, 8> found{};
    int count = 0;
    check(cublas_lt().suggest_algorithms(handle_, operation_.get(), weight_.get(), x_.get(), y_.get(),
                                         y_.get(), made, int(found.size()), found.data(), &count),
          ("finding an algorithm for " + what).c_str());
    for (const cublasLtMatmulHeuristicResult_t& one : std::span(found).first(size_t(count))) {
      if (one.state != CUBLAS_STATUS_SUCCESS) continue;
      int32_t splits = 0;
      check(cublas_lt().get_algorithm(&one.algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits, sizeof(splits),
                                      nullptr),
            "looking at an algorithm");
      if (splits > 1) continue;
      algorithm_ = one.algo;
      return;
    }
    throw Error("cuBLASLt: no algorithm for " + what + " that does not split sums");
  }

  void set_rows(int64_t rows) {
    if (rows == rows_) return;
    rows_ = rows;
    for (cublasLtMatrixLayout_t layout : {x_.get(), y_.get()}) {
      const auto cols = uint64_t(rows);
      check(cublas_lt().set_layout(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &cols, sizeof(cols)),
            "setting the number of rows");
    }
    cublasLtMatmulHeuristicResult_t result{};
    is_taken_ = cublas_lt().check_algorithm(handle_, operation_.get(), weight_.get(), x_.get(), y_.get(),
                                            y_.get(), &algorithm_, &result) == CUBLAS_STATUS_SUCCESS &&
                result.workspaceSize == 0;
  }

  void run(float* y, const void* x, const void* weight, cudaStream_t stream) {
    const float one = 1.0f, nothing = 0.0f;
    check(cublas_lt().multiply(handle_, operation_.get(), &one, weight, weight_.get(), x, x_.get(), &nothing,
                               y, y_.get(), y, y_.get(), &algorithm_, nullptr, 0, stream),
          "multiplying");
  }

  cublasLtHandle_t handle_;
  int64_t usual_;                // rows of terms
  int64_t x_stride_, y_stride_;  // bytes; elements
  Owned<cublasLtMatmulDesc_t> operation_;
  Owned<cublasLtMatrixLayout_t> weight_, x_, y_;
  cublasLtMatmulAlgo_t algorithm_{};
  // Of the last product, and whether the algorithm takes so many.
  int64_t rows_ = 0;
  bool is_taken_ = false;
};

FloatProducts::FloatProducts(Memory& memory, cudaStream_t stream) : memory_(memory), stream_(stream) {}

FloatProducts::~FloatProducts() {
  shapes_.clear();
  if (handle_ != nullptr) cublas_lt().destroy(handle_);
}

void FloatProducts::multiply(std::span<const LinearProduct> products, Mat<const float> in) {
  const int64_t most = rows_at_a_time(products);
  for (int64_t first = 0; first < in.rows; first += most) {
    const int64_t rows = std::min(most, in.rows - first);
    Terms terms;
    for (const auto& [out, weight, bias] : products) {
      const DType type = float_type(weight);
      if (terms.data == nullptr || terms.type != type) terms = split(in.slice(first, rows), type);
      multiply({out.slice(first, rows), weight, bias}, terms);
    }
  }
}

Terms FloatProducts::split(Mat<const float> in, DType type) {
  Terms terms{.type = type, .stride = stride_of(in.cols, dtype_size(type))};
  const int64_t rows = padded_rows(in.rows);
  terms.data = grown(terms_, rows * terms.count() * terms.stride * dtype_size(type), memory_);
  terms.shift = grown(shifts_, rows, memory_);
  split_terms(terms, in, stream_);
  return terms;
}

void FloatProducts::multiply(const LinearProduct& product, const Terms& terms) {
  const auto& [out, weight, bias] = product;
  if (!is_quantised(weight.dtype)) return multiply_floats(product, terms);
  for (int64_t first = 0; first < weight.rows; first += kMostExpanded) {
    const int64_t rows = std::min(kMostExpanded, weight.rows - first);
    const Mat<float> values{grown(expanded_, rows * weight.cols, memory_), rows, weight.cols, weight.cols};
    expand_weight(values, weight, first, stream_);
    multiply_floats({{out.data + first, out.rows, rows, out.stride},
                     {.data = values.data, .dtype = DType::kF32, .rows = rows, .cols = weight.cols},
                     bias != nullptr ? bias + first : nullptr},
                    terms);
  }
}

void FloatProducts::multiply_floats(const LinearProduct& product, const Terms& terms) {
  const auto& [out, weight, bias] = product;
  const int64_t rows = out.rows * terms.count(), stride = stride_of(weight.rows);
  float* const products = grown(products_, padded_rows(out.rows) * terms.count() * stride, memory_);
  shape_of(weight).multiply(products, terms.data, weight.data, rows, stream_);
  sum_terms(out, {products, rows, weight.rows, stride}, terms, bias, stream_);
}

FloatProducts::Shape& FloatProducts::shape_of(const WeightView& weight) {
  if (handle_ == nullptr) check(cublas_lt().create(&handle_), "starting");
  auto& shape = shapes_[{weight.dtype, weight.rows, weight.cols}];
  if (shape == nullptr) shape = std::make_unique<Shape>(handle_, weight.dtype, weight.rows, weight.cols);
  return *shape;
}

}  // namespace stamp::cuda

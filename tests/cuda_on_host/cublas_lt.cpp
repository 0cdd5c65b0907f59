// cuBLASLt on the executor, to the letter of its documentation: D = alpha op(A) op(B) + beta C, all matrices
// column by column, sums in FP32.
#include <cublasLt.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "kernels/half.h"
#include "kernels/quant_format.h"

using namespace stamp::cuda_on_host;

struct CublasLtOnHost {};
struct CublasLtOperationOnHost {
  bool transposes_a = false, transposes_b = false;
};
struct CublasLtLayoutOnHost {
  cudaDataType_t type;
  int64_t rows, cols, ld;
  int64_t element() const { return type == CUDA_R_32F ? 4 : 2; }
  /// From the first element to the last.
  size_t bytes() const { return size_t(((cols - 1) * ld + rows) * element()); }
  bool is_valid() const { return rows > 0 && cols > 0 && ld >= rows; }
  bool operator==(const CublasLtLayoutOnHost&) const = default;
};
struct CublasLtPreferenceOnHost {
  uint64_t workspace = 0;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D
};

namespace {

/// What cublasLtMatmulAlgo_t's words are here.
enum Word { kSplits, kAlignmentA, kAlignmentB, kAlignmentC, kAlignmentD, kChains };

int64_t least_columns = 0;

struct Matrix {
  const std::byte* data;
  CublasLtLayoutOnHost layout;
  bool transposed;
  /// Of op(A) or op(B).
  int64_t rows() const { return transposed ? layout.cols : layout.rows; }
  int64_t cols() const { return transposed ? layout.rows : layout.cols; }
  float at(int64_t row, int64_t col) const {
    const int64_t i = transposed ? col + row * layout.ld : row + col * layout.ld;
    if (layout.type == CUDA_R_32F) return reinterpret_cast<const float*>(data)[i];
    const uint16_t bits = reinterpret_cast<const uint16_t*>(data)[i];
    return layout.type == CUDA_R_16F ? stamp::f16_to_f32(bits) : stamp::bf16_to_f32(bits);
  }
};

/// Accesses to a range, sector by sector where it has whole ones.
void touch(const void* begin, int64_t bytes, AccessKind kind) {
  constexpr int64_t kSector = 32;
  const auto* p = static_cast<const std::byte*>(begin);
  for (int64_t left = bytes; left > 0;) {
    const auto address = reinterpret_cast<uintptr_t>(p);
    const auto size = std::min<uint64_t>({kSector, address & -address, std::bit_floor(uint64_t(left))});
    access(p, size, kind, __builtin_return_address(0));
    p += size;
    left -= int64_t(size);
  }
}
/// Rows [first, first + count) of op(A), or columns of op(B).
void touch(const Matrix& m, int64_t first, int64_t count, bool rows) {
  const auto& [data, layout, transposed] = m;
  const int64_t element = layout.element();
  const bool columns_of_memory = rows == transposed;
  const int64_t cols = columns_of_memory ? count : layout.cols, from_col = columns_of_memory ? first : 0;
  const int64_t height = columns_of_memory ? layout.rows : count, from_row = columns_of_memory ? 0 : first;
  for (int64_t c = 0; c < cols; ++c)
    touch(data + ((from_col + c) * layout.ld + from_row) * element, height * element, AccessKind::kRead);
}

struct Product {
  Matrix a, b;
  float alpha, beta;
  const float* c;
  float* d;
  CublasLtLayoutOnHost out;
  int64_t chains;  // sums over parts of k, added in the end
};

constexpr int64_t kRowsOfBlock = 64;

/// A block has rows of D, and one thread.
void multiply(Product p) {
  const int64_t first = int64_t(blockIdx.x) * kRowsOfBlock, k = p.a.cols(), n = p.b.cols(),
                rows = std::min(kRowsOfBlock, p.a.rows() - first);
  touch(p.a, first, rows, true);
  if (blockIdx.x == 0) touch(p.b, 0, n, false);
  std::vector<float> a(size_t(k * kRowsOfBlock));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t l = 0; l < k; ++l) a[size_t(l * kRowsOfBlock + i)] = p.a.at(first + i, l);
  for (int64_t j = 0; j < n; ++j) {
    float sums[kRowsOfBlock] = {};
    for (int64_t chain = 0; chain < p.chains; ++chain) {
      float sum[kRowsOfBlock] = {};
      for (int64_t l = chain * k / p.chains; l < (chain + 1) * k / p.chains; ++l) {
        const float b = p.b.at(l, j);
        const float* const column = a.data() + l * kRowsOfBlock;
        for (int64_t i = 0; i < kRowsOfBlock; ++i) sum[i] += column[i] * b;
      }
      for (int64_t i = 0; i < kRowsOfBlock; ++i) sums[i] += sum[i];
    }
    const int64_t at = first + j * p.out.ld;
    if (p.beta != 0.0f) touch(p.c + at, rows * 4, AccessKind::kRead);
    touch(p.d + at, rows * 4, AccessKind::kWrite);
    for (int64_t i = 0; i < rows; ++i)
      p.d[at + i] = p.alpha * sums[i] + (p.beta != 0.0f ? p.beta * p.c[at + i] : 0.0f);
  }
}

template <class T>
cublasStatus_t store(T& to, const void* value, size_t bytes) {
  if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
template <class T>
cublasStatus_t create(T** handle, const T& value) {
  *handle = new T(value);
  return CUBLAS_STATUS_SUCCESS;
}
template <class T>
cublasStatus_t destroy(T* handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

/// Whether the shapes go together, and types are some that this knows.
cublasStatus_t check_shapes(cublasLtMatmulDesc_t operation, cublasLtMatrixLayout_t a,
                            cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d) {
  for (cublasLtMatrixLayout_t layout : {a, b, c, d})
    if (!layout->is_valid()) return CUBLAS_STATUS_INVALID_VALUE;
  if (a->type != b->type || c->type != CUDA_R_32F || d->type != CUDA_R_32F)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  const Matrix left{nullptr, *a, operation->transposes_a}, right{nullptr, *b, operation->transposes_b};
  const bool fit = left.cols() == right.rows() && left.rows() == d->rows && right.cols() == d->cols;
  return fit && *c == *d ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

}  // namespace

int64_t& stamp::cuda_on_host::least_cublas_lt_columns() { return least_columns; }

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return create(handle, {}); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroy(handle); }
const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_SUCCESS         ? "success"
         : status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported"
                                                 : "invalid value";
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t,
                                        cudaDataType_t scale) {
  return scale == CUDA_R_32F ? create(operation, {}) : CUBLAS_STATUS_NOT_SUPPORTED;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) { return destroy(operation); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t bytes) {
  int32_t how = CUBLAS_OP_N;
  const cublasStatus_t status = store(how, value, bytes);
  (attribute == CUBLASLT_MATMUL_DESC_TRANSA ? operation->transposes_a : operation->transposes_b) =
      how == CUBLAS_OP_T;
  return status;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, uint64_t rows,
                                          uint64_t cols, int64_t ld) {
  return create(layout, {type, int64_t(rows), int64_t(cols), ld});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) { return destroy(layout); }
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t, const void* value,
                                                size_t bytes) {
  return store(layout->cols, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return create(preference, {});
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return destroy(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  if (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
    return store(preference->workspace, value, bytes);
  if (attribute == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
    return store(preference->reductions, value, bytes);
  return store(preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* returned) {
  *returned = 0;
  if (requested <= 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (const cublasStatus_t status = check_shapes(operation, a, b, c, d); status != CUBLAS_STATUS_SUCCESS)
    return status;
  const auto suggest = [&](uint64_t splits, uint64_t chains, size_t workspace, uint32_t reduction) {
    const bool reduces = reduction != CUBLASLT_REDUCTION_SCHEME_NONE;
    if (workspace > preference->workspace || (reduces && (reduction & preference->reductions) == 0) ||
        *returned == requested)
      return;
    cublasLtMatmulHeuristicResult_t& result = results[(*returned)++] = {};
    result.workspaceSize = workspace;
    result.algo.data[kSplits] = splits;
    result.algo.data[kChains] = chains;
    std::copy_n(preference->alignment, 4, result.algo.data + kAlignmentA);
  };
  const bool many = d->cols >= 256;
  suggest(3, 3, 0, CUBLASLT_REDUCTION_SCHEME_INPLACE);
  suggest(2, 2, 2 * d->bytes(), CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
  suggest(1, many ? 2 : 1, 0, CUBLASLT_REDUCTION_SCHEME_NONE);
  suggest(1, many ? 1 : 2, 0, CUBLASLT_REDUCTION_SCHEME_NONE);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t, void* value,
                                                    size_t bytes, size_t* written) {
  const auto splits = int32_t(algorithm->data[kSplits]);
  if (bytes != sizeof(splits)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(value, &splits, bytes);
  if (written != nullptr) *written = bytes;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algorithm,
                                       cublasLtMatmulHeuristicResult_t* result) {
  *result = {};
  result->algo = *algorithm;
  if (d->cols < least_columns) return CUBLAS_STATUS_NOT_SUPPORTED;
  return check_shapes(operation, a, b, c, d);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void*, size_t, cudaStream_t stream) {
  cublasLtMatmulHeuristicResult_t result;
  const cublasStatus_t status =
      cublasLtMatmulAlgoCheck(handle, operation, a_layout, b_layout, c_layout, d_layout, algorithm, &result);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  const void* const operands[] = {a, b, c, d};
  const cublasLtMatrixLayout_t layouts[] = {a_layout, b_layout, c_layout, d_layout};
  for (size_t i = 0; i < 4; ++i)
    if (reinterpret_cast<uintptr_t>(operands[i]) % algorithm->data[kAlignmentA + i] != 0 ||
        !Memory::instance().holds(operands[i], layouts[i]->bytes()))
      return CUBLAS_STATUS_INVALID_VALUE;
  const Product product{.a = {static_cast<const std::byte*>(a), *a_layout, operation->transposes_a},
                        .b = {static_cast<const std::byte*>(b), *b_layout, operation->transposes_b},
                        .alpha = *static_cast<const float*>(alpha),
                        .beta = *static_cast<const float*>(beta),
                        .c = static_cast<const float*>(c),
                        .d = static_cast<float*>(d),
                        .out = *d_layout,
                        .chains = int64_t(algorithm->data[kChains])};
  launch("cublas_lt", multiply, uint32_t(stamp::divide_up(d_layout->rows, kRowsOfBlock)), 1, 0, false, stream,
         product);
  return CUBLAS_STATUS_SUCCESS;
}

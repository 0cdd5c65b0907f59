#include "kernels/cuda/cublas_lt.h"

#include <dlfcn.h>

#include <string>

#include "kernels/error.h"

// The host executor (tests/cuda_on_host) has the functions in the program.
#ifdef STAMP_CUDA_ON_HOST
#define STAMP_FIND(member, function) table.member = function
#else
#define STAMP_FIND(member, function) \
  table.member = reinterpret_cast<decltype(table.member)>(symbol(library, #function))
#endif

namespace stamp::cuda {
namespace {

#ifndef STAMP_CUDA_ON_HOST
[[noreturn]] void refuse() {
  throw InputError("device cuda: float products need cuBLAS " + std::to_string(CUBLAS_VER_MAJOR) + ": " +
                   dlerror() + "; install it or choose a quantised recipe");
}

void* symbol(void* library, const char* name) {
  void* const found = dlsym(library, name);
  if (found == nullptr) refuse();
  return found;
}
#endif

CublasLt load() {
#ifndef STAMP_CUDA_ON_HOST
  const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
  void* const library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed
  if (library == nullptr) refuse();
#endif
  CublasLt table;
  STAMP_FIND(create, cublasLtCreate);
  STAMP_FIND(destroy, cublasLtDestroy);
  STAMP_FIND(status_string, cublasLtGetStatusString);
  STAMP_FIND(create_operation, cublasLtMatmulDescCreate);
  STAMP_FIND(destroy_operation, cublasLtMatmulDescDestroy);
  STAMP_FIND(set_operation, cublasLtMatmulDescSetAttribute);
  STAMP_FIND(create_layout, cublasLtMatrixLayoutCreate);
  STAMP_FIND(destroy_layout, cublasLtMatrixLayoutDestroy);
  STAMP_FIND(set_layout, cublasLtMatrixLayoutSetAttribute);
  STAMP_FIND(create_preference, cublasLtMatmulPreferenceCreate);
  STAMP_FIND(destroy_preference, cublasLtMatmulPreferenceDestroy);
  STAMP_FIND(set_preference, cublasLtMatmulPreferenceSetAttribute);
  STAMP_FIND(suggest_algorithms, cublasLtMatmulAlgoGetHeuristic);
  STAMP_FIND(get_algorithm, cublasLtMatmulAlgoConfigGetAttribute);
  STAMP_FIND(check_algorithm, cublasLtMatmulAlgoCheck);
  STAMP_FIND(multiply, cublasLtMatmul);
  return table;
}

}  // namespace

const CublasLt& cublas_lt() {
  static const CublasLt table = load();
  return table;
}

void check(cublasStatus_t status, const char* what) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(std::string("cuBLASLt: ") + what + ": " + cublas_lt().status_string(status));
}

}  // namespace stamp::cuda

#pragma once
#include <cuda_runtime.h>

#include <string>

#include "kernels/error.h"

namespace stamp::cuda {

/// Throws Error naming what failed.
inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw Error(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

}  // namespace stamp::cuda

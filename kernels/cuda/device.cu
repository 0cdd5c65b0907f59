#include <cuda_runtime.h>

#include <string>

#include "kernels/device.h"
#include "kernels/error.h"

namespace stamp {

void require_cuda_device() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess)
    throw InputError(std::string("device cuda: ") + cudaGetErrorString(status) + "; use --device cpu");
  if (count == 0) throw InputError("device cuda: no device found; use --device cpu");
  throw InputError("device cuda: this version has no CUDA operations yet; use --device cpu");
}

}  // namespace stamp

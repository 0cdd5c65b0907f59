#include "kernels/device.h"
#include "kernels/error.h"

namespace stamp {

void require_cuda_device() {
  throw InputError(
      "device cuda: this build has no CUDA backend; install the CUDA toolkit and build again, or use "
      "--device cpu");
}

}  // namespace stamp

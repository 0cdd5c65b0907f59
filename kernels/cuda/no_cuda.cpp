#include "kernels/device.h"
#include "kernels/error.h"

namespace stamp {

std::unique_ptr<Ops> make_cuda_ops() {
  throw InputError(
      "device cuda: this build has no CUDA backend; install the CUDA toolkit and build again, or use "
      "--device cpu");
}

}  // namespace stamp

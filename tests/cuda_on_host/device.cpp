// The devices of the tests' command line, in place of kernels/device.cpp.
#include "kernels/device.h"

#include "kernels/cuda/ops_cuda.h"
#include "kernels/error.h"

namespace stamp {

std::vector<std::string> device_names() { return {"cuda", "cuda-host"}; }

std::unique_ptr<Ops> open_device(std::string_view name) {
  if (name == "cuda-host") return make_device_ops("cuda_host");
  throw InputError("device cuda: this program runs the kernels on the CPU; use --device cuda-host");
}

}  // namespace stamp

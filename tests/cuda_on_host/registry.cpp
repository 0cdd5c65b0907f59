// The registry of this test program, in place of kernels/registry.cpp: the CUDA operations on the executor,
// and the CPU's to compare with.
#include <string>

#include "kernels/cpu/ops_cpu.h"
#include "kernels/cuda/ops_cuda.h"
#include "kernels/error.h"
#include "kernels/ops.h"
#include "kernels/reference/ops_reference.h"

namespace stamp {

std::vector<std::string> available_ops() { return {STAMP_CUDA_OPS}; }

std::unique_ptr<Ops> make_ops(std::string_view name, int threads) {
  if (name == STAMP_CUDA_OPS) return make_device_ops(STAMP_CUDA_OPS);
  if (name.empty() || name == "scalar") return make_cpu_ops(scalar_kernels(), threads);
#if defined(__x86_64__)
  if (name == "avx2") return make_cpu_ops(avx2_kernels(), threads);
#endif
  if (name == "reference") return make_reference_ops();
  throw InputError("operations " + std::string(name) +
                   ": choose one of " STAMP_CUDA_OPS ", avx2, scalar, reference");
}

}  // namespace stamp

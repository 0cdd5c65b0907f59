#include "kernels/cpu/kernels.h"

namespace stamp {
namespace isa_scalar {
namespace isa = isa_scalar;
constexpr const char* kName = "scalar";
#include "kernels/cpu/vec_scalar.h"

#include "kernels/cpu/kernels.inl"
}  // namespace isa_scalar

const CpuKernels& scalar_kernels() { return isa_scalar::kKernels; }

}  // namespace stamp

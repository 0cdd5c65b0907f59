#include "kernels/cpu/kernels.h"
#include "kernels/cpu/peaks.h"

namespace stamp {
namespace isa_scalar {
namespace isa = isa_scalar;
constexpr const char* kName = "scalar";
constexpr bool kOnTiles = false;
#include "kernels/cpu/tile_loops.h"
#include "kernels/cpu/vec_scalar.h"

#include "kernels/cpu/kernels.inl"

#include "kernels/cpu/peaks.inl"
}  // namespace isa_scalar

const CpuKernels& scalar_kernels() { return isa_scalar::kKernels; }
const PeakLoops& scalar_peaks() { return isa_scalar::kPeakLoops; }

}  // namespace stamp

#if defined(__aarch64__)
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/peaks.h"

#include <arm_neon.h>

namespace stamp {
namespace isa_neon {
namespace isa = isa_neon;
constexpr const char* kName = "neon";
constexpr bool kOnTiles = false;
#include "kernels/cpu/tile_loops.h"
#include "kernels/cpu/vec_neon.h"

#include "kernels/cpu/kernels.inl"

#include "kernels/cpu/peaks.inl"
}  // namespace isa_neon

const CpuKernels& neon_kernels() { return isa_neon::kKernels; }
const PeakLoops& neon_peaks() { return isa_neon::kPeakLoops; }

}  // namespace stamp
#endif  // __aarch64__

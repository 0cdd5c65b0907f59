#if defined(__aarch64__)
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/peaks.h"

#include <arm_neon.h>

namespace stamp {
namespace isa_neoni8mm {
namespace isa = isa_neoni8mm;
constexpr const char* kName = "neoni8mm";
constexpr bool kOnTiles = false;
#include "kernels/cpu/tile_loops.h"
#include "kernels/cpu/vec_neon.h"

#include "kernels/cpu/kernels.inl"

#include "kernels/cpu/peaks.inl"
}  // namespace isa_neoni8mm

const CpuKernels& neoni8mm_kernels() { return isa_neoni8mm::kKernels; }
const PeakLoops& neoni8mm_peaks() { return isa_neoni8mm::kPeakLoops; }

}  // namespace stamp
#endif  // __aarch64__

#if defined(__x86_64__)
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/peaks.h"

#include <immintrin.h>

namespace stamp {
namespace isa_avxvnni {
namespace isa = isa_avxvnni;
constexpr const char* kName = "avxvnni";
constexpr bool kOnTiles = false;
#include "kernels/cpu/tile_loops.h"
#include "kernels/cpu/vec_avx2.h"

#include "kernels/cpu/kernels.inl"

#include "kernels/cpu/peaks.inl"
}  // namespace isa_avxvnni

const CpuKernels& avxvnni_kernels() { return isa_avxvnni::kKernels; }
const PeakLoops& avxvnni_peaks() { return isa_avxvnni::kPeakLoops; }

}  // namespace stamp
#endif  // __x86_64__

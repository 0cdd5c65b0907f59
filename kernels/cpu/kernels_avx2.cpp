#if defined(__x86_64__)
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/peaks.h"

#include <immintrin.h>

namespace stamp {
namespace isa_avx2 {
namespace isa = isa_avx2;
constexpr const char* kName = "avx2";
constexpr bool kOnTiles = false;
#include "kernels/cpu/tile_loops.h"
#include "kernels/cpu/vec_avx2.h"

#include "kernels/cpu/kernels.inl"

#include "kernels/cpu/peaks.inl"
}  // namespace isa_avx2

const CpuKernels& avx2_kernels() { return isa_avx2::kKernels; }
const PeakLoops& avx2_peaks() { return isa_avx2::kPeakLoops; }

}  // namespace stamp
#endif  // __x86_64__

#if defined(__x86_64__)
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/peaks.h"

#include <immintrin.h>

namespace stamp {
namespace isa_avx512 {
namespace isa = isa_avx512;
constexpr const char* kName = "avx512";
constexpr bool kOnTiles = false;
#include "kernels/cpu/tile_loops.h"
#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/kernels.inl"

#include "kernels/cpu/peaks.inl"
}  // namespace isa_avx512

const CpuKernels& avx512_kernels() { return isa_avx512::kKernels; }
const PeakLoops& avx512_peaks() { return isa_avx512::kPeakLoops; }

}  // namespace stamp
#endif  // __x86_64__

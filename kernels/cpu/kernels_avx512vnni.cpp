#if defined(__x86_64__)
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/peaks.h"

#include <immintrin.h>

namespace stamp {
namespace isa_avx512vnni {
namespace isa = isa_avx512vnni;
constexpr const char* kName = "avx512vnni";
constexpr bool kOnTiles = false;
#include "kernels/cpu/tile_loops.h"
#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/kernels.inl"

#include "kernels/cpu/peaks.inl"
}  // namespace isa_avx512vnni

const CpuKernels& avx512vnni_kernels() { return isa_avx512vnni::kKernels; }
const PeakLoops& avx512vnni_peaks() { return isa_avx512vnni::kPeakLoops; }

}  // namespace stamp
#endif  // __x86_64__

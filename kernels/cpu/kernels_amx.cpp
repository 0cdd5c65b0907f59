#if defined(__x86_64__)
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/peaks.h"

#include <immintrin.h>

namespace stamp {
namespace isa_amx {
namespace isa = isa_amx;
constexpr const char* kName = "amx";
constexpr bool kOnTiles = true;
#include "kernels/cpu/tile_amx.h"
#include "kernels/cpu/vec_avx512.h"

#include "kernels/cpu/kernels.inl"

#include "kernels/cpu/peaks.inl"
}  // namespace isa_amx

const CpuKernels& amx_kernels() { return isa_amx::kKernels; }
const PeakLoops& amx_peaks() { return isa_amx::kPeakLoops; }

}  // namespace stamp
#endif  // __x86_64__

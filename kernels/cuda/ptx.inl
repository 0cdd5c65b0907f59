// The functions of ptx.cuh as inline assembly.
namespace stamp::cuda {

#define STAMP_DP4A(name, b_type)                                                   \
  __device__ __forceinline__ int32_t name(uint32_t a, uint32_t b, int32_t c) {     \
    int32_t d;                                                                     \
    asm("dp4a.u32." b_type " %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c)); \
    return d;                                                                      \
  }
STAMP_DP4A(dp4a_u8_u8, "u32")
STAMP_DP4A(dp4a_u8_s8, "s32")
#undef STAMP_DP4A

#define STAMP_MMA(name, shape, a_type, b_type)                                                               \
  __device__ __forceinline__ void name(int32_t(&d)[4], const uint32_t(&a)[4], const uint32_t(&b)[2],         \
                                       const int32_t(&c)[4]) {                                               \
    asm("mma.sync.aligned." shape ".row.col.s32." a_type "." b_type                                          \
        ".s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"                           \
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])                                                     \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "r"(c[0]), "r"(c[1]), "r"(c[2]), \
          "r"(c[3]));                                                                                        \
  }
STAMP_MMA(mma_s8_u8, "m16n8k32", "s8", "u8")
STAMP_MMA(mma_u8_u8, "m16n8k32", "u8", "u8")
STAMP_MMA(mma_u8_s8, "m16n8k32", "u8", "s8")
STAMP_MMA(mma_u4_u4, "m16n8k64", "u4", "u4")
#undef STAMP_MMA

__device__ __forceinline__ float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ void launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
__device__ __forceinline__ void wait_on_dependencies() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ __forceinline__ void prefetch_l2(const void* global) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(global));
}

__device__ __forceinline__ void copy_async_16(void* shared, const void* global, int source_bytes) {
  const auto address = uint32_t(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(source_bytes)
               : "memory");
}

__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int kLeft>
__device__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

__device__ __forceinline__ uint64_t swizzled_rows(const void* shared) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62, kEightRows = uint64_t{1024 >> 4} << 32,
                     kUnused = uint64_t{1} << 16;  // the leading dimension's offset
  return kSwizzle128 | kEightRows | kUnused | (uint32_t(__cvta_generic_to_shared(shared)) & 0x3ffff) >> 4;
}

// 0 .. 63
#define STAMP_EIGHT(d, i)                                                                     \
  "+r"(d[i]), "+r"(d[i + 1]), "+r"(d[i + 2]), "+r"(d[i + 3]), "+r"(d[i + 4]), "+r"(d[i + 5]), \
      "+r"(d[i + 6]), "+r"(d[i + 7])
#define STAMP_SUMS(d)                                                                               \
  STAMP_EIGHT(d, 0), STAMP_EIGHT(d, 8), STAMP_EIGHT(d, 16), STAMP_EIGHT(d, 24), STAMP_EIGHT(d, 32), \
      STAMP_EIGHT(d, 40), STAMP_EIGHT(d, 48), STAMP_EIGHT(d, 56)

__device__ __forceinline__ void wgmma_s8_u8(int32_t (&d)[64], const uint32_t (&a)[4], uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k32.s32.s8.u8 {"
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "{%64, %65, %66, %67}, %68, 1;"
      : STAMP_SUMS(d)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ __forceinline__ void fence_wgmma() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void commit_wgmma() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kLeft>
__device__ void wait_wgmma() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
}
__device__ __forceinline__ void pin(uint32_t (&a)[4]) {
  asm volatile("" : "+r"(a[0]), "+r"(a[1]), "+r"(a[2]), "+r"(a[3])::"memory");
}
__device__ __forceinline__ void pin(int32_t (&d)[64]) { asm volatile("" : STAMP_SUMS(d)::"memory"); }
#undef STAMP_SUMS
#undef STAMP_EIGHT

__device__ __forceinline__ void fence_for_wgmma() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

}  // namespace stamp::cuda

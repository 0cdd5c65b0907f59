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

}  // namespace stamp::cuda

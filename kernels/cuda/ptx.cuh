#pragma once
#include <cuda_runtime.h>

#include <cstdint>

/// PTX instructions, each one function. References are to the PTX ISA 9.0. Under nvcc they are inline
/// assembly (ptx.inl); in the host executor they are the ISA's definitions (tests/cuda_on_host/ptx.cpp).
///
/// Those of matrices are executed by the 32 lanes of a warp together. `group` is lane / 4, `four` is lane
/// % 4.
namespace stamp::cuda {

/// c + the products of four pairs of bytes (section 9.7.1.23, dp4a.u32.u32 and dp4a.u32.s32).
__device__ int32_t dp4a_u8_u8(uint32_t a, uint32_t b, int32_t c);
__device__ int32_t dp4a_u8_s8(uint32_t a, uint32_t b, int32_t c);

/// d = a b + c on integers, A [16, 32] row-major, B [32, 8] column-major, 8-bit elements four to a register
/// in order of k (section 9.7.14.5.8, m16n8k32):
///   a[0]: row group,     k = 4 four .. + 3        a[2]: row group,     k = 16 + 4 four .. + 3
///   a[1]: row group + 8, k = 4 four .. + 3        a[3]: row group + 8, k = 16 + 4 four .. + 3
///   b[0]: column group,  k = 4 four .. + 3        b[1]: column group,  k = 16 + 4 four .. + 3
///   d[0], d[1]: row group, columns 2 four, 2 four + 1        d[2], d[3]: row group + 8        c alike
__device__ void mma_s8_u8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                          const int32_t (&c)[4]);
__device__ void mma_u8_u8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                          const int32_t (&c)[4]);
__device__ void mma_u8_s8(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                          const int32_t (&c)[4]);

/// The same with 4-bit elements, eight to a register, A [16, 64], B [64, 8] (section 9.7.14.5.9, m16n8k64):
/// k = 8 four .. + 7, and 32 + 8 four .. + 7 where the 8-bit form has 16 + 4 four. From sm_90 on the hardware
/// has no such instruction and the compiler emulates it.
__device__ void mma_u4_u4(int32_t (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                          const int32_t (&c)[4]);

/// 2^x within 2^-22 of it; subnormal results are zero (section 9.7.3.20, ex2.approx.ftz.f32).
__device__ float exp2_approx(float x);

/// Lets the stream's next kernel, if it may overlap this one, begin once all blocks have called it or ended
/// (section 9.7.13.13, griddepcontrol.launch_dependents; nothing before sm_90).
__device__ void launch_dependents();
/// Waits until the kernels before this one have ended and what they wrote can be read
/// (griddepcontrol.wait).
__device__ void wait_on_dependencies();

/// Starts bringing the line of an address to the second-level cache (section 9.7.9.15, prefetch.global.L2).
__device__ void prefetch_l2(const void* global);

/// Copies 16 bytes from global to shared memory without waiting, both on 16 bytes; the first `source_bytes`
/// (0 .. 16) are read, the rest is zero (section 9.7.9.25.3.1, cp.async.cg).
__device__ void copy_async_16(void* shared, const void* global, int source_bytes = 16);
/// Closes the calling thread's group of copies (cp.async.commit_group).
__device__ void commit_copies();
/// Waits until at most kLeft of the calling thread's groups are not complete (cp.async.wait_group). Other
/// threads see the bytes after a barrier.
template <int kLeft>
__device__ void wait_copies();

}  // namespace stamp::cuda

#ifdef __CUDACC__
#include "kernels/cuda/ptx.inl"
#endif

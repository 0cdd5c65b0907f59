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

/// wgmma (section 9.7.15) of sm_90a: four warps, the first of which is a multiple of four, multiply together
/// and go on while the tensor cores work. In between nobody touches the operands' registers, nor the shared
/// memory that is read.

/// Describes rows of bytes for wgmma, 128 of each, at a multiple of 1024: 16-byte chunk c of row r lies at
/// 128 r + 16 (c ^ r % 8) (section 9.7.15.5.1.2, K-major, 128-byte swizzling).
__device__ uint64_t swizzled_rows(const void* shared);
/// The same from byte `bytes` of every row on, a multiple of 32, or from row `bytes` / 128 on, one of eight.
__device__ __forceinline__ uint64_t further(uint64_t rows, int bytes) { return rows + uint64_t(bytes >> 4); }

/// d += a b, A [64, 32] of signed bytes, B [32, 128] of unsigned ones, whose columns are the first 32 bytes
/// of 128 swizzled rows (section 9.7.15.5.2, m64n128k32). Warp w of the four has rows 16 w .. + 15 of A and
/// of D, those of A as in mma_s8_u8,
///   d[4 j], d[4 j + 1]: row 16 w + group, columns 8 j + 2 four, + 1        d[4 j + 2], d[4 j + 3]: row + 8
__device__ void wgmma_s8_u8(int32_t (&d)[64], const uint32_t (&a)[4], uint64_t b);
/// Between what the threads did with registers and wgmma's use of them (wgmma.fence).
__device__ void fence_wgmma();
/// Closes the warp's group of products (wgmma.commit_group).
__device__ void commit_wgmma();
/// Waits until at most kLeft of the warp's groups are not complete (wgmma.wait_group).
template <int kLeft>
__device__ void wait_wgmma();
/// Keeps the compiler from moving what defines or uses these operands of wgmma over this place: A's before
/// fence_wgmma(), D's after the last wait_wgmma().
__device__ void pin(uint32_t (&a)[4]);
__device__ void pin(int32_t (&d)[64]);
/// Makes what the calling thread has written to shared memory, its completed copies too, visible to wgmma;
/// a barrier comes between (section 9.7.13.4, fence.proxy.async).
__device__ void fence_for_wgmma();

}  // namespace stamp::cuda

#ifdef __CUDACC__
#include "kernels/cuda/ptx.inl"
#endif

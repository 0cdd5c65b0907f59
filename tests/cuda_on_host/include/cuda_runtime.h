#pragma once
// CUDA for the host executor: what kernels/cuda/ uses of the language and of the runtime, under its own
// names. Found in place of the toolkit's header when kernels are compiled for the CPU.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>  // before the macros: its own attributes are spelt as CUDA's
#include <tuple>
#include <type_traits>

#include "tests/cuda_on_host/executor.h"

#define STAMP_CUDA_ON_HOST 1
#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __grid_constant__
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __noinline__ __attribute__((noinline))
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) alignas(n)

struct dim3 {
  uint32_t x, y, z;
  constexpr dim3(uint32_t vx = 1, uint32_t vy = 1, uint32_t vz = 1) : x(vx), y(vy), z(vz) {}
};
#ifdef STAMP_FAST_EXECUTOR
#define STAMP_THIS_THREAD (*::stamp::cuda_on_host::running_thread)
#else
#define STAMP_THIS_THREAD (::stamp::cuda_on_host::this_thread())
#endif
#define threadIdx (STAMP_THIS_THREAD.thread_index)
#define blockIdx (STAMP_THIS_THREAD.block_index)
#define blockDim (STAMP_THIS_THREAD.block_dim)
#define gridDim (STAMP_THIS_THREAD.grid_dim)

struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(8) int2 {
  int32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(16) int4 {
  int32_t x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
inline int4 make_int4(int32_t x, int32_t y, int32_t z, int32_t w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// Barriers and warp operations. Out of line, so that the return address is the place in the kernel.
void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);
namespace stamp::cuda_on_host {
enum class Shuffle { kIndex, kXor, kUp, kDown };
uint64_t shuffle(unsigned mask, uint64_t value, int argument, Shuffle kind);
uint32_t ballot(unsigned mask, bool predicate);
template <class T>
T shuffle_as(unsigned mask, T value, int argument, Shuffle kind) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = shuffle(mask, bits, argument, kind);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
}  // namespace stamp::cuda_on_host
template <class T>
__forceinline__ T __shfl_sync(unsigned mask, T value, int lane) {
  return stamp::cuda_on_host::shuffle_as(mask, value, lane, stamp::cuda_on_host::Shuffle::kIndex);
}
template <class T>
__forceinline__ T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  return stamp::cuda_on_host::shuffle_as(mask, value, lanes, stamp::cuda_on_host::Shuffle::kXor);
}
template <class T>
__forceinline__ T __shfl_up_sync(unsigned mask, T value, int lanes) {
  return stamp::cuda_on_host::shuffle_as(mask, value, lanes, stamp::cuda_on_host::Shuffle::kUp);
}
template <class T>
__forceinline__ T __shfl_down_sync(unsigned mask, T value, int lanes) {
  return stamp::cuda_on_host::shuffle_as(mask, value, lanes, stamp::cuda_on_host::Shuffle::kDown);
}
inline uint32_t __ballot_sync(unsigned mask, int predicate) {
  return stamp::cuda_on_host::ballot(mask, predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

// Atomics.
int atomicAdd(int* address, int value);
unsigned atomicAdd(unsigned* address, unsigned value);
float atomicAdd(float* address, float value);
int atomicMax(int* address, int value);
unsigned atomicCAS(unsigned* address, unsigned compare, unsigned value);

// Arithmetic.
inline int __float2int_rn(float x) { return int(std::nearbyint(x)); }
inline float __int_as_float(int x) {
  float y;
  std::memcpy(&y, &x, sizeof(y));
  return y;
}
inline uint32_t __float_as_uint(float x) {
  uint32_t y;
  std::memcpy(&y, &x, sizeof(y));
  return y;
}
/// Bytes of x (0 .. 3) and y (4 .. 7) by the selector's nibbles, the lowest first.
inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t selector) {
  const uint64_t bytes = uint64_t{y} << 32 | x;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) result |= uint32_t(bytes >> (selector >> 4 * i & 7) * 8 & 255) << 8 * i;
  return result;
}
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
using std::fmaf;
using std::fmaxf;
using std::fminf;
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}
uint32_t __dp4a(uint32_t a, uint32_t b, uint32_t c);
int32_t __dp4a(int32_t a, int32_t b, int32_t c);

// The runtime. Streams run in order and as late as possible: when somebody waits for them.
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorMemoryAllocation = 2 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
using cudaStream_t = struct CudaStreamOnHost*;
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
/// Of the architecture in settings().
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMalloc(void** pointer, size_t bytes);
cudaError_t cudaFree(void* pointer);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);

namespace stamp::cuda_on_host {

void allow_large_shared(const void* kernel);
bool large_shared_allowed(const void* kernel);
void enqueue(cudaStream_t stream, std::function<void()> work);

/// kernel<<<grid, block, shared_bytes, stream>>>(arguments...)
template <class... P>
void launch(const char* name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, bool overlaps,
            cudaStream_t stream, P... arguments) {
  LaunchConfig config{.name = name,
                      .grid = {grid.x, grid.y, grid.z},
                      .block = {block.x, block.y, block.z},
                      .shared_bytes = shared_bytes,
                      .large_shared_allowed = large_shared_allowed(reinterpret_cast<const void*>(kernel)),
                      .overlaps = overlaps};
  enqueue(stream, [config, kernel, parameters = std::tuple<P...>(arguments...)]() mutable {
    struct Call {
      void (*kernel)(P...);
      std::tuple<P...> parameters;
    } call{kernel, parameters};
    config.parameters = &call;
    config.parameter_bytes = sizeof(call);
    run_grid(config, [](const void* p) {
      const auto* const c = static_cast<const Call*>(p);
      std::apply(c->kernel, c->parameters);
    });
  });
}

}  // namespace stamp::cuda_on_host

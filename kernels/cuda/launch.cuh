#pragma once
#include <cuda_runtime.h>

#include <type_traits>

#include "kernels/cuda/check.h"
#include "kernels/cuda/ptx.cuh"

/// How kernels are started and get their shared memory: the one place where a GPU and the host executor
/// (tests/cuda_on_host) differ.
namespace stamp::cuda {

struct Shape {
  dim3 grid, block;
  size_t shared_bytes = 0;  // sizeof the struct that the kernel takes with shared_storage()
  /// The kernel calls wait_for_predecessors(): from sm_90 on its blocks may come while the stream's kernel
  /// before it still runs. For kernels of few blocks, whose start is what they take: many, come early, would
  /// share multiprocessors unevenly.
  bool overlaps = false;
};
inline constexpr bool kOverlaps = true;

inline constexpr size_t kSharedWithoutAttribute = 48 << 10;

#ifdef __CUDACC__
/// Programmatic dependent launch: from compute capability 9.0 on.
inline bool can_overlap() {
  static const bool can = [] {
    int device = 0, major = 0;
    check(cudaGetDevice(&device), "cudaGetDevice");
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device),
          "cudaDeviceGetAttribute");
    return major >= 9;
  }();
  return can;
}
#endif

/// Of a kernel launched with Shape::overlaps, every thread, before it reads what kernels write or writes
/// itself. What was there before them, weights say, it may read earlier.
__device__ __forceinline__ void wait_for_predecessors() {
  launch_dependents();
  wait_on_dependencies();
}

/// Starts kernel<<<shape>>>(arguments...) on `stream`; `name` is for reports.
template <class... P>
void launch([[maybe_unused]] const char* name, void (*kernel)(P...), const Shape& shape, cudaStream_t stream,
            std::type_identity_t<P>... arguments) {
#ifdef __CUDACC__
  if (shape.shared_bytes > kSharedWithoutAttribute)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shape.shared_bytes)),
          name);
  cudaLaunchAttribute overlap{};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = &overlap;
  config.numAttrs = shape.overlaps && can_overlap() ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, arguments...), name);
#else
  if (shape.shared_bytes > kSharedWithoutAttribute)
    cuda_on_host::allow_large_shared(reinterpret_cast<const void*>(kernel));
  cuda_on_host::launch(name, kernel, shape.grid, shape.block, shape.shared_bytes, shape.overlaps, stream,
                       arguments...);
#endif
}

/// A kernel's shared memory is one struct, so that its size and the bounds of its arrays are known.
template <class T>
__device__ __forceinline__ T& shared_storage() {
#ifdef __CUDACC__
  extern __shared__ __align__(1024) unsigned char bytes[];
  return *reinterpret_cast<T*>(bytes);
#else
  return *static_cast<T*>(cuda_on_host::shared_memory(sizeof(T)));
#endif
}

/// The same where the size follows the model: `count` elements.
template <class T>
__device__ __forceinline__ T* shared_array([[maybe_unused]] int64_t count) {
#ifdef __CUDACC__
  extern __shared__ __align__(1024) unsigned char bytes[];
  return reinterpret_cast<T*>(bytes);
#else
  return static_cast<T*>(cuda_on_host::shared_memory(size_t(count) * sizeof(T)));
#endif
}

}  // namespace stamp::cuda

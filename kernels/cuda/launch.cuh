#pragma once
#include <cuda_runtime.h>

#include <type_traits>

#include "kernels/cuda/check.h"

/// How kernels are started and get their shared memory: the one place where a GPU and the host executor
/// (tests/cuda_on_host) differ.
namespace stamp::cuda {

struct Shape {
  dim3 grid, block;
  size_t shared_bytes = 0;  // sizeof the struct that the kernel takes with shared_storage()
};

inline constexpr size_t kSharedWithoutAttribute = 48 << 10;

/// Starts kernel<<<shape>>>(arguments...) on `stream`; `name` is for reports.
template <class... P>
void launch([[maybe_unused]] const char* name, void (*kernel)(P...), const Shape& shape, cudaStream_t stream,
            std::type_identity_t<P>... arguments) {
#ifdef __CUDACC__
  if (shape.shared_bytes > kSharedWithoutAttribute)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shape.shared_bytes)),
          name);
  kernel<<<shape.grid, shape.block, shape.shared_bytes, stream>>>(arguments...);
  check(cudaGetLastError(), name);
#else
  if (shape.shared_bytes > kSharedWithoutAttribute)
    cuda_on_host::allow_large_shared(reinterpret_cast<const void*>(kernel));
  cuda_on_host::launch(name, kernel, shape.grid, shape.block, shape.shared_bytes, stream, arguments...);
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

#include "kernels/cuda/device_memory.h"

#include <algorithm>
#include <new>

#include "kernels/cuda/check.h"

namespace stamp::cuda {

void* DeviceMemory::allocate(int64_t bytes) {
  void* pointer = nullptr;
  const auto size = size_t(std::max<int64_t>(bytes, 1));
  const cudaError_t status = cudaMalloc(&pointer, size);
  if (status == cudaErrorMemoryAllocation) throw std::bad_alloc();
  check(status, "cudaMalloc");
  check(cudaMemsetAsync(pointer, 0, size, stream_), "cudaMemset");
  allocations_[static_cast<std::byte*>(pointer)] = bytes;
  return pointer;
}

void DeviceMemory::release(void* pointer) {
  allocations_.erase(static_cast<std::byte*>(pointer));
  cudaFree(pointer);  // waits for work that uses it; a failure here was reported by that work
}

void DeviceMemory::write(void* to, const void* from, int64_t bytes) {
  check(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyHostToDevice, stream_), "copying to the device");
  check(cudaStreamSynchronize(stream_), "copying to the device");
}

void DeviceMemory::read(void* to, const void* from, int64_t bytes) {
  check(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyDeviceToHost, stream_), "copying from the device");
  check(cudaStreamSynchronize(stream_), "copying from the device");
}

bool DeviceMemory::owns(const void* pointer) const {
  const auto* p = static_cast<const std::byte*>(pointer);
  const auto above = allocations_.upper_bound(p);
  if (above == allocations_.begin()) return false;
  const auto& [base, bytes] = *std::prev(above);
  return p < base + bytes;
}

void* Scratch::take_bytes(int64_t bytes) {
  constexpr int64_t kChunk = int64_t{16} << 20, kAlignment = 256;
  bytes = round_up(std::max<int64_t>(bytes, 1), kAlignment);
  for (; chunk_ < chunks_.size(); ++chunk_, used_ = 0) {
    if (used_ + bytes > chunks_[chunk_].size()) continue;
    used_ += bytes;
    return chunks_[chunk_].data() + used_ - bytes;
  }
  used_ = bytes;
  return chunks_.emplace_back(std::max(bytes, kChunk), memory_).data();
}

}  // namespace stamp::cuda

#include "kernels/cuda/device_memory.h"

#include <algorithm>
#include <cstring>
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
  try {
    start_pending_();
  } catch (...) {  // called from destructors; a device that refuses work refuses the next, too
  }
  allocations_.erase(static_cast<std::byte*>(pointer));
  cudaFree(pointer);  // waits for work that uses it; a failure here was reported by that work
}

void DeviceMemory::write(void* to, const void* from, int64_t bytes) {
  start_pending_();
  enqueue_write(to, from, bytes);
  check(cudaStreamSynchronize(stream_), "copying to the device");
}

void DeviceMemory::read(void* to, const void* from, int64_t bytes) {
  start_pending_();
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

void DeviceMemory::enqueue_write(void* to, const void* from, int64_t bytes) {
  check(cudaMemcpyAsync(to, from, size_t(bytes), cudaMemcpyHostToDevice, stream_), "copying to the device");
}

const void* Uploads::on_device(const void* data, int64_t bytes) {
  ++uses_;
  for (Upload& upload : uploads_) {
    if (int64_t(upload.content.size()) != bytes ||
        std::memcmp(upload.content.data(), data, size_t(bytes)) != 0)
      continue;
    upload.used = uses_;
    return upload.copy.data();
  }
  if (uploads_.size() < kKept) uploads_.emplace_back();
  // Kernels that read the oldest copy are before this write in the stream.
  Upload& oldest = *std::min_element(uploads_.begin(), uploads_.end(),
                                     [](const Upload& a, const Upload& b) { return a.used < b.used; });
  const auto* const begin = static_cast<const std::byte*>(data);
  oldest.content.assign(begin, begin + bytes);
  oldest.used = uses_;
  if (oldest.copy.size() < bytes) {
    constexpr int64_t kGrain = 4096;
    oldest.copy = Buffer<std::byte>(round_up(2 * bytes, kGrain), memory_);
  }
  memory_.enqueue_write(oldest.copy.data(), data, bytes);
  return oldest.copy.data();
}

}  // namespace stamp::cuda

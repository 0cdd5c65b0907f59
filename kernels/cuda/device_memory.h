#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "kernels/buffer.h"

namespace stamp::cuda {

/// Device memory for buffers; knows its own, to tell device pointers from the host's. Before the host writes,
/// reads or releases any, `start_pending` starts work that is held back.
class DeviceMemory final : public Memory {
 public:
  DeviceMemory(cudaStream_t stream, std::function<void()> start_pending)
      : stream_(stream), start_pending_(std::move(start_pending)) {}
  void* allocate(int64_t bytes) override;
  void release(void* pointer) override;
  void write(void* to, const void* from, int64_t bytes) override;
  void read(void* to, const void* from, int64_t bytes) override;
  bool owns(const void* pointer) const;
  /// As write(), but `from` may change at once, and the copy is made when the stream has come so far.
  void enqueue_write(void* to, const void* from, int64_t bytes);

 private:
  cudaStream_t stream_;
  std::function<void()> start_pending_;
  std::map<const std::byte*, int64_t> allocations_;
};

/// Scratch of one operation at a time, kept between calls. Work on a stream is in order, so the next
/// operation may take the same bytes.
class Scratch {
 public:
  explicit Scratch(DeviceMemory& memory) : memory_(memory) {}
  void reset() { chunk_ = 0, used_ = 0; }
  bool is_unused() const { return chunk_ == 0 && used_ == 0; }
  template <class T>
  T* take(int64_t count) {
    return static_cast<T*>(take_bytes(count * int64_t{sizeof(T)}));
  }

 private:
  void* take_bytes(int64_t bytes);
  DeviceMemory& memory_;
  std::vector<Buffer<std::byte>> chunks_;
  size_t chunk_ = 0;
  int64_t used_ = 0;
};

/// Small operands of the host's on the device, kept while their content stays: what describes a batch is the
/// same for every layer, and copied once.
class Uploads {
 public:
  static constexpr int64_t kMostBytes = int64_t{256} << 10;
  explicit Uploads(DeviceMemory& memory) : memory_(memory) {}
  /// A copy of the bytes, good until the next kKept contents that differ from those before.
  const void* on_device(const void* data, int64_t bytes);

 private:
  static constexpr size_t kKept = 64;
  struct Upload {
    std::vector<std::byte> content;
    Buffer<std::byte> copy;
    int64_t used = 0;
  };
  DeviceMemory& memory_;
  std::vector<Upload> uploads_;
  int64_t uses_ = 0;
};

}  // namespace stamp::cuda

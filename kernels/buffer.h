#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "kernels/views.h"

namespace stamp {

/// Where buffers get their memory: the host's, or a device's, which the host cannot read or write through
/// pointers. Outlives its buffers.
class Memory {
 public:
  virtual ~Memory() = default;
  /// Zeroed bytes on a 64-byte boundary; throws std::bad_alloc.
  virtual void* allocate(int64_t bytes) = 0;
  virtual void release(void* pointer) = 0;
  /// Copies from the host into this memory.
  virtual void write(void* to, const void* from, int64_t bytes) = 0;
  /// Copies from this memory to the host.
  virtual void read(void* to, const void* from, int64_t bytes) = 0;
};

/// From 2 MiB on, transparent huge pages are asked for: large arrays are streamed, and 4 KiB pages would
/// spend the time in the TLB.
Memory& host_memory();

/// Elements from one row of `cols` floats to the next where columns of them are met, too: rows that are a
/// multiple of 1 KiB apart share few sets of a cache, so such get a line more.
inline int64_t spread_stride(int64_t cols) { return cols % 256 == 0 ? cols + 16 : cols; }

/// Owns a zero-initialised array of T on a 64-byte boundary (one cache line, one AVX-512 register).
/// Move-only; views into it stay valid across moves.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size, Memory& memory = host_memory())
      : size_(size), data_(static_cast<T*>(memory.allocate(size * int64_t{sizeof(T)}))), memory_(&memory) {}
  Buffer(Buffer&& other) noexcept
      : size_(std::exchange(other.size_, 0)),
        data_(std::exchange(other.data_, nullptr)),
        memory_(other.memory_) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(size_, other.size_);
    std::swap(data_, other.data_);
    std::swap(memory_, other.memory_);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) memory_->release(data_);
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  int64_t size() const { return size_; }
  std::span<T> span() { return {data_, size_t(size_)}; }
  std::span<const T> span() const { return {data_, size_t(size_)}; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  /// The first rows * cols elements as a matrix.
  Mat<T> mat(int64_t rows, int64_t cols) { return {data_, rows, cols, cols}; }

 private:
  int64_t size_ = 0;
  T* data_ = nullptr;
  Memory* memory_ = nullptr;
};

}  // namespace stamp

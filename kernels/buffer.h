#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <span>
#include <utility>

#include "kernels/views.h"

namespace stamp {

/// Owns a zero-initialised array of T on a 64-byte boundary (one cache line, one AVX-512 register).
/// Arrays of 2 MiB and more ask for transparent huge pages: they are streamed, and 4 KiB pages would spend
/// the time in the TLB. Move-only; views into it stay valid across moves.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size) : size_(size), data_(static_cast<T*>(allocate(size * int64_t{sizeof(T)}))) {}
  Buffer(Buffer&& other) noexcept
      : size_(std::exchange(other.size_, 0)), data_(std::exchange(other.data_, nullptr)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(size_, other.size_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~Buffer() { std::free(data_); }

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
  static void* allocate(int64_t bytes);  // throws std::bad_alloc
  int64_t size_ = 0;
  T* data_ = nullptr;
};

/// Zeroed bytes on a 64-byte boundary, huge pages advised from 2 MiB on; release with std::free.
void* allocate_aligned(int64_t bytes);

template <class T>
void* Buffer<T>::allocate(int64_t bytes) {
  return allocate_aligned(bytes);
}

}  // namespace stamp

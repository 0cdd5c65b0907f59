#pragma once
#include <cstdint>
#include <span>

/// Views: what every operation takes. They never own memory. Shapes are [rows, cols], row-major, and each
/// row begins `stride` elements after the one before.
namespace stamp {

/// Tokens in one page of the KV cache, and in one block of the sequence transform (B of design section 3).
inline constexpr int64_t kBlock = 64;

enum class DType : uint8_t { kF32, kF16, kBF16 };

inline int64_t dtype_size(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }
inline const char* dtype_name(DType dtype) {
  return dtype == DType::kF32 ? "f32" : dtype == DType::kF16 ? "f16" : "bf16";
}

template <class T>
struct Mat {
  T* data = nullptr;
  int64_t rows = 0, cols = 0, stride = 0;

  T* row(int64_t r) const { return data + r * stride; }
  std::span<T> row_span(int64_t r) const { return {row(r), size_t(cols)}; }
  /// Rows [first, first + count).
  Mat slice(int64_t first, int64_t count) const { return {row(first), count, cols, stride}; }
  operator Mat<const T>() const { return {data, rows, cols, stride}; }
};

/// A linear's weight as the file stores it: [rows = out features, cols = in features], no gaps between rows.
struct WeightView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0;
};

/// Consecutive tokens of one sequence inside a batch: rows [row, row + count) of every activation matrix hold
/// the positions [position, position + count). `pages[i]` is the page with the positions [64i, 64i + 64).
struct RowRun {
  int64_t row = 0, count = 0, position = 0;
  std::span<const int32_t> pages;
};

/// One layer's part of a paged f32 KV cache. A page holds kBlock tokens of every KV head:
///   K transposed, [kv_heads, head_dim, kBlock], so that scores of 64 keys are one vector operation per
///   channel; then V, [kv_heads, kBlock, head_dim].
struct KvPages {
  std::span<float* const> pages;  // base of each physical page (all layers)
  int64_t offset = 0;             // of this layer inside a page, in floats
  int64_t kv_heads = 0, head_dim = 0;

  static int64_t layer_floats(int64_t kv_heads, int64_t head_dim) { return 2 * kv_heads * head_dim * kBlock; }
  /// The same pages seen from another layer.
  KvPages layer(int64_t index) const {
    return {pages, index * layer_floats(kv_heads, head_dim), kv_heads, head_dim};
  }
  float* k(int32_t page, int64_t head) const {
    return pages[size_t(page)] + offset + head * head_dim * kBlock;
  }
  float* v(int32_t page, int64_t head) const { return k(page, kv_heads + head); }
};

}  // namespace stamp

#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "kernels/quant_format.h"

/// Views: what every operation takes. They never own memory. Shapes are [rows, cols], row-major, and each
/// row begins `stride` elements after the one before.
namespace stamp {

/// kQ8: signed bytes, one scale a row. kQ4: unsigned nibbles with an integer scale and zero point for each
/// group of input channels, and one scale a row.
enum class DType : uint8_t { kF32, kF16, kBF16, kQ8, kQ4 };

STAMP_INLINE bool is_quantised(DType dtype) { return dtype == DType::kQ8 || dtype == DType::kQ4; }
/// Of the float types.
inline int64_t dtype_size(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }
inline const char* dtype_name(DType dtype) {
  constexpr const char* kNames[] = {"f32", "f16", "bf16", "q8", "q4"};
  return kNames[size_t(dtype)];
}

template <class T>
struct Mat {
  T* data = nullptr;
  int64_t rows = 0, cols = 0, stride = 0;

  STAMP_INLINE T* row(int64_t r) const { return data + r * stride; }
  std::span<T> row_span(int64_t r) const { return {row(r), size_t(cols)}; }
  /// Rows [first, first + count).
  Mat slice(int64_t first, int64_t count) const { return {row(first), count, cols, stride}; }
  STAMP_INLINE operator Mat<const T>() const requires(!std::is_const_v<T>) {
    return {data, rows, cols, stride};
  }
};

/// A linear's weight: [rows = out features, cols = in features]. Float types as the file stores them, without
/// gaps. Quantised types in panels (quant_format.h): weight [n, k] = scale[n] * w, where w is a kQ8 byte, or
/// group_scale * code - zero of a kQ4 nibble, a signed byte, too.
struct WeightView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0;
  // Quantised types alone.
  const float* scale = nullptr;  // [panels, kPanel]
  const int32_t* sum = nullptr;  // [panels, kPanel]: of each row's w, for activations' offsets
  // kQ4 alone.
  int64_t group = 0;  // input channels that share what follows, a divisor or multiple of kColAlign
  const uint8_t* group_scale = nullptr;  // [panels, groups, kPanel]: 1 to kTopGroupScale, 0 of absent rows
  const uint8_t* zero = nullptr;         // [panels, zero_groups / kZeroGroups, kPanel, kZeroGroups]

  STAMP_INLINE int64_t panels() const { return divide_up(rows, kPanel); }
  STAMP_INLINE int64_t padded_cols() const {
    return round_up(cols, dtype == DType::kQ4 && group > kColAlign ? group : kColAlign);
  }
  STAMP_INLINE int64_t groups() const { return dtype == DType::kQ4 ? padded_cols() / group : 0; }
  STAMP_INLINE int64_t zero_groups() const { return round_up(groups(), kZeroGroups); }
  int64_t data_bytes() const {
    return is_quantised(dtype) ? panels() * panel_bytes() : rows * cols * dtype_size(dtype);
  }
  /// Elements of `scale` and of `sum`; of `group_scale`; of `zero`.
  int64_t row_parameters() const { return is_quantised(dtype) ? panels() * kPanel : 0; }
  int64_t group_parameters() const { return panels() * groups() * kPanel; }
  int64_t zero_parameters() const { return panels() * zero_groups() * kPanel; }
  /// Where those of a row's group are.
  STAMP_INLINE int64_t group_scale_at(int64_t row, int64_t g) const {
    return (row / kPanel * groups() + g) * kPanel + row % kPanel;
  }
  STAMP_INLINE int64_t zero_at(int64_t row, int64_t g) const {
    return (row / kPanel * zero_groups() + g / kZeroGroups * kZeroGroups) * kPanel +
           row % kPanel * kZeroGroups + g % kZeroGroups;
  }
  /// Of the data and its parameters.
  int64_t bytes() const {
    return data_bytes() + row_parameters() * 8 + group_parameters() + zero_parameters();
  }
  STAMP_INLINE int64_t panel_bytes() const { return padded_cols() * kPanel / (dtype == DType::kQ4 ? 2 : 1); }
};

/// One of the products of a common input: out = in weight^T + bias.
struct Product {
  Mat<float> out;               // [tokens, n]
  WeightView weight;            // [n, k]
  std::span<const float> bias;  // [n] or empty
};

/// Consecutive tokens of one sequence inside a batch: rows [row, row + count) of every activation matrix hold
/// the positions [position, position + count). `pages[i]` is the page with the positions [64i, 64i + 64).
struct RowRun {
  int64_t row = 0, count = 0, position = 0;
  std::span<const int32_t> pages;
};

/// Rows of a batch that are represented alike: one whole block, transformed, or up to kBlock tokens by
/// themselves.
struct RowTile {
  int64_t row = 0, count = 0;
  bool coded = false;
};

/// Activations as integers: value [r, c] = scale[r] * q[r, c] + offset[r]. Rows of coded tiles are
/// coefficients.
struct QuantMat {
  uint8_t* q = nullptr;                    // [rows, stride], zero from cols on
  int64_t rows = 0, cols = 0, stride = 0;  // stride: a multiple of kQuantAlign
  float* scale = nullptr;                  // [rows]
  float* offset = nullptr;                 // [rows]
  BitPlan plan;
  std::span<const RowTile> tiles;

  static constexpr int64_t kQuantAlign = 128;  // the largest group: padding of any weight fits
};

/// An orthogonal map of channels, y = (mix (x) H) (signs * x): signs flip channels, H / sqrt(block),
/// Sylvester's Hadamard matrix, turns each block of `block` channels, and `mix`, an orthogonal matrix of the
/// number of blocks, turns the blocks into each other. Without `mix` blocks stay apart.
struct RotationView {
  int64_t block = 1;             // a power of two that divides the channels
  std::span<const float> signs;  // [dim] of +-1, or empty
  std::span<const float> mix;    // [dim / block, dim / block] row-major, or empty
};

/// The tiles of a batch: a run's whole aligned blocks but block 0 are coded if `plan` says so; the rest is by
/// tokens, neighbouring rows together, never more than kBlock.
template <class Runs, class Tiles>
void split_tiles(const Runs& runs, const BitPlan& plan, Tiles& tiles) {
  tiles.clear();
  for (const RowRun& run : runs) {
    for (int64_t i = 0; i < run.count;) {
      const int64_t position = run.position + i;
      const bool whole = position % kBlock == 0 && run.count - i >= kBlock;
      if (whole && is_coded_block(position / kBlock) && !plan.is_plain()) {
        tiles.push_back({run.row + i, kBlock, true});
        i += kBlock;
        continue;
      }
      const int64_t count =
          run.count - i < kBlock - position % kBlock ? run.count - i : kBlock - position % kBlock;
      const bool joins = !tiles.empty() && !tiles.back().coded && tiles.back().count + count <= kBlock &&
                         tiles.back().row + tiles.back().count == run.row + i;
      if (joins) tiles.back().count += count;
      else tiles.push_back({run.row + i, count, false});
      i += count;
    }
  }
}

/// How keys and values are kept. `plan` is that of sealed pages; plain 8-bit plans never seal.
struct KvFormat {
  bool coded = false;  // else float32
  BitPlan plan;
  STAMP_INLINE bool seals(int64_t page) const { return coded && !plan.is_plain() && is_coded_block(page); }
};

/// One layer's part of a paged KV cache. A page holds kBlock tokens of every KV head.
/// Float pages: K transposed, [kv_heads, head_dim, kBlock], so that scores of 64 keys are one vector
/// operation per channel; then V, [kv_heads, kBlock, head_dim]. Coded pages: [kv_heads] pairs of KvSide, K
/// and then V. A page is open (8-bit tokens) until its sequence has passed it, then sealed (coefficients
/// under the plan); a page that `KvFormat::seals` denies stays open. In the step that fills a page both forms
/// exist.
struct KvPages {
  std::span<std::byte*const> open,
      sealed;  // base of each physical page (all layers), null where there is none
  int64_t layer_index = 0;
  int64_t kv_heads = 0, head_dim = 0;
  KvFormat format;

  KvSide open_side() const { return {.high_rows = 0, .high_bits = 8, .low_bits = 8, .head_dim = head_dim}; }
  KvSide sealed_side() const {
    return {.high_rows = format.plan.high_rows,
            .high_bits = format.plan.high_bits,
            .low_bits = format.plan.low_bits,
            .head_dim = head_dim};
  }
  int64_t open_layer_bytes() const {
    return kv_heads * 2 * (format.coded ? open_side().bytes() : head_dim * kBlock * int64_t{sizeof(float)});
  }
  int64_t sealed_layer_bytes() const { return kv_heads * 2 * sealed_side().bytes(); }

  /// The same pages seen from another layer.
  KvPages layer(int64_t index) const {
    KvPages other = *this;
    other.layer_index = index;
    return other;
  }
  float* k(int32_t page, int64_t head) const {
    return reinterpret_cast<float*>(open[size_t(page)] + layer_index * open_layer_bytes()) +
           head * head_dim * kBlock;
  }
  float* v(int32_t page, int64_t head) const { return k(page, kv_heads + head); }
  /// Offsets of a head's keys (value 0) or values (1) in an open and in a sealed page.
  int64_t open_offset(int64_t head, int64_t value) const {
    return layer_index * open_layer_bytes() + (head * 2 + value) * open_side().bytes();
  }
  int64_t sealed_offset(int64_t head, int64_t value) const {
    return layer_index * sealed_layer_bytes() + (head * 2 + value) * sealed_side().bytes();
  }
  std::byte* open_part(int32_t page, int64_t head, int64_t value) const {
    return open[size_t(page)] + open_offset(head, value);
  }
  std::byte* sealed_part(int32_t page, int64_t head, int64_t value) const {
    return sealed[size_t(page)] + sealed_offset(head, value);
  }
};

}  // namespace stamp

// Slices of weights: what the shards of a model multiply by.
#include "kernels/pack.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "kernels/error.h"
#include "kernels/ops.h"
#include "tests/kernels/nmse.h"

namespace stamp {
namespace {

struct Format {
  DType dtype;
  int64_t group;
};
constexpr Format kFormats[] = {{DType::kQ8, 0}, {DType::kQ4, 32}, {DType::kQ4, 64}};
struct Slice {
  int64_t first, count;
};
constexpr int64_t kRows = 40, kCols = 200;

/// The part [row, col] of one big weight, its scales 1 if `whole`: then products have no rounding.
PackedWeight part(const Format& format, Slice row, Slice col, bool whole = false) {
  PackedWeight w = make_packed(format.dtype, row.count, col.count, format.group);
  std::vector<int8_t> codes(size_t(col.count));
  std::vector<uint8_t> group_scale(size_t(w.view.groups())), zero(group_scale.size());
  for (int64_t r = row.first; r < row.first + row.count; ++r) {
    for (int64_t c = col.first; c < col.first + col.count; ++c) {
      const int64_t code = (r * 7 + c * 13 + r * c % 11) % 15 + 1;
      codes[size_t(c - col.first)] = int8_t(format.dtype == DType::kQ4 ? code : code * 16 - 127);
    }
    for (size_t g = 0; g < zero.size(); ++g) {
      const int64_t group = col.first / format.group + int64_t(g);
      group_scale[g] = uint8_t((r * 5 + group * 3) % kTopGroupScale + 1);
      zero[g] = uint8_t(kTopZero - (r * 3 + group * 29) % 16);
    }
    pack_row(w, r - row.first, codes, whole ? 1.0f : 0.01f + float(r % 17) * 0.003f, group_scale, zero);
  }
  return w;
}

template <class T>
bool same(const Buffer<T>& a, const Buffer<T>& b) {
  return std::ranges::equal(a.span(), b.span());
}

TEST(SliceWeight, IsTheWeightThatItsPartWouldMake) {
  for (const Format& format : kFormats) {
    const PackedWeight whole = part(format, {0, kRows}, {0, kCols});
    for (const Slice row : {Slice{0, 16}, {16, 24}, {32, 8}, {0, kRows}}) {
      for (const Slice col : {Slice{0, 32}, {32, 128}, {64, 136}, {192, 8}, {0, kCols}}) {
        if (format.group > 0 && (col.first % format.group != 0 ||
                                 (col.count % format.group != 0 && col.first + col.count < kCols)))
          continue;
        const PackedWeight slice = slice_weight(whole.view, row.first, row.count, col.first, col.count);
        const PackedWeight truth = part(format, row, col);
        EXPECT_TRUE(same(slice.data, truth.data) && same(slice.scale, truth.scale) &&
                    same(slice.group_scale, truth.group_scale) && same(slice.zero, truth.zero) &&
                    same(slice.sum, truth.sum))
            << dtype_name(format.dtype) << " " << format.group << ": rows from " << row.first
            << ", columns from " << col.first;
      }
    }
  }
}

TEST(SliceWeight, OfFloatsIsTheirPart) {
  std::vector<float> values(12);
  for (size_t i = 0; i < values.size(); ++i) values[i] = float(i);
  const WeightView whole{.data = values.data(), .dtype = DType::kF32, .rows = 3, .cols = 4};
  const PackedWeight slice = slice_weight(whole, 1, 2, 1, 3);
  const float truth[] = {5, 6, 7, 9, 10, 11};
  EXPECT_EQ(std::memcmp(slice.view.data, truth, sizeof(truth)), 0);
  EXPECT_EQ(slice.view.rows, 2);
  EXPECT_EQ(slice.view.cols, 3);
}

/// Rows of integers in two blocks, the second coded.
struct Integers {
  explicit Integers(Slice col, const BitPlan& plan) : q(kTokens * 256), scale(kTokens), offset(kTokens) {
    for (int64_t r = 0; r < kTokens; ++r) {
      for (int64_t c = 0; c < col.count; ++c) q[r * 256 + c] = uint8_t((r * 3 + (col.first + c) * 5) % 16);
      scale[r] = 1.0f;
      offset[r] = -3.0f;
    }
    view = {.q = q.data(),
            .rows = kTokens,
            .cols = col.count,
            .stride = 256,
            .scale = scale.data(),
            .offset = offset.data(),
            .plan = plan,
            .tiles = kTiles};
  }
  static constexpr int64_t kTokens = 2 * kBlock;
  static constexpr RowTile kTiles[] = {{0, kBlock, false}, {kBlock, kBlock, true}};
  Buffer<uint8_t> q;
  Buffer<float> scale, offset;
  QuantMat view;
};

/// Column-parallel: each shard's channels are bits of the whole. Row-parallel: the shards' products add up to
/// it, exactly where the transform along the sequence has no rounding.
TEST(SliceWeight, ProductsOfSlicesMakeTheWholeProduct) {
  const auto ops = make_ops("scalar", 1);
  constexpr int64_t kTokens = Integers::kTokens;
  for (const BitPlan plan : {BitPlan{.transform = SeqTransform::kIdentity, .high_rows = 2, .low_bits = 4},
                             BitPlan{.transform = SeqTransform::kHaar, .high_rows = 2, .low_bits = 4}}) {
    const bool exact = plan.transform == SeqTransform::kIdentity;
    for (const Format& format : kFormats) {
      const PackedWeight weight = part(format, {0, kRows}, {0, kCols}, true);
      const Integers in({0, kCols}, plan);
      Buffer<float> whole(kTokens * kRows), sum(kTokens * kRows);
      ops->linear(whole.mat(kTokens, kRows), in.view, weight.view, {});
      for (const Slice rows : {Slice{0, 16}, {16, 24}}) {
        const PackedWeight slice = slice_weight(weight.view, rows.first, rows.count, 0, kCols);
        Buffer<float> out(kTokens * rows.count);
        ops->linear(out.mat(kTokens, rows.count), in.view, slice.view, {});
        for (int64_t r = 0; r < kTokens; ++r)
          for (int64_t n = 0; n < rows.count; ++n)
            ASSERT_EQ(out[r * rows.count + n], whole[r * kRows + rows.first + n]);
      }
      for (const Slice cols : {Slice{0, 64}, {64, 64}, {128, 72}}) {
        const PackedWeight slice = slice_weight(weight.view, 0, kRows, cols.first, cols.count);
        const Integers own(cols, plan);
        Buffer<float> out(kTokens * kRows);
        ops->linear(out.mat(kTokens, kRows), own.view, slice.view, {});
        for (int64_t i = 0; i < sum.size(); ++i) sum[i] += out[i];
      }
      EXPECT_LE(nmse(sum.span(), whole.span()), exact ? 0.0 : 1e-12) << dtype_name(format.dtype);
    }
  }
}

TEST(PackedWeight, RefusesMoreChannelsThanSumsHold) {
  EXPECT_NO_THROW(make_packed(DType::kQ4, 16, kMaxQuantisedCols, 64));
  EXPECT_THROW(make_packed(DType::kQ4, 16, kMaxQuantisedCols + 1, 64), InputError);
}

}  // namespace
}  // namespace stamp

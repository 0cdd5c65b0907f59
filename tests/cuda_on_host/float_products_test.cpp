// Float products on the executor's cuBLASLt and, as part of cuda_device_tests, on the library itself: near
// FP32 whatever the weight's type, and the same bits of a row among any number of rows.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "kernels/half.h"
#include "kernels/ops.h"
#include "tests/kernels/nmse.h"
#include "tests/kernels/random_weight.h"

namespace stamp {
namespace {

const bool on_device = std::string_view(STAMP_CUDA_OPS) == "cuda";

/// Terms have 22 bits, and FP32 sums of k products round k times, by up to 2^-24. A tensor core, which adds 8
/// or more products at a time, cuts off instead: 2^-23 of each product, which is chance, and of the sum so
/// far, always towards zero.
double bound(int64_t k) {
  if (!on_device) return 0x1p-44 + double(k) * 0x1p-48;
  const double cut_off = double(k) / 8 * 0x1p-24;
  return 0x1p-44 + double(k) * 0x1p-46 + cut_off * cut_off;
}

Buffer<float> random_floats(int64_t n, uint32_t seed, float scale = 1.0f) {
  std::mt19937 rng(seed);
  Buffer<float> x(n);
  for (float& value : x.span()) value = float(int32_t(rng())) * 0x1p-31f * scale;
  return x;
}

/// Values (cut off where they are BF16) in the host's memory and in the operations'.
class Weight {
 public:
  Weight(Memory& memory, DType type, int64_t n, int64_t k)
      : Weight(memory, type, n, k, random_floats(n * k, uint32_t(n + k))) {}
  Weight(Memory& memory, DType type, int64_t n, int64_t k, const Buffer<float>& values)
      : host_(n * k * dtype_size(type)), device_(host_.size(), memory) {
    for (int64_t i = 0; i < values.size(); ++i) {
      const uint32_t bits = std::bit_cast<uint32_t>(values[i]);
      const uint16_t half = type == DType::kF16 ? f32_to_f16(values[i]) : uint16_t(bits >> 16);
      if (type == DType::kF32) std::memcpy(host_.data() + i * 4, &bits, 4);
      else std::memcpy(host_.data() + i * 2, &half, 2);
    }
    memory.write(device_.data(), host_.data(), host_.size());
    host = {.data = host_.data(), .dtype = type, .rows = n, .cols = k};
    device = {.data = device_.data(), .dtype = type, .rows = n, .cols = k};
  }
  WeightView host, device;

 private:
  Buffer<std::byte> host_, device_;
};

/// Rows [first, first + rows) of x [?, k] times the weight.
Buffer<float> product(Ops& ops, const Buffer<float>& x, int64_t first, int64_t rows, const WeightView& weight,
                      std::span<const float> bias = {}) {
  const int64_t k = weight.cols;
  Buffer<float> out(rows * weight.rows);
  ops.linear(out.mat(rows, weight.rows), {x.data() + first * k, rows, k, k}, weight, bias);
  return out;
}

/// Row by row: one may be larger than all others.
void expect_near(const Buffer<float>& out, const Buffer<float>& truth, const WeightView& weight) {
  const int64_t n = weight.rows;
  for (int64_t r = 0; r < truth.size() / n; ++r)
    EXPECT_LE(nmse({out.data() + r * n, size_t(n)}, {truth.data() + r * n, size_t(n)}), bound(weight.cols))
        << "row " << r;
}

class FloatProducts : public testing::TestWithParam<DType> {
 protected:
  std::unique_ptr<Ops> ops_ = make_ops(STAMP_CUDA_OPS);
  std::unique_ptr<Ops> reference_ = make_ops("reference");
};

TEST_P(FloatProducts, RaggedShapesAreNearTheReference) {
  for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{{5, 17}, {64, 64}, {131, 577}}) {
    const Weight weight(ops_->memory(), GetParam(), n, k);
    const Buffer<float> bias = random_floats(n, 2);
    for (const int64_t rows : {1, 2, 65, 130}) {
      SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(n) + " x " + std::to_string(k));
      const Buffer<float> x = random_floats(rows * k, 1);
      expect_near(product(*ops_, x, 0, rows, weight.device), product(*reference_, x, 0, rows, weight.host),
                  weight.host);
      expect_near(product(*ops_, x, 0, rows, weight.device, bias.span()),
                  product(*reference_, x, 0, rows, weight.host, bias.span()), weight.host);
    }
  }
}

/// Of 1100 rows not all are multiplied at a time.
TEST_P(FloatProducts, ARowsBitsDoNotDependOnTheNumberOfRows) {
  struct Case {
    int64_t n, k;
    std::vector<int64_t> rows;
  };
  std::vector<Case> cases{{5, 17, {1, 2, 63, 64, 65, 130, 1100}}, {130, 192, {1, 3, 64, 65, 200}}};
  if (on_device)
    for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{
             {4096, 4096}, {2048, 5632}, {49152, 576}, {576, 1536}, {192, 576}, {1536, 576}})
      cases.push_back({n, k, {1, 2, 7, 64, 65, 200}});
  for (const auto& [n, k, counts] : cases) {
    const Weight weight(ops_->memory(), GetParam(), n, k);
    const int64_t most = counts.back(), compared = 3;
    const Buffer<float> x = random_floats(most * k, 1);
    const Buffer<float> all = product(*ops_, x, 0, most, weight.device);
    for (const int64_t rows : counts) {
      for (const int64_t first : {int64_t{0}, most - rows}) {
        const Buffer<float> some = product(*ops_, x, first, rows, weight.device);
        EXPECT_EQ(0, std::memcmp(some.data(), all.data() + first * n, size_t(rows * n) * sizeof(float)))
            << rows << " rows from " << first << ", " << n << " x " << k;
      }
    }
    Buffer<float> first(compared * n);
    std::copy_n(all.data(), first.size(), first.data());
    expect_near(first, product(*reference_, x, 0, compared, weight.host), weight.host);
  }
}

TEST_P(FloatProducts, HugeTinyAndZeroRowsAreAsPreciseAsOthers) {
  constexpr int64_t kOut = 40, kCols = 100;
  // The least row consists of subnormal numbers, whose products with these weights are not.
  const Weight weight(ops_->memory(), GetParam(), kOut, kCols, random_floats(kOut * kCols, 3, 0x1p12f));
  const std::vector<int> exponents{100, 0, -100, -135};
  const auto rows = int64_t(exponents.size()) + 1;
  Buffer<float> x = random_floats(rows * kCols, 1);
  for (int64_t r = 0; r < rows; ++r)
    for (float& value : x.mat(rows, kCols).row_span(r))
      value = r < rows - 1 ? std::ldexp(value, exponents[size_t(r)]) : 0.0f;
  const Buffer<float> out = product(*ops_, x, 0, rows, weight.device);
  expect_near(out, product(*reference_, x, 0, rows, weight.host), weight.host);
  for (int64_t c = 0; c < kOut; ++c) EXPECT_EQ(out[(rows - 1) * kOut + c], 0.0f);
}

/// Halves have steps of 2^-24, and the largest of a row is scaled to 2^14 or more.
TEST_P(FloatProducts, ElementsAreKeptToSmallPartsOfTheLargestOfTheirRow) {
  constexpr int64_t kOut = 16, kCols = 32, kLarge = 3, kSmall = 7;
  Buffer<float> values = random_floats(kOut * kCols, 3), x(kCols);
  for (int64_t n = 0; n < kOut; ++n) values[n * kCols + kLarge] = 0.0f;
  const Weight weight(ops_->memory(), GetParam(), kOut, kCols, values);
  x[kLarge] = 0x1p20f;
  x[kSmall] = 1.0f / 3;
  const Buffer<float> out = product(*ops_, x, 0, 1, weight.device),
                      truth = product(*reference_, x, 0, 1, weight.host);
  for (int64_t n = 0; n < kOut; ++n) EXPECT_NEAR(out[n], truth[n], 0x1p20f * 0x1p-39f) << n;
}

TEST_P(FloatProducts, WhatIsNotFiniteStaysSoAndInItsRow) {
  constexpr int64_t kOut = 40, kCols = 100, kRows = 5;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const Weight weight(ops_->memory(), GetParam(), kOut, kCols);
  Buffer<float> x = random_floats(kRows * kCols, 1);
  const Buffer<float> finite = product(*ops_, x, 0, kRows, weight.device);
  x[0 * kCols + 7] = kInfinity;
  x[2 * kCols + 99] = std::bit_cast<float>(0x7f800001u);  // NaN, but for its last bit infinity
  x[3 * kCols + 50] = -kInfinity;
  const Buffer<float> out = product(*ops_, x, 0, kRows, weight.device);
  for (const int64_t r : {0, 2, 3})
    for (int64_t c = 0; c < kOut; ++c) EXPECT_FALSE(std::isfinite(out[r * kOut + c])) << r << " " << c;
  for (const int64_t r : {1, 4})
    EXPECT_EQ(0, std::memcmp(out.data() + r * kOut, finite.data() + r * kOut, kOut * sizeof(float))) << r;
}

TEST_P(FloatProducts, ProductsOfOneInputHaveTheBitsOfEach) {
  constexpr int64_t kCols = 72, kRows = 70;
  const Weight first(ops_->memory(), GetParam(), 24, kCols), second(ops_->memory(), GetParam(), 50, kCols);
  const Buffer<float> x = random_floats(kRows * kCols, 1), bias = random_floats(50, 2);
  Buffer<float> a(kRows * 24), b(kRows * 50);
  const Product products[] = {{a.mat(kRows, 24), first.device, {}},
                              {b.mat(kRows, 50), second.device, bias.span()}};
  ops_->linear(products, {x.data(), kRows, kCols, kCols});
  const Buffer<float> a_alone = product(*ops_, x, 0, kRows, first.device),
                      b_alone = product(*ops_, x, 0, kRows, second.device, bias.span());
  EXPECT_EQ(0, std::memcmp(a.data(), a_alone.data(), size_t(a.size()) * sizeof(float)));
  EXPECT_EQ(0, std::memcmp(b.data(), b_alone.data(), size_t(b.size()) * sizeof(float)));
}

INSTANTIATE_TEST_SUITE_P(Types, FloatProducts, testing::Values(DType::kF32, DType::kF16, DType::kBF16),
                         [](const auto& info) { return dtype_name(info.param); });

/// Not all of its rows are floats at a time.
TEST(QuantisedWeights, AreUsedAtTheirFloatValuesInFloatProducts) {
  constexpr int64_t kOut = 2100, kCols = 32, kRows = 3;
  const auto ops = make_ops(STAMP_CUDA_OPS), reference = make_ops("reference");
  const Buffer<float> x = random_floats(kRows * kCols, 1), bias = random_floats(kOut, 2);
  for (const DType type : {DType::kQ8, DType::kQ4}) {
    const PackedWeight weight = random_weight(type, kOut, kCols, 32, 7);
    expect_near(product(*ops, x, 0, kRows, weight.view, bias.span()),
                product(*reference, x, 0, kRows, weight.view, bias.span()), weight.view);
  }
}

}  // namespace
}  // namespace stamp

// Quantised operations: the transforms, rows as integers, integer products, the coefficient cache.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "kernels/buffer.h"
#include "kernels/half.h"
#include "kernels/ops.h"
#include "kernels/pack.h"
#include "kernels/reference/seq_matrix.h"
#include "tests/kernels/coded_cache.h"
#include "tests/kernels/nmse.h"
#include "tests/kernels/quantised.h"
#include "tests/kernels/random_weight.h"

namespace stamp {
namespace {

constexpr double kFloatBound = 1e-11;  // NMSE of float arithmetic against double

class QuantTest : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Ops> ops_ = make_ops(GetParam(), 2);
  std::unique_ptr<Ops> reference_ = make_ops("reference");
};

TEST(SeqMatrix, IsOrthonormalAndOrderedFromCoarseToFine) {
  for (const auto& [name, plan] : kPlans) {
    const SeqMatrix m(plan.transform, plan.levels);
    for (int64_t a = 0; a < kBlock; ++a) {
      for (int64_t b = 0; b < kBlock; ++b) {
        double dot = 0;
        for (int64_t t = 0; t < kBlock; ++t) dot += m.at(a, t) * m.at(b, t);
        ASSERT_NEAR(dot, a == b ? 1 : 0, 1e-12) << name << " " << a << " " << b;
      }
    }
    if (plan.transform == SeqTransform::kIdentity) continue;
    // A slow signal's energy falls from the first half of the rows to the second.
    double first = 0, second = 0;
    for (int64_t k = 0; k < kBlock; ++k) {
      double x = 0;
      for (int64_t t = 0; t < kBlock; ++t) x += m.at(k, t) * (1 + 0.02 * double(t));
      (k < kBlock / 2 ? first : second) += x * x;
    }
    EXPECT_GT(first, 100 * second) << name;
  }
}

TEST_P(QuantTest, TransformedCoefficientsEqualTheDenseMatrix) {
  // Through a product with the identity: L^-1 L x with 8 bits everywhere is x up to the quantisation, and the
  // integers themselves equal the reference's.
  const int64_t rows = 192, cols = 100;
  const auto x = smooth_floats(rows, cols, 1);
  const RowRun run{.row = 0, .count = rows, .position = 0, .pages = {}};
  for (const auto& [name, plan] : kPlans) {
    Quantised fast(rows, cols, plan, {&run, 1}), truth(rows, cols, plan, {&run, 1});
    ops_->quantize(fast.view, {x.data(), rows, cols, cols});
    reference_->quantize(truth.view, {x.data(), rows, cols, cols});
    EXPECT_LE(nmse(fast.scale.span(), truth.scale.span()), 1e-11) << name;
    int64_t different = 0;
    for (int64_t i = 0; i < fast.q.size(); ++i) {
      const int difference = std::abs(int(fast.q[i]) - int(truth.q[i]));
      ASSERT_LE(difference, 1) << name << " " << i;
      different += difference;
    }
    EXPECT_LE(different, fast.q.size() / 2000) << name;  // ties that rounding in float decides
  }
}

TEST(QuantEquality, EveryInstructionSetGivesTheSameIntegers) {
  const int64_t rows = 150, cols = 77;
  const auto x = smooth_floats(rows, cols, 2);
  const RowRun run{.row = 0, .count = rows, .position = 0, .pages = {}};
  for (const auto& [name, plan] : kPlans) {
    Quantised first(rows, cols, plan, {&run, 1});
    make_ops("scalar", 1)->quantize(first.view, {x.data(), rows, cols, cols});
    for (const std::string& isa : available_ops()) {
      if (isa == "reference") continue;
      Quantised other(rows, cols, plan, {&run, 1});
      make_ops(isa, 2)->quantize(other.view, {x.data(), rows, cols, cols});
      EXPECT_EQ(0, std::memcmp(first.q.data(), other.q.data(), size_t(first.q.size()))) << name << " " << isa;
      EXPECT_EQ(0, std::memcmp(first.scale.data(), other.scale.data(), size_t(rows) * 4))
          << name << " " << isa;
      EXPECT_EQ(0, std::memcmp(first.offset.data(), other.offset.data(), size_t(rows) * 4))
          << name << " " << isa;
    }
  }
}

TEST(CodeRange, LeavesNormalRowsLessErrorThanTheirWholeRange) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const int64_t channels : {256, 576, 4096}) {
    std::vector<float> row(static_cast<size_t>(channels));
    for (int bits = 2; bits <= 5; ++bits) {
      const double steps = std::exp2(bits) - 1;
      double cut = 0, whole = 0;
      for (int i = 0; i < 50; ++i) {
        for (float& x : row) x = normal(random);
        const auto [least, most] = std::minmax_element(row.begin(), row.end());
        const auto error = [&](const CodeRange& r) {
          double sum = 0;
          for (float x : row) {
            const double code = std::nearbyint(std::clamp((x - r.low) / double(r.width) * steps, 0.0, steps));
            sum += std::pow(x - (r.low + code * r.width / steps), 2);
          }
          return sum;
        };
        cut += error(code_range(*least, *most, bits, channels));
        whole += error({*least, *most - *least});
      }
      EXPECT_LE(cut, whole) << channels << " channels, " << bits << " bits";
      if (bits <= 4 && channels >= 576) {
        EXPECT_LE(cut, 0.9 * whole) << channels << " channels, " << bits << " bits";
      }
    }
  }
}

TEST(CodeRange, IsTheWholeRangeOfManyBitsAndOfFewChannels) {
  for (const auto& [bits, channels] : std::vector<std::pair<int, int64_t>>{{6, 4096}, {8, 16384}, {4, 64}}) {
    const auto [low, width] = code_range(-1.5f, 2.0f, bits, channels);
    EXPECT_EQ(low, -1.5f);
    EXPECT_EQ(width, 3.5f);
  }
}

TEST(SplitTiles, CodesWholeAlignedBlocksButTheFirst) {
  const BitPlan haar{.transform = SeqTransform::kHaar, .high_rows = 2, .low_bits = 4};
  const auto tiles_of = [&](std::vector<RowRun> runs, const BitPlan& plan) {
    std::vector<RowTile> tiles;
    split_tiles(runs, plan, tiles);
    std::vector<std::array<int64_t, 3>> out;
    for (const RowTile& t : tiles) out.push_back({t.row, t.count, t.coded});
    return out;
  };
  using Tiles = std::vector<std::array<int64_t, 3>>;
  EXPECT_EQ(tiles_of({{.row = 0, .count = 200, .position = 0, .pages = {}}}, haar),
            (Tiles{{0, 64, 0}, {64, 64, 1}, {128, 64, 1}, {192, 8, 0}}));
  EXPECT_EQ(tiles_of({{.row = 0, .count = 1, .position = 100, .pages = {}}}, haar), (Tiles{{0, 1, 0}}));
  EXPECT_EQ(tiles_of({{.row = 0, .count = 70, .position = 122, .pages = {}}}, haar),
            (Tiles{{0, 6, 0}, {6, 64, 1}}));
  // Decoded tokens of several sequences are one tile.
  EXPECT_EQ(tiles_of({{.row = 0, .count = 1, .position = 5, .pages = {}},
                      {.row = 1, .count = 1, .position = 640, .pages = {}},
                      {.row = 2, .count = 63, .position = 64, .pages = {}}},
                     haar),
            (Tiles{{0, 2, 0}, {2, 63, 0}}));
  EXPECT_EQ(tiles_of({{.row = 0, .count = 128, .position = 64, .pages = {}}}, BitPlan{}),
            (Tiles{{0, 64, 0}, {64, 64, 0}}));
}

TEST_P(QuantTest, IntegerProductsEqualReference) {
  for (const auto& [rows, k, n] : std::vector<std::array<int64_t, 3>>{
           {1, 576, 64}, {3, 65, 33}, {7, 320, 40}, {130, 192, 50}, {201, 96, 17}}) {
    const auto x = smooth_floats(rows, k, 3), bias = smooth_floats(1, n, 4);
    const RowRun run{.row = 0, .count = rows, .position = 0, .pages = {}};
    for (const auto& [name, plan] : kPlans) {
      Quantised in(rows, k, plan, {&run, 1});
      ops_->quantize(in.view, {x.data(), rows, k, k});
      for (const auto& [dtype, group] : std::vector<std::pair<DType, int64_t>>{
               {DType::kQ8, 0}, {DType::kQ4, 32}, {DType::kQ4, 64}, {DType::kQ4, 128}}) {
        const PackedWeight w = random_weight(dtype, n, k, group, 5);
        Buffer<float> out(rows * n), truth(rows * n);
        ops_->linear(out.mat(rows, n), in.view, w.view, bias.span());
        reference_->linear(truth.mat(rows, n), in.view, w.view, bias.span());
        EXPECT_LE(nmse(out.span(), truth.span()), kFloatBound)
            << name << " " << rows << "x" << k << "x" << n << " g" << group;
      }
    }
  }
}

TEST_P(QuantTest, ProductsOfOneInputHaveTheBitsOfEachWithWeightsOfAnyBits) {
  const int64_t k = 192;
  const PackedWeight weights[] = {random_weight(DType::kQ8, 20, k, 0, 5),
                                  random_weight(DType::kQ4, 50, k, 64, 6),
                                  random_weight(DType::kQ8, 33, k, 0, 7)};
  for (const int64_t rows : {1, 6, 150}) {
    const auto x = smooth_floats(rows, k, 3);
    const RowRun run{.row = 0, .count = rows, .position = 0, .pages = {}};
    Quantised in(rows, k, kPlans[2].plan, {&run, 1});
    ops_->quantize(in.view, {x.data(), rows, k, k});
    std::vector<Buffer<float>> out;
    std::vector<Product> products;
    for (const PackedWeight& w : weights) {
      out.emplace_back(rows * w.view.rows);
      products.push_back({out.back().mat(rows, w.view.rows), w.view, {}});
    }
    ops_->linear(products, in.view);
    for (const Product& product : products) {
      Buffer<float> alone(rows * product.weight.rows);
      ops_->linear(alone.mat(rows, product.weight.rows), in.view, product.weight, {});
      EXPECT_EQ(0, std::memcmp(alone.data(), product.out.data, size_t(alone.size()) * 4)) << rows;
    }
  }
}

TEST_P(QuantTest, IntegerProductsOfTheExtremesAreExact) {
  // All activations, codes, integer scales and zeros at an end of their range: the largest sums there are.
  const int64_t rows = 9, k = 128, n = 32;
  const RowRun run{.row = 0, .count = rows, .position = 0, .pages = {}};
  Quantised in(rows, k, BitPlan{}, {&run, 1});
  Buffer<float> out(rows * n);
  for (const auto& [dtype, group] : std::vector<std::pair<DType, int64_t>>{
           {DType::kQ8, 0}, {DType::kQ4, 32}, {DType::kQ4, 64}, {DType::kQ4, 128}}) {
    for (const int code : dtype == DType::kQ4 ? std::array{0, 15} : std::array{-127, 127}) {
      PackedWeight w = make_packed(dtype, n, k, group);
      const auto groups = size_t(w.view.groups());
      const std::vector<int8_t> codes(k, int8_t(code));
      // Rows with the greatest and the least integer scale, and for the latter either zero.
      std::vector<int> integers(n);
      for (int64_t r = 0; r < n; ++r) {
        const int group_scale = r % 3 == 0 ? kTopGroupScale : 1, zero = r % 3 == 1 ? 0
                                                                        : r % 3 == 2 || code == 0
                                                                            ? kTopZero
                                                                            : least_zero(group_scale);
        integers[size_t(r)] = dtype == DType::kQ8 ? code : group_scale * code - zero;
        pack_row(w, r, codes, 1.0f, std::vector(groups, uint8_t(group_scale)),
                 std::vector(groups, uint8_t(zero)));
      }
      for (const int q : {0, 1, 128, 255}) {
        for (int64_t r = 0; r < rows; ++r) {
          std::fill_n(in.view.q + r * in.view.stride, k, uint8_t(q));
          in.scale[r] = 1.0f, in.offset[r] = 0.0f;
        }
        ops_->linear(out.mat(rows, n), in.view, w.view, {});
        for (int64_t i = 0; i < rows * n; ++i)
          ASSERT_EQ(out[i], float(k * q * integers[size_t(i % n)]))
              << dtype_name(dtype) << group << " " << q << " " << code;
      }
    }
  }
}

TEST_P(QuantTest, FloatSidesOfAProductAreUsedAtTheirValues) {
  const int64_t rows = 130, k = 72, n = 40;
  const auto x = smooth_floats(rows, k, 6), dense = smooth_floats(n, k, 7);
  const RowRun run{.row = 0, .count = rows, .position = 0, .pages = {}};
  Quantised in(rows, k, kPlans[2].plan, {&run, 1});
  ops_->quantize(in.view, {x.data(), rows, k, k});
  Buffer<float> out(rows * n), truth(rows * n);
  ops_->linear(out.mat(rows, n), in.view, {dense.data(), DType::kF32, n, k}, {});
  reference_->linear(truth.mat(rows, n), in.view, {dense.data(), DType::kF32, n, k}, {});
  EXPECT_LE(nmse(out.span(), truth.span()), kFloatBound);
  for (DType dtype : {DType::kQ8, DType::kQ4}) {
    const PackedWeight w = random_weight(dtype, n, k, 32, 8);
    for (int64_t count : {int64_t{1}, rows}) {
      ops_->linear(out.mat(count, n), {x.data(), count, k, k}, w.view, {});
      reference_->linear(truth.mat(count, n), {x.data(), count, k, k}, w.view, {});
      EXPECT_LE(nmse({out.data(), size_t(count * n)}, {truth.data(), size_t(count * n)}), kFloatBound)
          << dtype_name(dtype);
    }
    Buffer<float> row(k), table(3 * k);
    const std::vector<int32_t> ids{0, 17, 39};
    ops_->embed(table.mat(3, k), ids, w.view);
    for (size_t i = 0; i < ids.size(); ++i) {
      unpack_row(w.view, ids[i], row.span());
      EXPECT_LE(nmse({table.data() + int64_t(i) * k, size_t(k)}, row.span()), 1e-13);
    }
  }
}

TEST_P(QuantTest, IntegerProductRowsDoNotDependOnTheBatchOrTheThreads) {
  const int64_t rows = 100, k = 130, n = 70;
  const auto x = smooth_floats(rows, k, 9);
  for (const auto& [dtype, group] :
       std::vector<std::pair<DType, int64_t>>{{DType::kQ8, 0}, {DType::kQ4, 64}}) {
    const PackedWeight w = random_weight(dtype, n, k, group, 10);
    const auto run_of = [&](int64_t first, int64_t count, int threads) {
      const RowRun run{.row = 0, .count = count, .position = 0, .pages = {}};
      Quantised in(count, k, BitPlan{}, {&run, 1});
      Buffer<float> out(count * n);
      const auto ops = make_ops(GetParam(), threads);
      ops->quantize(in.view, {x.data() + first * k, count, k, k});
      ops->linear(out.mat(count, n), in.view, w.view, {});
      return out;
    };
    const auto whole = run_of(0, rows, 2);
    for (int64_t count : {1, 2, 3, 5, 7, 8, 13, 64})
      for (int threads : {1, 3}) {
        const auto part = run_of(rows - count, count, threads);
        EXPECT_EQ(0, std::memcmp(part.data(), whole.data() + (rows - count) * n, size_t(count * n) * 4))
            << count;
      }
  }
}

TEST_P(QuantTest, RotationsEqualTheirDenseMatrixAndUndoThemselves) {
  std::mt19937 rng(11);
  for (const auto& [dim, block] : std::vector<std::array<int64_t, 2>>{
           {64, 64}, {576, 64}, {1536, 512}, {40, 8}, {12, 4}, {6, 2}, {5, 1}}) {
    const int64_t blocks = dim / block, rows = 5;
    std::vector<float> signs(static_cast<size_t>(dim)), mix(size_t(blocks * blocks), 0.0f);
    for (float& s : signs) s = rng() % 2 != 0 ? 1.0f : -1.0f;
    for (int64_t i = 0; i < blocks; ++i)  // a reflection: orthogonal and not symmetric in its use of rows
      for (int64_t j = 0; j < blocks; ++j)
        mix[size_t(i * blocks + (j + 1) % blocks)] = float((i == j) - 2.0 / double(blocks));
    const auto x = smooth_floats(rows, dim, 12);
    for (const RotationView& r : {RotationView{.block = block, .signs = {}, .mix = {}},
                                  RotationView{.block = block, .signs = signs, .mix = mix}}) {
      Buffer<float> out(rows * dim), truth(rows * dim);
      std::memcpy(out.data(), x.data(), size_t(rows * dim) * 4);
      std::memcpy(truth.data(), x.data(), size_t(rows * dim) * 4);
      ops_->rotate(out.mat(rows, dim), r, false);
      reference_->rotate(truth.mat(rows, dim), r, false);
      EXPECT_LE(nmse(out.span(), truth.span()), 1e-12) << dim;
      ops_->rotate(out.mat(rows, dim), r, true);
      EXPECT_LE(nmse(out.span(), x.span()), 1e-12) << dim;
    }
  }
}

TEST_P(QuantTest, CoefficientAttentionEqualsReference) {
  for (const auto& [heads, kv_heads, d, tokens] : std::vector<std::array<int64_t, 4>>{
           {1, 1, 8, 1}, {9, 3, 64, 150}, {4, 4, 40, 130}, {8, 2, 128, 65}, {2, 1, 12, 200}}) {
    const Sequence sequence(tokens, heads, kv_heads, d);
    for (const auto& [name, plan] : kPlans) {
      Cache fast(*ops_, kv_heads, d, plan, {2, 0, 3, 1}), truth(*reference_, kv_heads, d, plan, {2, 0, 3, 1});
      const auto out = sequence.run(*ops_, fast, {tokens}),
                 expected = sequence.run(*reference_, truth, {tokens});
      // A tie that float rounding decides otherwise moves one code by one step.
      EXPECT_LE(nmse(out.span(), expected.span()), 1e-6) << name << " " << heads << " " << d << " " << tokens;
    }
  }
}

TEST_P(QuantTest, CoefficientAttentionIsCloseToFloatAttention) {
  const Sequence s(200, 3, 1, 64);
  const BitPlan& haar = kPlans[2].plan;
  Cache coded(*ops_, 1, 64, haar, {0, 1, 2, 3}), plain(*ops_, 1, 64, BitPlan{}, {0, 1, 2, 3}),
      identity(*ops_, 1, 64, kPlans[0].plan, {0, 1, 2, 3});
  const auto exact = s.run(*ops_, plain, {200});
  const double haar_error = nmse(s.run(*ops_, coded, {200}).span(), exact.span());
  const double identity_error = nmse(s.run(*ops_, identity, {200}).span(), exact.span());
  EXPECT_LE(haar_error, 0.01);
  EXPECT_LE(haar_error, 0.7 * identity_error);  // what the transform is for
}

TEST_P(QuantTest, CoefficientAttentionDoesNotDependOnChunksPagesOrThreads) {
  const Sequence s(300, 6, 2, 24);
  for (const auto& [name, plan] : kPlans) {
    const auto run = [&](std::vector<int32_t> order, const std::vector<int64_t>& chunks, int threads) {
      const auto ops = make_ops(GetParam(), threads);
      Cache cache(*ops, 2, 24, plan, std::move(order));
      return s.run(*ops, cache, chunks);
    };
    const auto whole = run({0, 1, 2, 3, 4}, {300}, 1);
    for (const auto& chunks :
         std::vector<std::vector<int64_t>>{{64, 64, 64, 64, 44}, {128, 172}, {256, 1, 43}}) {
      const auto other = run({4, 2, 0, 1, 3}, chunks, 3);
      // Whether a tail is decoded or prefilled does not matter, whole blocks are whole blocks.
      EXPECT_EQ(0, std::memcmp(other.data(), whole.data(), size_t(whole.size()) * 4))
          << name << " " << chunks.size();
    }
  }
}

TEST_P(QuantTest, ManyPagesAreSplitBetweenThreadsWithoutChangingABit) {
  const int64_t tokens = 600;
  const Sequence s(tokens, 2, 1, 8);
  const BitPlan& haar = kPlans[2].plan;
  std::vector<int32_t> order(10);
  std::iota(order.begin(), order.end(), 0);
  const auto run = [&](const std::vector<int64_t>& chunks, int threads) {
    const auto ops = make_ops(GetParam(), threads);
    Cache cache(*ops, 1, 8, haar, order);
    return s.run(*ops, cache, chunks);
  };
  const auto whole = run({tokens}, 1), pieces = run({576, 22, 1, 1}, 3);
  EXPECT_EQ(0, std::memcmp(pieces.data(), whole.data(), size_t(whole.size()) * 4));
  Cache truth(*reference_, 1, 8, haar, order);
  EXPECT_LE(nmse(whole.span(), s.run(*reference_, truth, {tokens}).span()), 1e-6);
}

TEST_P(QuantTest, FewQueriesGetTheBitsOfMany) {
  // Tokens by themselves meet sealed pages in runs; whole chunks, page by page with their neighbours.
  const int64_t tokens = 648, prefilled = 640;
  std::vector<int32_t> order(11);
  std::iota(order.begin(), order.end(), 0);
  for (const auto& [group, d, plan] : std::vector<std::array<int64_t, 3>>{{3, 64, 2},
                                                                          {1, 128, 5},
                                                                          {2, 160, 3},
                                                                          {2, 96, 2},
                                                                          {4, 48, 4},
                                                                          {4, 40, 4},
                                                                          {8, 32, 1},
                                                                          {8, 16, 1}}) {
    const Sequence s(tokens, group, 1, d);
    const auto run = [&](const std::vector<int64_t>& chunks, int threads) {
      const auto ops = make_ops(GetParam(), threads);
      Cache cache(*ops, 1, d, kPlans[plan].plan, order);
      return s.run(*ops, cache, chunks);
    };
    const auto whole = run({tokens}, 1);
    for (const auto& other : {run({prefilled, 1, 1, 1, 1, 4}, 1), run({prefilled, 2, 1, 2, 3}, 2)})
      EXPECT_EQ(0, std::memcmp(other.data(), whole.data(), size_t(whole.size()) * 4))
          << kPlans[plan].name << " " << group << " " << d;
  }
}

TEST_P(QuantTest, DecodingIntoAPageSealsItWhenItIsFull) {
  const Sequence s(140, 2, 1, 16);
  std::vector<int64_t> singles(140, 1);
  for (const auto& [name, plan] : kPlans) {
    Cache fast(*ops_, 1, 16, plan, {0, 1, 2}), truth(*reference_, 1, 16, plan, {0, 1, 2}),
        prefilled(*ops_, 1, 16, plan, {0, 1, 2});
    const auto out = s.run(*ops_, fast, singles);
    EXPECT_LE(nmse(out.span(), s.run(*reference_, truth, singles).span()), 1e-6) << name;
    // The page was sealed from 8-bit tokens instead of floats: close, not equal.
    const auto whole = s.run(*ops_, prefilled, {140});
    const auto tail = [](const Buffer<float>& b) { return b.span().subspan(128 * 32); };
    EXPECT_LE(nmse(tail(out), tail(whole)), 0.01) << name;
  }
}

TEST(KvSide, BytesAreThePlansBitsAndCompactParameters) {
  const KvSide haar{.high_rows = 2, .high_bits = 8, .low_bits = 4, .head_dim = 64};
  EXPECT_EQ(haar.bytes(), 64 * 3 + 2 * 64 + 62 * 32);
  const KvSide open{.high_rows = 0, .high_bits = 8, .low_bits = 8, .head_dim = 64};
  EXPECT_EQ(open.bytes(), 64 * 3 + 64 * 64);
  for (int64_t r = 1; r < kBlock; ++r)
    for (const KvSide& side : {haar, open})
      EXPECT_EQ(side.row_offset(r), side.row_offset(r - 1) + side.row_bytes(r - 1)) << r;
}

TEST(Half, RoundsToTheNearestAndBack) {
  for (uint32_t h = 0; h < 0x7c00; ++h) ASSERT_EQ(f32_to_f16(f16_to_f32(uint16_t(h))), h);
  EXPECT_EQ(f32_to_f16(1.0f + 0x1p-11f), 0x3c00);  // a tie goes to even
  EXPECT_EQ(f32_to_f16(1.0f + 3 * 0x1p-11f), 0x3c02);
  EXPECT_EQ(f32_to_f16(-2.0f), 0xc000);
  EXPECT_EQ(f32_to_f16(1e9f), 0x7c00);
  EXPECT_EQ(f32_to_f16(0x1.8p-25f), 0x0001);
}

INSTANTIATE_TEST_SUITE_P(All, QuantTest, testing::ValuesIn(available_ops()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace stamp

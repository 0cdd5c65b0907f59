// Integer products by wgmma on either executor.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "kernels/cuda/tile_plan.h"
#include "kernels/ops.h"
#include "tests/cuda_on_host/executor.h"
#include "tests/kernels/quantised.h"
#include "tests/kernels/random_weight.h"

namespace stamp {
namespace {

using cuda_on_host::kArchitectures;
using cuda_on_host::settings;

class Wgmma : public testing::Test {
 protected:
  void TearDown() override { settings() = {}; }
};

constexpr BitPlan kPlan{.transform = SeqTransform::kHaar, .levels = 5, .high_rows = 2, .low_bits = 4};
constexpr int64_t kTiles = 9;

/// quantize() and linear() of rows of two sequences, on `multiprocessors` of an architecture.
Buffer<float> product_on(cuda_on_host::Architecture architecture, int multiprocessors,
                         const WeightView& weight) {
  constexpr int64_t kRows = 530;
  architecture.multiprocessors = multiprocessors;
  settings().architecture = architecture;
  const auto ops = make_ops("cuda_host");
  const int64_t k = weight.cols;
  std::mt19937 rng(1);
  std::normal_distribution<float> normal;
  Buffer<float> x(kRows * k), out(kRows * weight.rows);
  for (float& value : x.span()) value = normal(rng);
  // Tiles of 64, 61 and, coded, of 64 rows, that end in the midst of a block.
  const RowRun runs[] = {{.row = 0, .count = 125, .position = 0, .pages = {}},
                         {.row = 125, .count = kRows - 125, .position = 64, .pages = {}}};
  Quantised in(kRows, k, kPlan, runs);
  EXPECT_EQ(in.tiles.size(), size_t(kTiles));
  ops->quantize(in.view, x.mat(kRows, k));
  ops->linear(out.mat(kRows, weight.rows), in.view, weight, {});
  return out;
}

/// Several blocks in both directions; the depth ends in the midst of a stage, and comes round the stages.
TEST_F(Wgmma, ProductsOfManyBlocksHaveTheBitsOfMmaSync) {
  for (const auto& [dtype, group] :
       std::vector<std::pair<DType, int64_t>>{{DType::kQ8, 0}, {DType::kQ4, 64}}) {
    const PackedWeight weight = random_weight(dtype, 300, 832, group, 7);
    const Buffer<float> truth = product_on(kArchitectures[0], 1, weight.view);
    for (const auto& [multiprocessors, row_tiles] : {std::pair{9, 4}, std::pair{16, 2}}) {
      const cuda::LinearProducts products{.one = {{.out = {}, .weight = weight.view}}, .count = 1};
      const cuda::Device device{.compute_capability = 90, .multiprocessors = multiprocessors, .wgmma = true};
      EXPECT_EQ(plan_linear(kTiles, products, device, true, kPlan).row_tiles, row_tiles);
      const Buffer<float> out = product_on(kArchitectures[3], multiprocessors, weight.view);
      EXPECT_EQ(0, std::memcmp(out.data(), truth.data(), size_t(out.size()) * 4))
          << dtype_name(dtype) << " " << multiprocessors;
    }
  }
}

}  // namespace
}  // namespace stamp

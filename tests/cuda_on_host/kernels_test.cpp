// What the kernels do beyond their results: the same bits on every path and in every schedule, and how they
// use memory and tensor cores, as the executor counts it.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "kernels/cuda/tile_plan.h"
#include "kernels/ops.h"
#include "tests/cuda_on_host/executor.h"
#include "tests/kernels/random_weight.h"

namespace stamp {
namespace {

using cuda_on_host::kArchitectures;
using cuda_on_host::Profile;
using cuda_on_host::settings;

constexpr BitPlan kHaar{.transform = SeqTransform::kHaar, .levels = 5, .high_rows = 2, .low_bits = 4};

Buffer<float> random_floats(int64_t n, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  Buffer<float> x(n);
  for (float& value : x.span()) value = normal(rng);
  return x;
}

/// quantize() and linear() of one batch that begins a sequence: block 0, coded blocks, a rest.
Buffer<float> product(Ops& ops, int64_t rows, const WeightView& weight) {
  const int64_t k = weight.cols, n = weight.rows, stride = round_up(k, QuantMat::kQuantAlign);
  const auto x = random_floats(rows * k, 1), bias = random_floats(n, 2);
  Buffer<uint8_t> q(rows * stride);
  Buffer<float> scale(rows), offset(rows), out(rows * n);
  const RowRun run{.row = 0, .count = rows, .position = 0, .pages = {}};
  std::vector<RowTile> tiles;
  split_tiles(std::span(&run, 1), kHaar, tiles);
  QuantMat in{.q = q.data(),
              .rows = rows,
              .cols = k,
              .stride = stride,
              .scale = scale.data(),
              .offset = offset.data(),
              .plan = kHaar,
              .tiles = tiles};
  ops.quantize(in, {x.data(), rows, k, k});
  ops.linear(out.mat(rows, n), in, weight, bias.span());
  return out;
}

/// append_kv() and attention() of a sequence in one pass: page 0, a sealed page, an open one.
Buffer<float> attended(Ops& ops, int64_t tokens, int64_t heads, int64_t kv_heads, int64_t d) {
  const auto q = random_floats(tokens * heads * d, 3), k = random_floats(tokens * kv_heads * d, 4),
             v = random_floats(tokens * kv_heads * d, 5);
  const std::vector<int32_t> table{2, 0, 1};
  KvPages kv{.open = {},
             .sealed = {},
             .layer_index = 0,
             .kv_heads = kv_heads,
             .head_dim = d,
             .format = {.coded = true, .plan = kHaar}};
  Buffer<std::byte> open_pages(3 * kv.open_layer_bytes(), ops.memory()),
      sealed_pages(3 * kv.sealed_layer_bytes(), ops.memory());
  std::vector<std::byte*> open, sealed;
  for (int64_t i = 0; i < 3; ++i) {
    open.push_back(open_pages.data() + i * kv.open_layer_bytes());
    sealed.push_back(sealed_pages.data() + i * kv.sealed_layer_bytes());
  }
  kv.open = open;
  kv.sealed = sealed;
  const RowRun run{.row = 0, .count = tokens, .position = 0, .pages = table};
  Buffer<float> out(tokens * heads * d);
  ops.append_kv(kv, {k.data(), tokens, kv_heads * d, kv_heads * d},
                {v.data(), tokens, kv_heads * d, kv_heads * d}, {&run, 1});
  ops.attention(out.mat(tokens, heads * d), {q.data(), tokens, heads * d, heads * d}, kv, {&run, 1}, 0.2f);
  return out;
}

class KernelsOnHost : public testing::Test {
 protected:
  void TearDown() override {
    settings() = {};
    Profile::instance().enable(false);
    Profile::instance().reset();
  }
};

TEST_F(KernelsOnHost, IntegerProductsHaveTheSameBitsOnBothTensorCorePaths) {
  for (const auto& [dtype, group] : std::vector<std::pair<DType, int64_t>>{
           {DType::kQ8, 0}, {DType::kQ4, 32}, {DType::kQ4, 64}, {DType::kQ4, 128}}) {
    const PackedWeight weight = random_weight(dtype, 70, 200, group, 7);
    settings().architecture = kArchitectures[0];
    const Buffer<float> truth = product(*make_ops("cuda_host"), 200, weight.view);
    settings().architecture = kArchitectures[3];
    const Buffer<float> out = product(*make_ops("cuda_host"), 200, weight.view);
    EXPECT_EQ(0, std::memcmp(out.data(), truth.data(), size_t(out.size()) * 4)) << group;
  }
}

TEST_F(KernelsOnHost, NoReportAndTheSameBitsInTwentySchedules) {
  const auto ops = make_ops("cuda_host");
  const PackedWeight weight = random_weight(DType::kQ4, 40, 128, 64, 7);
  const Buffer<float> first = product(*ops, 150, weight.view), first_attended = attended(*ops, 140, 2, 1, 16);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    settings().seed = seed;
    const Buffer<float> out = product(*ops, 150, weight.view), out_attended = attended(*ops, 140, 2, 1, 16);
    EXPECT_EQ(0, std::memcmp(out.data(), first.data(), size_t(out.size()) * 4)) << seed;
    EXPECT_EQ(0, std::memcmp(out_attended.data(), first_attended.data(), size_t(out_attended.size()) * 4))
        << seed;
  }
}

TEST_F(KernelsOnHost, MainLoopsHaveNoBankConflictsAndReadWholeSectors) {
  const auto ops = make_ops("cuda_host");
  Profile::instance().enable(true);
  for (const auto& [dtype, group] :
       std::vector<std::pair<DType, int64_t>>{{DType::kQ8, 0}, {DType::kQ4, 64}}) {
    const PackedWeight weight = random_weight(dtype, 64, 512, group, 7);
    for (const auto& architecture : {kArchitectures[0], kArchitectures[3]}) {
      settings().architecture = architecture;
      Profile::instance().reset();
      product(*ops, 192, weight.view);
      for (const auto& [kernel, counters] : Profile::instance().all()) {
        EXPECT_EQ(counters.bank_conflicts(), 0u) << kernel;
        // The sums of a group are one word each, of rows far apart.
        EXPECT_GE(counters.coalescing(), kernel == "group_sums" ? 0.7 : 0.95) << kernel;
      }
    }
  }
}

TEST_F(KernelsOnHost, AttentionHasHardlyABankConflictAndReadsWholeSectors) {
  const auto ops = make_ops("cuda_host");
  Profile::instance().enable(true);
  attended(*ops, 140, 3, 1, 64);
  for (const char* kernel : {"append_coded", "attention"}) {
    const auto& counters = Profile::instance().of(kernel);
    EXPECT_GT(counters.shared_requests, 0u);
    // In a sealed page the few 8-bit rows are read beside 4-bit ones.
    EXPECT_LE(counters.bank_conflicts(), counters.shared_wavefronts / 1000) << kernel;
    // Scales and zero points of a row are written by one lane.
    EXPECT_GE(counters.coalescing(), std::string_view(kernel) == "attention" ? 0.95 : 0.8) << kernel;
  }
}

TEST_F(KernelsOnHost, TensorCoreOperationsAreThoseOfTheShape) {
  const auto ops = make_ops("cuda_host");
  Profile::instance().enable(true);
  const int64_t n = 64, k = 512, rows = 192;  // block 0 at 8 bits, two coded blocks
  const PackedWeight weight = random_weight(DType::kQ4, n, k, 64, 7);
  settings().architecture = kArchitectures[0];
  product(*ops, rows, weight.view);
  auto& four = Profile::instance().of("linear_int").instructions;
  // Per 16 rows, 8 columns and 64 input channels one of low nibbles; of high ones where rows are wide: all of
  // block 0, the first 16 of a coded block.
  const uint64_t per_row_tile = uint64_t(n / 8 * k / 64);
  EXPECT_EQ(four["mma.m16n8k64.u4.u4"], per_row_tile * (4 * 2 + 2 * (4 + 1)));
  EXPECT_EQ(four.count("mma.m16n8k32.u8.u8"), 0u);
  Profile::instance().reset();
  settings().architecture = kArchitectures[3];
  product(*make_ops("cuda_host"), rows, weight.view);
  auto& eight = Profile::instance().of("linear_int").instructions;
  EXPECT_EQ(eight["mma.m16n8k32.u8.u8"], 2 * per_row_tile * 12);
  EXPECT_EQ(eight.count("mma.m16n8k64.u4.u4"), 0u);
}

TEST(TilePlan, FollowsTheHardwareTheGroupAndTheShape) {
  using cuda::MmaPath;
  using cuda::plan_linear;
  const WeightView q4{.dtype = DType::kQ4, .rows = 4096, .cols = 4096, .group = 64};
  WeightView narrow = q4, q8 = q4;
  narrow.group = 32;
  q8.dtype = DType::kQ8;
  EXPECT_EQ(plan_linear(32, q4, 80), (cuda::TilePlan{MmaPath::kFour, 4}));
  EXPECT_EQ(plan_linear(32, q4, 89), (cuda::TilePlan{MmaPath::kFour, 4}));
  EXPECT_EQ(plan_linear(32, q4, 90),
            (cuda::TilePlan{MmaPath::kEight, 4}));  // no 4-bit products from there on
  EXPECT_EQ(plan_linear(32, narrow, 80), (cuda::TilePlan{MmaPath::kEight, 4}));  // a group is half of their k
  EXPECT_EQ(plan_linear(32, q8, 80), (cuda::TilePlan{MmaPath::kEight, 4}));
  EXPECT_EQ(plan_linear(1, q4, 80),
            (cuda::TilePlan{MmaPath::kFour, 1}));  // decode: 64 blocks would be too few
}

}  // namespace
}  // namespace stamp

// The counts that predictions are made of are those of the kernels as the executor runs them.
#include "kernels/kernel_cost.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "kernels/ops.h"
#include "tests/cuda_on_host/executor.h"
#include "tests/kernels/quantised.h"
#include "tests/kernels/random_weight.h"

namespace stamp {
namespace {

using cuda_on_host::Architecture;
using cuda_on_host::Counters;
using cuda_on_host::kArchitectures;
using cuda_on_host::Profile;
using cuda_on_host::settings;

constexpr BitPlan kHaar{.transform = SeqTransform::kHaar, .levels = 5, .high_rows = 2, .low_bits = 4};

Buffer<float> floats(int64_t n) {
  Buffer<float> x(n);
  for (int64_t i = 0; i < n; ++i) x[i] = float(i * 37 % 101) * 0.01f - 0.5f;
  return x;
}

class KernelCostTest : public testing::Test {
 protected:
  void SetUp() override { Profile::instance().enable(true); }
  void TearDown() override {
    settings() = {};
    Profile::instance().enable(false);
    Profile::instance().reset();
  }

  /// Tensor-core and other PTX operations and bytes to the last one; but `again` bytes may be read once more.
  static void expect_counts(const KernelCost& cost, double again = 0) {
    SCOPED_TRACE(std::string(cost.kernel));
    const auto& all = Profile::instance().all();
    const auto found = all.find(std::string(cost.kernel));
    ASSERT_NE(found, all.end());
    const Counters& counted = found->second;
    const auto instructions = [&](const char* name) {
      const auto at = counted.instructions.find(name);
      return at == counted.instructions.end() ? 0.0 : double(at->second);
    };
    EXPECT_EQ(cost.mma_u8, instructions("mma.m16n8k32.s8.u8") + instructions("mma.m16n8k32.u8.s8") +
                               instructions("mma.m16n8k32.u8.u8"));
    EXPECT_EQ(cost.mma_u4, instructions("mma.m16n8k64.u4.u4"));
    EXPECT_EQ(cost.wgmma, instructions("wgmma.m64n128k32.s8.u8"));
    EXPECT_EQ(cost.copies, instructions("cp.async.16"));
    EXPECT_EQ(cost.dp4a, instructions("dp4a"));
    EXPECT_GE(double(counted.global_bytes), cost.requested);
    EXPECT_LE(double(counted.global_bytes), cost.requested + again);
    EXPECT_LE(cost.bytes, cost.requested);
  }

  const std::unique_ptr<Ops> ops_ = make_ops("cuda_host");
};

TEST_F(KernelCostTest, IntegerProductsAndTheirInputs) {
  constexpr int64_t kCols = 320, kOut = 220, kOther = 112;
  std::set<double> blocks;
  for (const int64_t rows : {1, 3, 8, 150}) {
    for (const auto& [dtype, group] : std::vector<std::pair<DType, int64_t>>{
             {DType::kQ8, 0}, {DType::kQ4, 32}, {DType::kQ4, 64}, {DType::kQ4, 128}}) {
      for (const Architecture& architecture : {kArchitectures[0], kArchitectures[3]}) {
        for (const int64_t multiprocessors : {1, 9, 1000}) {  // wide blocks to narrow ones
          if (rows <= few_rows() && (multiprocessors > 1 || architecture.compute_capability != 80)) continue;
          if (group != 64 && architecture.compute_capability != 80) continue;
          SCOPED_TRACE(std::to_string(rows) + " rows, " + dtype_name(dtype) + " " + std::to_string(group) +
                       " on " + std::string(architecture.name));
          settings().architecture = architecture;
          settings().architecture.multiprocessors = int(multiprocessors);
          const auto ops = make_ops("cuda_host");  // plans follow the device it finds
          Profile::instance().reset();
          const PackedWeight weight = random_weight(dtype, kOut, kCols, group, 7),
                             other = random_weight(dtype, kOther, kCols, group, 8);
          const WeightView weights[] = {weight.view, other.view};
          const RowRun run{.row = 0, .count = rows, .position = 0, .pages = {}};
          Buffer<float> x = floats(rows * kCols), bias = floats(kOut), out(rows * kOut),
                        out_of_other(rows * kOther);
          Quantised in(rows, kCols, kHaar, {&run, 1});
          const std::vector<RowTile>& tiles = in.tiles;
          ops->quantize(in.view, x.mat(rows, kCols));
          const std::span<const float> shift = bias.span();
          const Product products[] = {{out.mat(rows, kOut), weight.view, shift},
                                      {out_of_other.mat(rows, kOther), other.view, shift.first(kOther)}};
          ops->linear(products, in.view);
          const bool coded = std::ranges::any_of(tiles, &RowTile::coded);
          if (rows <= few_rows()) {
            expect_counts(linear_few_cost(rows, weights, true));
            expect_counts(row_chain_cost(rows, kCols, {.integers = true, .floats = false}));
            continue;
          }
          const PlannedDevice device{architecture.compute_capability, multiprocessors,
                                     int64_t(architecture.shared_per_block)};
          const KernelCost cost = linear_int_cost(tiles, kHaar, weights, true, device);
          blocks.insert(cost.blocks);
          // The compiler may have a warp read its tile wherever the source names it: for the sources of rows,
          // after the loop.
          expect_counts(cost, cost.blocks * cost.warps * 3 * sizeof(RowTile));
          const bool split = Profile::instance().all().contains("split_rows");
          EXPECT_EQ(wants_split_rows(tiles, kHaar, weight.view, device), split);
          if (split) expect_counts(split_rows_cost(tiles, kHaar, weight.view));
          if (coded) {
            expect_counts(row_extremes_cost(tiles, kHaar, kCols));
            expect_counts(quantize_cost(tiles, kHaar, kCols));
          } else {
            expect_counts(row_chain_cost(rows, kCols, {.integers = true, .floats = false}));
          }
        }
      }
    }
  }
  EXPECT_EQ(blocks.size(), 5u);  // every width of a block, on either path
}

/// On the device's own memory, where what follows joins products: for every width of a block, on both paths.
TEST_F(KernelCostTest, ProductsAndWhatBecomesOfThem) {
  constexpr int64_t kRows = 150, kCols = 256, kOut = 212;
  for (const Architecture& architecture : {kArchitectures[0], kArchitectures[3]}) {
    for (const int64_t multiprocessors : {1, 9, 1000}) {
      for (const DType dtype : {DType::kQ4, DType::kQ8}) {
        settings().architecture = architecture;
        settings().architecture.multiprocessors = int(multiprocessors);
        const auto ops = make_ops("cuda_host");
        Memory& memory = ops->memory();
        const PackedWeight weight = random_weight(dtype, kOut, kCols, 64, 7),
                           other = random_weight(dtype, kOut, kCols, 64, 8);
        const WeightView weights[] = {weight.view, other.view};
        const RowRun run{.row = 0, .count = kRows, .position = 0, .pages = {}};
        Quantised in(kRows, kCols, kHaar, {&run, 1}, memory);
        Buffer<float> x(kRows * kCols, memory), gate(kRows * kOut, memory), up(kRows * kOut, memory),
            bias = floats(kOut);
        memory.write(x.data(), floats(kRows * kCols).data(), kRows * kCols * int64_t{sizeof(float)});
        const PlannedDevice device{architecture.compute_capability, multiprocessors,
                                   int64_t(architecture.shared_per_block)};
        const Mat<float> g = gate.mat(kRows, kOut), u = up.mat(kRows, kOut);
        for (const After after : {After::kAdd, After::kSiluMul}) {
          Profile::instance().reset();
          ops->quantize(in.view, x.mat(kRows, kCols));
          const Product products[] = {{g, weight.view, bias.span()}, {u, other.view, bias.span()}};
          const size_t count = after == After::kSiluMul ? 2 : 1;
          ops->linear(std::span(products).first(count), in.view);
          if (after == After::kSiluMul) ops->silu_mul(g, u);
          else ops->add(u, g);
          float first = 0;
          memory.read(&first, gate.data(), sizeof(first));  // starts what is held back
          EXPECT_FALSE(Profile::instance().all().contains("row_chain"));
          EXPECT_FALSE(Profile::instance().all().contains("split_rows"));
          expect_counts(row_extremes_cost(in.tiles, kHaar, kCols));
          expect_counts(wants_split_rows(in.tiles, kHaar, weight.view, device)
                            ? quantize_split_cost(in.tiles, kHaar, weight.view)
                            : quantize_cost(in.tiles, kHaar, kCols));
          const KernelCost cost =
              linear_int_cost(in.tiles, kHaar, std::span(weights).first(count), true, device, after);
          expect_counts(cost, cost.blocks * cost.warps * 3 * sizeof(RowTile));
        }
      }
    }
  }
}

/// A norm before coded tiles is left to the quantising where its rows are split; where other products want
/// the bytes, they are written, too.
TEST_F(KernelCostTest, NormsOfCodedTiles) {
  constexpr int64_t kRows = 150, kCols = 192, kOut = 32;
  Memory& memory = ops_->memory();
  const PackedWeight weight = random_weight(DType::kQ4, kOut, kCols, 64, 7),
                     wide = random_weight(DType::kQ8, kOut, kCols, 0, 8);
  const RowRun run{.row = 0, .count = kRows, .position = 0, .pages = {}};
  Quantised in(kRows, kCols, kHaar, {&run, 1}, memory);
  Buffer<float> x(kRows * kCols, memory), normed(kRows * kCols, memory), out(kRows * kOut, memory),
      others(kRows * kOut, memory), gain = floats(kCols);
  const Product products[] = {{out.mat(kRows, kOut), weight.view, {}},
                              {others.mat(kRows, kOut), wide.view, {}}};
  for (const size_t count : {1, 2}) {
    Profile::instance().reset();
    ops_->rms_norm(normed.mat(kRows, kCols), x.mat(kRows, kCols), gain.span(), 1e-5f);
    ops_->quantize(in.view, normed.mat(kRows, kCols));
    ops_->linear(std::span(products).first(count), in.view);
    float first = 0;
    memory.read(&first, out.data(), sizeof(first));  // starts what is held back
    expect_counts(row_chain_cost(kRows, kCols, {.norms = true, .factors = true}));
    expect_counts(row_extremes_cost(in.tiles, kHaar, kCols, true));
    expect_counts(quantize_split_cost(in.tiles, kHaar, weight.view, true, count == 2));
  }
}

/// On the device's own memory, where operations join.
TEST_F(KernelCostTest, OperationsOnRows) {
  constexpr int64_t kRows = 3, kCols = 512, kKeys = 256, kHeadDim = 64;
  const auto make = [&](int64_t n) { return Buffer<float>(n, ops_->memory()); };
  Buffer<float> x = make(kRows * kCols), y = make(kRows * kCols), gain = make(kCols), k = make(kRows * kKeys),
                angles = make(kRows * kHeadDim / 2), scale = make(kRows), offset = make(kRows);
  Buffer<uint8_t> q(kRows * kCols, ops_->memory());
  const auto mat = [&](Buffer<float>& b) { return b.mat(kRows, kCols); };
  const std::span<const float> gains(gain.data(), size_t(kCols));
  const RowTile tile{.row = 0, .count = kRows, .coded = false};
  QuantMat integers{.q = q.data(),
                    .rows = kRows,
                    .cols = kCols,
                    .stride = kCols,
                    .scale = scale.data(),
                    .offset = offset.data(),
                    .plan = {},
                    .tiles = {&tile, 1}};
  const auto expect_launch = [&](const auto& operations, const KernelCost& cost) {
    Profile::instance().reset();
    operations();
    float first = 0;
    ops_->memory().read(&first, x.data(), sizeof(first));  // starts what is held back
    expect_counts(cost);
    EXPECT_EQ(Profile::instance().of(std::string(cost.kernel)).launches, 1u);
  };
  expect_launch([&] { ops_->add(mat(x), mat(y)); }, row_chain_cost(kRows, kCols, {.adds = true}));
  expect_launch(
      [&] {
        ops_->add(mat(x), mat(y));
        ops_->rms_norm(mat(y), mat(x), gains, 1e-5f);
        ops_->quantize(integers, mat(y));
      },
      row_chain_cost(kRows, kCols, {.adds = true, .norms = true, .integers = true}));
  expect_launch(
      [&] {
        ops_->silu_mul(mat(x), mat(y));
        ops_->rotate(mat(x), {.block = 256, .signs = {}, .mix = {}}, false);
      },
      row_chain_cost(kRows, kCols, {.gates = true, .rotation_block = 256}));
  expect_launch(
      [&] {
        const Mat<const float> table = angles.mat(kRows, kHeadDim / 2);
        for (const Mat<float> heads : {mat(x), k.mat(kRows, kKeys)}) ops_->rope(heads, table, table);
        for (const Mat<float> heads : {mat(x), k.mat(kRows, kKeys)})
          ops_->rotate(heads, {.block = kHeadDim, .signs = {}, .mix = {}}, false);
      },
      heads_cost(kRows, kCols + kKeys, kHeadDim, true));
}

class AttentionCostTest : public KernelCostTest, public testing::WithParamInterface<int> {};

/// One multiprocessor gets tiles of many warps and no splits, many get the opposite.
TEST_P(AttentionCostTest, OfRunsAfterOthers) {
  settings().architecture.multiprocessors = GetParam();
  const auto ops = make_ops("cuda_host");  // plans follow the device it finds
  const PlannedDevice device{80, GetParam(), int64_t(settings().architecture.shared_per_block)};
  constexpr int64_t kHeads = 4, kPages = 6;
  KvPages kv{
      .open = {}, .sealed = {}, .kv_heads = 2, .head_dim = 64, .format = {.coded = true, .plan = kHaar}};
  const int64_t width = kHeads * kv.head_dim, kv_width = kv.kv_heads * kv.head_dim;
  Buffer<std::byte> open_pages(kPages * kv.open_layer_bytes(), ops->memory()),
      sealed_pages(kPages * kv.sealed_layer_bytes(), ops->memory());
  std::vector<std::byte*> open, sealed;
  std::vector<int32_t> table;
  for (int64_t i = 0; i < kPages; ++i) {
    open.push_back(open_pages.data() + i * kv.open_layer_bytes());
    sealed.push_back(sealed_pages.data() + i * kv.sealed_layer_bytes());
    table.push_back(int32_t(i));
  }
  kv.open = open;
  kv.sealed = sealed;
  int64_t position = 0;
  for (const int64_t rows : {140, 1, 115, 1, 90, 1}) {
    SCOPED_TRACE(std::to_string(rows) + " rows after " + std::to_string(position));
    Profile::instance().reset();
    Buffer<float> q = floats(rows * width), k = floats(rows * kv_width), v = floats(rows * kv_width),
                  out(rows * width);
    const RowRun run{.row = 0, .count = rows, .position = position, .pages = table};
    ops->append_kv(kv, k.mat(rows, kv_width), v.mat(rows, kv_width), {&run, 1});
    ops->attention(out.mat(rows, width), q.mat(rows, width), kv, {&run, 1}, 0.125f);
    for (const KernelCost& cost : attention_costs(rows, position, kHeads, kv, device)) {
      expect_counts(cost);
      if (cost.kernel == "attention") {
        EXPECT_EQ(cost.warps > 2, GetParam() == 1);
      }
    }
    expect_counts(append_kv_cost(rows, position, kv));
    position += rows;
  }
}
INSTANTIATE_TEST_SUITE_P(Multiprocessors, AttentionCostTest, testing::Values(1, 108));

}  // namespace
}  // namespace stamp

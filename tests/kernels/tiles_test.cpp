// Products on tiles: everywhere those of the scalar bodies with tiles in plain loops, and AMX's where there
// is one. Either has the bits of the same bodies without tiles.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>

#include "kernels/buffer.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/ops_cpu.h"
#include "kernels/ops.h"
#include "tests/kernels/coded_cache.h"
#include "tests/kernels/quantised.h"
#include "tests/kernels/random_weight.h"

namespace stamp {
namespace isa_tile_loops {
namespace isa = isa_tile_loops;
constexpr const char* kName = "tile_loops";
constexpr bool kOnTiles = true;
#include "kernels/cpu/tile_loops.h"
#include "kernels/cpu/vec_scalar.h"

#include "kernels/cpu/kernels.inl"
}  // namespace isa_tile_loops

namespace {

Buffer<float> product(Ops& ops, const QuantMat& in, int64_t rows, const PackedWeight& weight) {
  Buffer<float> out(rows * weight.view.rows);
  ops.linear(out.mat(rows, weight.view.rows), in, weight.view, {});
  return out;
}

/// For rows that fill tiles and that do not, whole blocks of every plan, an odd number of panels, groups of
/// less and more than a tile.
void expect_same_products(Ops& ops, Ops& truth) {
  std::mt19937 random(1);
  for (const auto& [k, n] : std::vector<std::array<int64_t, 2>>{{64, 96}, {200, 50}, {576, 144}}) {
    for (const auto& [dtype, group] : std::vector<std::pair<DType, int64_t>>{
             {DType::kQ8, 0}, {DType::kQ4, 32}, {DType::kQ4, 64}, {DType::kQ4, 128}}) {
      const PackedWeight weight = random_weight(dtype, n, k, group, 2);
      const auto expect_same = [&](int64_t rows, const BitPlan& plan, const std::string& name) {
        const RowRun run{.row = 0, .count = rows, .position = 0, .pages = {}};
        Quantised in(rows, k, plan, {&run, 1});
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = 0; c < k; ++c) in.view.q[r * in.view.stride + c] = uint8_t(random());
          in.scale[r] = float(random() % 1000) / 1000, in.offset[r] = float(random() % 1000) / 10 - 50;
        }
        const Buffer<float> out = product(ops, in.view, rows, weight),
                            expected = product(truth, in.view, rows, weight);
        ASSERT_EQ(0, std::memcmp(out.data(), expected.data(), size_t(out.size()) * 4))
            << rows << "x" << k << "x" << n << " " << dtype_name(dtype) << " g" << group << " " << name;
      };
      for (const int64_t rows : {1, 4, 5, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 70, 300})
        expect_same(rows, BitPlan{}, "by tokens");
      for (const auto& [name, plan] : kPlans) expect_same(300, plan, name);
    }
  }
}

/// Attention of two Ops over the same tokens, prefilled in two chunks and decoded, with every plan.
void expect_same_attention(Ops& one, Ops& other) {
  for (const auto& [heads, kv_heads, d] :
       std::vector<std::array<int64_t, 3>>{{9, 3, 64}, {2, 1, 64}, {5, 1, 128}, {1, 1, 256}, {4, 2, 96}}) {
    const int64_t tokens = 295;
    const Sequence s(tokens, heads, kv_heads, d);
    for (const auto& [name, plan] : kPlans) {
      const std::vector<int64_t> chunks{192, 100, 1, 1, 1};
      Cache a(one, kv_heads, d, plan, {3, 0, 4, 1, 2}), b(other, kv_heads, d, plan, {3, 0, 4, 1, 2});
      const auto left = s.run(one, a, chunks), right = s.run(other, b, chunks);
      EXPECT_EQ(0, std::memcmp(left.data(), right.data(), size_t(left.size()) * 4))
          << name << " " << heads << " " << d;
    }
  }
}

TEST(Tiles, InLoopsGiveTheScalarBits) {
  const auto loops = make_cpu_ops(isa_tile_loops::kKernels, 2), scalar = make_ops("scalar", 1);
  expect_same_products(*loops, *scalar);
  expect_same_attention(*loops, *scalar);
}

TEST(Tiles, OfAmxGiveTheBitsOfVnni) {
  if (available_ops().front() != "amx")
    GTEST_SKIP() << "no AMX here: tiles in plain loops were executed alone";
  const auto amx = make_ops("amx", 2), vnni = make_ops("avx512vnni", 1);
  expect_same_products(*amx, *vnni);
  expect_same_attention(*amx, *vnni);
}

}  // namespace
}  // namespace stamp

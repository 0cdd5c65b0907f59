// Products on tiles: everywhere those of the scalar bodies with tiles in plain loops, and AMX's where there
// is one. Either has the bits of the same bodies without tiles.
#include <gtest/gtest.h>

#include <array>
#include <cstring>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/ops_cpu.h"
#include "kernels/ops.h"
#include "tests/kernels/coded_cache.h"

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
  expect_same_attention(*make_cpu_ops(isa_tile_loops::kKernels, 2), *make_ops("scalar", 1));
}

TEST(Tiles, OfAmxGiveTheBitsOfVnni) {
  if (available_ops().front() != "amx")
    GTEST_SKIP() << "no AMX here: tiles in plain loops were executed alone";
  expect_same_attention(*make_ops("amx", 2), *make_ops("avx512vnni", 1));
}

}  // namespace
}  // namespace stamp

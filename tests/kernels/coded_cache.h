#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/ops.h"

namespace stamp {

/// Rows that resemble their neighbours, as activations do: a level for each channel and a random walk along
/// the tokens.
inline Buffer<float> smooth_floats(int64_t rows, int64_t cols, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  Buffer<float> x(rows * cols);
  for (int64_t c = 0; c < cols; ++c) {
    const float level = 3 * normal(rng);
    float walk = 0;
    for (int64_t r = 0; r < rows; ++r) x[r * cols + c] = level + (walk = 0.95f * walk + 0.2f * normal(rng));
  }
  return x;
}

struct Plan {
  const char* name;
  BitPlan plan;
};
inline const Plan kPlans[] = {
    {"identity", {.transform = SeqTransform::kIdentity, .high_rows = 2, .low_bits = 4}},
    {"haar1", {.transform = SeqTransform::kHaar, .levels = 1, .high_rows = 32, .low_bits = 4}},
    {"haar5", {.transform = SeqTransform::kHaar, .levels = 5, .high_rows = 2, .low_bits = 4}},
    {"haar6", {.transform = SeqTransform::kHaar, .levels = 6, .high_rows = 1, .low_bits = 3}},
    {"dct", {.transform = SeqTransform::kDct, .high_rows = 2, .low_bits = 4}},
    {"walsh", {.transform = SeqTransform::kWalshHadamard, .high_rows = 2, .low_bits = 4}},
    {"eight", {}},
};

/// A coded cache, pages in the order given.
struct Cache {
  Cache(Ops& ops, int64_t kv_heads, int64_t head_dim, const BitPlan& plan, std::vector<int32_t> order)
      : table(std::move(order)) {
    view = {.open = {},
            .sealed = {},
            .layer_index = 0,
            .kv_heads = kv_heads,
            .head_dim = head_dim,
            .format = {.coded = true, .plan = plan}};
    open_storage = Buffer<std::byte>(int64_t(table.size()) * view.open_layer_bytes(), ops.memory());
    sealed_storage = Buffer<std::byte>(int64_t(table.size()) * view.sealed_layer_bytes(), ops.memory());
    for (int64_t i = 0; i < int64_t(table.size()); ++i) {
      open.push_back(open_storage.data() + i * view.open_layer_bytes());
      sealed.push_back(sealed_storage.data() + i * view.sealed_layer_bytes());
    }
    view.open = open;
    view.sealed = sealed;
  }
  std::vector<int32_t> table;
  Buffer<std::byte> open_storage, sealed_storage;
  std::vector<std::byte*> open, sealed;
  KvPages view;
};

struct Sequence {
  Sequence(int64_t tokens, int64_t heads, int64_t kv_heads, int64_t d)
      : q(smooth_floats(tokens, heads * d, 13)),
        k(smooth_floats(tokens, kv_heads * d, 14)),
        v(smooth_floats(tokens, kv_heads * d, 15)),
        tokens(tokens),
        heads(heads),
        kv_heads(kv_heads),
        d(d) {}
  Buffer<float> run(Ops& ops, Cache& cache, const std::vector<int64_t>& chunks) const {
    Buffer<float> out(tokens * heads * d);
    const auto rows = [&](const Buffer<float>& b, int64_t at, int64_t count, int64_t cols) {
      return Mat<const float>{b.data() + at * cols, count, cols, cols};
    };
    int64_t at = 0;
    for (int64_t count : chunks) {
      const RowRun run{.row = 0, .count = count, .position = at, .pages = cache.table};
      ops.append_kv(cache.view, rows(k, at, count, kv_heads * d), rows(v, at, count, kv_heads * d),
                    {&run, 1});
      ops.attention({out.data() + at * heads * d, count, heads * d, heads * d}, rows(q, at, count, heads * d),
                    cache.view, {&run, 1}, 1.0f / std::sqrt(float(d)));
      at += count;
    }
    EXPECT_EQ(at, tokens);
    return out;
  }
  Buffer<float> q, k, v;
  int64_t tokens, heads, kv_heads, d;
};

}  // namespace stamp

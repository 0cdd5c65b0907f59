// Every operation of every available Ops against reference/, and the promise that a row's bits do not depend
// on its neighbours, the number of threads or the place of its pages.
#include "kernels/ops.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "kernels/buffer.h"
#include "tests/kernels/nmse.h"

namespace stamp {
namespace {

// float32 sums of n terms in some order: error variance about n * eps^2 / 12 of the terms' power; 1e-11
// leaves room for n up to some thousands.
constexpr double kFloatBound = 1e-11;

Buffer<float> random_floats(int64_t n, uint32_t seed, float scale = 1.0f) {
  std::mt19937 rng(seed);
  Buffer<float> buffer(n);
  for (int64_t i = 0; i < n; ++i) buffer[i] = scale * (float(rng()) / 2147483648.0f - 1.0f);
  return buffer;
}

/// Random weights in a storage type; 16-bit patterns are finite values around one.
struct RandomWeight {
  RandomWeight(DType dtype, int64_t rows, int64_t cols, uint32_t seed)
      : floats(random_floats(rows * cols, seed)), words(rows * cols) {
    std::mt19937 rng(seed + 1);
    const uint32_t exponents = dtype == DType::kF16 ? 0x2c00 : 0x3e00;
    const uint32_t mantissa = dtype == DType::kF16 ? 0x0fff : 0x01ff;
    for (int64_t i = 0; i < words.size(); ++i)
      words[i] = uint16_t(exponents | (rng() & mantissa) | (rng() & 0x8000));
    if (dtype == DType::kF16) words[0] = 0x0001, words[1] = 0x83ff;  // subnormals
    view = {dtype == DType::kF32 ? static_cast<const void*>(floats.data()) : words.data(), dtype, rows, cols};
  }
  Buffer<float> floats;
  Buffer<uint16_t> words;
  WeightView view;
};

std::span<const float> all(const Buffer<float>& b) { return b.span(); }

class OpsTest : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Ops> ops_ = make_ops(GetParam(), 2);
  std::unique_ptr<Ops> reference_ = make_ops("reference");
};

TEST_P(OpsTest, LinearEqualsReferenceForEveryStorageTypeAndRaggedShape) {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const auto& [rows, k, n] : std::vector<std::array<int64_t, 3>>{{1, 576, 192},
                                                                        {1, 7, 5},
                                                                        {2, 40, 97},
                                                                        {3, 65, 33},
                                                                        {5, 72, 40},
                                                                        {9, 129, 50},
                                                                        {70, 576, 131},
                                                                        {257, 33, 300}}) {
      const auto in = random_floats(rows * k, 1), bias = random_floats(n, 2);
      const RandomWeight weight(dtype, n, k, 3);
      Buffer<float> out(rows * n), truth(rows * n);
      for (const auto& b : {std::span<const float>(), all(bias)}) {
        ops_->linear(out.mat(rows, n), {in.data(), rows, k, k}, weight.view, b);
        reference_->linear(truth.mat(rows, n), {in.data(), rows, k, k}, weight.view, b);
        EXPECT_LE(nmse(out.span(), truth.span()), kFloatBound)
            << dtype_name(dtype) << " " << rows << "x" << k << "x" << n;
      }
    }
  }
}

TEST_P(OpsTest, LinearRowsDoNotDependOnTheBatchOrTheThreads) {
  const int64_t rows = 150, k = 193, n = 211;
  const auto in = random_floats(rows * k, 4);
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const RandomWeight weight(dtype, n, k, 5);
    Buffer<float> whole(rows * n);
    ops_->linear(whole.mat(rows, n), {in.data(), rows, k, k}, weight.view, {});
    for (int threads : {1, 3}) {
      const auto other = make_ops(GetParam(), threads);
      for (int64_t count : {1, 2, 3, 5, 7, 11, 64, 150}) {
        Buffer<float> part(count * n);
        const int64_t first = rows - count;
        other->linear(part.mat(count, n), {in.data() + first * k, count, k, k}, weight.view, {});
        EXPECT_EQ(0, std::memcmp(part.data(), whole.data() + first * n, size_t(count * n) * sizeof(float)))
            << dtype_name(dtype) << " rows " << count << " threads " << threads;
      }
    }
  }
}

TEST_P(OpsTest, ElementwiseOperationsEqualReference) {
  for (const auto& [rows, cols] :
       std::vector<std::array<int64_t, 2>>{{1, 8}, {1, 576}, {3, 97}, {40, 1536}}) {
    const auto x = random_floats(rows * cols, 6, 30.0f), y = random_floats(rows * cols, 7),
               gain = random_floats(cols, 8);
    const auto run = [&](Ops& ops) {
      Buffer<float> out(5 * rows * cols);
      const auto part = [&](int64_t i) { return Mat<float>{out.data() + i * rows * cols, rows, cols, cols}; };
      const Mat<const float> mx{x.data(), rows, cols, cols}, my{y.data(), rows, cols, cols};
      ops.rms_norm(part(0), mx, all(gain), 1e-5f);
      for (int64_t i : {1, 2}) std::memcpy(part(i).data, x.data(), size_t(rows * cols) * sizeof(float));
      ops.silu_mul(part(1), my);
      ops.add(part(2), my);
      const RandomWeight table(DType::kF16, 11, cols, 9);
      std::vector<int32_t> ids(static_cast<size_t>(rows));
      for (size_t i = 0; i < ids.size(); ++i) ids[i] = int32_t(i * 7 % 11);
      ops.embed(part(3), ids, table.view);
      std::vector<int32_t> reversed(ids.size());
      for (size_t i = 0; i < ids.size(); ++i) reversed[i] = int32_t(ids.size() - 1 - i);
      ops.gather(part(4), mx, reversed);
      return out;
    };
    EXPECT_LE(nmse(run(*ops_).span(), run(*reference_).span()), kFloatBound) << rows << "x" << cols;
  }
}

TEST_P(OpsTest, SiluSaturatesInsteadOfOverflowing) {
  std::vector<float> gate{-1e30f, -200.0f, -88.0f, 0.0f, 88.0f, 200.0f, 1e30f}, up(gate.size(), 1.0f);
  ops_->silu_mul({gate.data(), 1, 7, 7}, {up.data(), 1, 7, 7});
  for (int i = 0; i < 3; ++i) EXPECT_NEAR(gate[size_t(i)], 0.0f, 1e-6f) << i;
  EXPECT_EQ(gate[3], 0.0f);
  EXPECT_EQ(gate[4], 88.0f);
  EXPECT_EQ(gate[6], 1e30f);
}

TEST_P(OpsTest, RopeTurnsEachPairByItsAngle) {
  const int64_t rows = 5, heads = 3;
  for (int64_t d : {4, 16, 40, 64, 128}) {
    const auto angle = random_floats(rows * d / 2, 10, 3.0f);
    Buffer<float> cos(rows * d / 2), sin(rows * d / 2);
    for (int64_t i = 0; i < cos.size(); ++i) cos[i] = std::cos(angle[i]), sin[i] = std::sin(angle[i]);
    auto x = random_floats(rows * heads * d, 11), truth = random_floats(rows * heads * d, 11);
    ops_->rope(x.mat(rows, heads * d), cos.mat(rows, d / 2), sin.mat(rows, d / 2));
    reference_->rope(truth.mat(rows, heads * d), cos.mat(rows, d / 2), sin.mat(rows, d / 2));
    EXPECT_LE(nmse(x.span(), truth.span()), kFloatBound) << d;
  }
}

/// A float cache of one layer whose sequence visits the pages in `order`.
struct Cache {
  Cache(Ops& ops, int64_t kv_heads, int64_t head_dim, std::vector<int32_t> order) : table(std::move(order)) {
    view = {
        .open = {}, .sealed = {}, .layer_index = 0, .kv_heads = kv_heads, .head_dim = head_dim, .format = {}};
    storage = Buffer<std::byte>(int64_t(table.size()) * view.open_layer_bytes(), ops.memory());
    for (int64_t i = 0; i < int64_t(table.size()); ++i)
      bases.push_back(storage.data() + i * view.open_layer_bytes());
    view.open = bases;
  }
  std::vector<int32_t> table;
  Buffer<std::byte> storage;
  std::vector<std::byte*> bases;
  KvPages view;
};

TEST_P(OpsTest, AttentionEqualsReferenceForGroupsHeadSizesAndLengths) {
  for (const auto& [heads, kv_heads, d, tokens] : std::vector<std::array<int64_t, 4>>{
           {1, 1, 8, 1}, {9, 3, 64, 70}, {4, 4, 40, 130}, {6, 1, 16, 64}, {8, 2, 128, 65}, {2, 1, 12, 200}}) {
    const auto q = random_floats(tokens * heads * d, 12, 3.0f), k = random_floats(tokens * kv_heads * d, 13);
    const auto v = random_floats(tokens * kv_heads * d, 14);
    const auto run = [&](Ops& ops) {
      Cache cache(ops, kv_heads, d, {2, 0, 3, 1});
      Buffer<float> out(tokens * heads * d);
      const RowRun rows{.row = 0, .count = tokens, .position = 0, .pages = cache.table};
      ops.append_kv(cache.view, {k.data(), tokens, kv_heads * d, kv_heads * d},
                    {v.data(), tokens, kv_heads * d, kv_heads * d}, {&rows, 1});
      ops.attention(out.mat(tokens, heads * d), {q.data(), tokens, heads * d, heads * d}, cache.view,
                    {&rows, 1}, 1.0f / std::sqrt(float(d)));
      return out;
    };
    EXPECT_LE(nmse(run(*ops_).span(), run(*reference_).span()), 1e-11)
        << heads << " " << kv_heads << " " << d << " " << tokens;
  }
}

TEST_P(OpsTest, AttentionDoesNotDependOnTheChunksThePagesOrTheBatch) {
  const int64_t heads = 6, kv_heads = 2, d = 24, tokens = 150;
  const auto q = random_floats(tokens * heads * d, 15, 3.0f), k = random_floats(tokens * kv_heads * d, 16);
  const auto v = random_floats(tokens * kv_heads * d, 17);
  const auto rows_of = [](const Buffer<float>& b, int64_t first, int64_t count, int64_t cols) {
    return Mat<const float>{b.data() + first * cols, count, cols, cols};
  };
  const auto run = [&](std::vector<int32_t> order, std::vector<int64_t> chunks, int threads) {
    const auto ops = make_ops(GetParam(), threads);
    Cache cache(*ops, kv_heads, d, std::move(order));
    Buffer<float> out(tokens * heads * d);
    int64_t at = 0;
    for (int64_t count : chunks) {
      const RowRun rows{.row = 0, .count = count, .position = at, .pages = cache.table};
      ops->append_kv(cache.view, rows_of(k, at, count, kv_heads * d), rows_of(v, at, count, kv_heads * d),
                     {&rows, 1});
      ops->attention({out.data() + at * heads * d, count, heads * d, heads * d},
                     rows_of(q, at, count, heads * d), cache.view, {&rows, 1}, 0.2f);
      at += count;
    }
    EXPECT_EQ(at, tokens);
    return out;
  };
  const auto whole = run({0, 1, 2}, {150}, 1);
  for (const auto& chunks :
       std::vector<std::vector<int64_t>>{{64, 64, 22}, {128, 1, 21}, {1, 1, 1, 147}, {7, 143}}) {
    for (const auto& order : std::vector<std::vector<int32_t>>{{0, 1, 2}, {2, 0, 1}}) {
      const auto other = run(order, chunks, 3);
      EXPECT_EQ(0, std::memcmp(other.data(), whole.data(), size_t(whole.size()) * sizeof(float)))
          << chunks.size();
    }
  }
}

TEST_P(OpsTest, ArgmaxTakesTheFirstOfTheLargestAndNoneWhereNumbersAreNotFinite) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const int64_t vocab : {1, 15, 257, 5003}) {
    SCOPED_TRACE(vocab);
    const int64_t rows = 6;
    auto logits = random_floats(rows * vocab, 21, 4.0f);
    const Mat<float> m = logits.mat(rows, vocab);
    m.row(1)[vocab / 2] = m.row(1)[vocab - 1] = 50.0f;
    std::fill_n(m.row(2), vocab, -7.0f);
    m.row(3)[vocab / 3] = std::numeric_limits<float>::quiet_NaN();
    m.row(4)[vocab - 1] = kInfinity;
    m.row(5)[0] = -kInfinity;
    std::vector<int32_t> out(rows), truth(rows);
    ops_->argmax(out, m);
    reference_->argmax(truth, m);
    EXPECT_EQ(out, truth);
    EXPECT_EQ(std::vector(truth.begin() + 1, truth.end()),
              (std::vector<int32_t>{int32_t(vocab / 2), 0, -1, -1, -1}));
    EXPECT_EQ(m.row(0)[truth[0]], *std::max_element(m.row(0), m.row(0) + vocab));
  }
}

TEST_P(OpsTest, TokenLogprobsEqualReferenceAlsoForLargeLogits) {
  const int64_t rows = 4, vocab = 5003;
  auto logits = random_floats(rows * vocab, 18, 12.0f);
  logits[7] = 400.0f;
  logits[vocab + 9] = -400.0f;
  const std::vector<int32_t> targets{7, 9, 0, 5002};
  std::vector<float> out(4), truth(4);
  ops_->token_logprobs(out, logits.mat(rows, vocab), targets);
  reference_->token_logprobs(truth, logits.mat(rows, vocab), targets);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(out[i], truth[i], 2e-7 * (1 + std::fabs(truth[i]))) << i;
}

TEST_P(OpsTest, KlDivergenceEqualsReferenceAndIsZeroForEqualRows) {
  const int64_t rows = 3, vocab = 5003;
  auto p = random_floats(rows * vocab, 19, 4.0f);
  auto q = random_floats(rows * vocab, 20, 4.0f);
  for (int64_t c = 0; c < vocab; ++c) q[vocab + c] = p[vocab + c];  // row 1: the same
  for (int64_t c = 0; c < vocab; ++c)
    q[2 * vocab + c] = p[2 * vocab + c] + 7;  // row 2: the same after softmax
  std::vector<float> out(3), truth(3);
  ops_->kl_divergence(out, p.mat(rows, vocab), q.mat(rows, vocab));
  reference_->kl_divergence(truth, p.mat(rows, vocab), q.mat(rows, vocab));
  EXPECT_GT(truth[0], 1.0f);
  EXPECT_NEAR(out[0], truth[0], 1e-5 * truth[0]);
  for (size_t i : {1, 2}) EXPECT_NEAR(out[i], 0.0f, 1e-5f) << i;
}

INSTANTIATE_TEST_SUITE_P(All, OpsTest, testing::ValuesIn(available_ops()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace stamp

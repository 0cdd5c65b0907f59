// Operations that may wait for each other, Ops::begin_pass: the same bits as one after the other.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <optional>
#include <random>

#include "kernels/buffer.h"
#include "kernels/ops.h"
#include "tests/kernels/quantised.h"

namespace stamp {
namespace {

constexpr int64_t kRows = 3 * kBlock + 5, kCols = 72, kHeadDim = 24;

/// What a layer's operations on rows work with.
struct State {
  State() {
    std::mt19937 rng(1);
    for (Buffer<float>* buffer : {&x, &y, &normed, &gate, &up, &gain, &cos, &sin})
      for (float& value : buffer->span()) value = float(rng()) / 2147483648.0f - 1.0f;
  }
  Mat<float> mat(Buffer<float>& buffer) const { return buffer.mat(kRows, kCols); }

  Buffer<float> x{kRows * kCols}, y{kRows * kCols}, normed{kRows * kCols}, gate{kRows * kCols},
      up{kRows * kCols}, gain{kCols};
  Buffer<float> cos{kRows * kHeadDim / 2}, sin{kRows * kHeadDim / 2};
  RowRun run{0, kRows, 0, {}};
  Quantised plain{kRows, kCols, BitPlan{}, {&run, 1}};
  Quantised coded{
      kRows, kCols, BitPlan{.transform = SeqTransform::kHaar, .high_rows = 2, .low_bits = 4}, {&run, 1}};
};

/// The state after `steps`, in a pass or each by itself.
std::vector<uint32_t> bits_after(Ops& ops, bool in_pass, const std::function<void(Ops&, State&)>& steps) {
  State state;
  {
    std::optional<OpsPass> pass;
    if (in_pass) pass.emplace(ops);
    steps(ops, state);
  }
  std::vector<uint32_t> bits;
  const auto take = [&](std::span<const float> values) {
    for (float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  };
  for (const Buffer<float>* buffer : {&state.x, &state.y, &state.normed, &state.gate, &state.up})
    take(buffer->span());
  for (const Quantised* quantised : {&state.plain, &state.coded}) {
    std::ranges::copy(quantised->q.span(), std::back_inserter(bits));
    take(quantised->scale.span());
    take(quantised->offset.span());
  }
  return bits;
}

class PassTest : public testing::TestWithParam<std::string> {
 protected:
  void expect_same(const std::function<void(Ops&, State&)>& steps) const {
    for (int threads : {1, 3}) {
      const auto ops = make_ops(GetParam(), threads);
      EXPECT_TRUE(bits_after(*ops, true, steps) == bits_after(*ops, false, steps)) << threads << " threads";
    }
  }
};

TEST_P(PassTest, ALayersOperationsOnRowsHaveTheSameBits) {
  expect_same([](Ops& ops, State& s) {
    const Mat<float> x = s.mat(s.x), normed = s.mat(s.normed), gate = s.mat(s.gate);
    const std::vector<float> signs(size_t(kCols), -1.0f);
    ops.add(x, s.mat(s.y));
    ops.rms_norm(normed, x, s.gain.span(), 1e-5f);
    ops.quantize(s.plain.view, normed);
    ops.rope(x, s.cos.mat(kRows, kHeadDim / 2), s.sin.mat(kRows, kHeadDim / 2));
    ops.rotate(x, {.block = 8, .signs = signs, .mix = {}}, false);
    ops.silu_mul(gate, s.mat(s.up));
    ops.rotate(gate, {.block = 8, .signs = signs, .mix = {}}, true);
    ops.quantize(s.coded.view, gate);
    for (const Mat<float>& used_up : {normed, gate}) ops.rms_norm(used_up, x, s.gain.span(), 1e-5f);
    ops.add(x, normed);
  });
}

TEST_P(PassTest, WhatReadsOtherRowsWaitsForThem) {
  expect_same([](Ops& ops, State& s) {  // the row before, which is written in the same step or an earlier one
    const Mat<float> x = s.mat(s.x), y = s.mat(s.y);
    ops.silu_mul(x, y);
    ops.add(y.slice(1, kRows - 1), x.slice(0, kRows - 1));
    ops.add(x.slice(0, kRows - 1), y.slice(1, kRows - 1));
  });
  expect_same([](Ops& ops, State& s) {  // other columns of the same rows, of another width
    const Mat<float> x = s.mat(s.x), y = s.mat(s.y);
    const Mat<float> narrow{x.data + kCols / 2, kRows, kCols / 3, kCols};
    ops.silu_mul(x, y);
    ops.add(s.normed.mat(kRows, kCols / 3), narrow);
    ops.add(narrow, s.up.mat(kRows, kCols / 3));
  });
  expect_same([](Ops& ops, State& s) {  // the same memory as rows of another width
    ops.silu_mul(s.x.mat(kRows, kCols / 2), s.up.mat(kRows, kCols / 2));
    ops.add(s.mat(s.y), s.mat(s.x));
  });
}

INSTANTIATE_TEST_SUITE_P(EveryOps, PassTest, testing::ValuesIn(available_ops()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace stamp

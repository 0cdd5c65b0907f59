#include "kernels/timed_ops.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "kernels/machine_peaks.h"
#include "tests/kernels/random_weight.h"

namespace stamp {
namespace {

/// A clock on which every look takes a second.
double ticks = 0;
double tick() { return ++ticks; }

struct Product16 {
  Product16() : weight(random_weight(DType::kQ4, 16, 64, 64, 1)), in(3 * 64), out(3 * 16) {
    std::iota(in.span().begin(), in.span().end(), -90.0f);
  }
  void run(Ops& ops) { ops.linear(out.mat(3, 16), Mat<const float>{in.data(), 3, 64, 64}, weight.view, {}); }
  PackedWeight weight;
  Buffer<float> in, out;
};

TEST(TimedOps, MeasuresBetweenResumeAndStopAndPassesEverythingOn) {
  TimedOps timed(make_ops("scalar", 1), tick);
  EXPECT_EQ(timed.name(), "scalar");
  EXPECT_EQ(timed.threads(), 1);
  Product16 product, truth;
  truth.run(*make_ops("scalar", 1));
  product.run(timed);
  EXPECT_THAT(product.out.span(), testing::ElementsAreArray(truth.out.span()));
  EXPECT_TRUE(timed.take().empty());

  timed.resume();
  product.run(timed);
  product.run(timed);
  timed.add(product.out.mat(3, 16), Mat<const float>(truth.out.mat(3, 16)));
  timed.stop();
  product.run(timed);
  const std::vector<TimedOps::Entry> entries = timed.take();
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].kind, TimedOps::Kind::kLinear);
  EXPECT_EQ(entries[0].in, 64);
  EXPECT_EQ(entries[0].out, 16);
  EXPECT_EQ(entries[0].calls, 2);
  EXPECT_EQ(entries[0].seconds, 2);
  EXPECT_EQ(entries[0].work.float_ops, 2 * 2.0 * 3 * 64 * 16);
  EXPECT_EQ(entries[1].kind, TimedOps::Kind::kAdd);
  EXPECT_EQ(entries[1].seconds, 1);
  EXPECT_TRUE(timed.take().empty());
}

TEST(MachinePeaks, EveryInstructionSetOfThisMachineHasALimit) {
  for (const std::string& ops : available_ops()) {
    if (ops == "reference") continue;  // as scalar
    const MachinePeaks peaks = measure_peaks(ops, 1);
    for (const double peak : {peaks.read_bytes, peaks.int8_ops, peaks.int4_ops, peaks.float_ops}) {
      EXPECT_TRUE(std::isfinite(peak)) << ops;
      EXPECT_GT(peak, 0) << ops;
    }
  }
}

}  // namespace
}  // namespace stamp

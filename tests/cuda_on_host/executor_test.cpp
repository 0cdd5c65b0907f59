// The host executor: it finds every planted bug, and nothing in the same kernels without it.
#include "tests/cuda_on_host/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cuda_on_host/planted.h"

namespace stamp::cuda_on_host {

void PrintTo(const PlantedBug& bug, std::ostream* out) { *out << bug.name; }

namespace {

class PlantedBugs : public testing::TestWithParam<PlantedBug> {
 protected:
  void TearDown() override { settings() = Settings{}; }
};

TEST_P(PlantedBugs, IsCaughtInEverySchedule) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    settings().seed = seed;
    try {
      GetParam().run(true);
      ADD_FAILURE() << "not caught with seed " << seed;
    } catch (const KernelError& error) {
      EXPECT_THAT(GetParam().expected, testing::Contains(error.fault())) << seed << " " << error.what();
    }
  }
}

TEST_P(PlantedBugs, TheSameKernelWithoutItIsClean) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    settings().seed = seed;
    EXPECT_NO_THROW(GetParam().run(false)) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(All, PlantedBugs, testing::ValuesIn(planted_bugs()),
                         [](const auto& info) { return info.param.name; });

TEST(Executor, ReportsSayWhereAndWhat) {
  const auto& guard = planted_bugs().front();
  try {
    guard.run(true);
    FAIL();
  } catch (const KernelError& error) {
    EXPECT_STREQ(
        error.what(),
        "planted, block (1, 0, 0), thread (36, 0, 0): out of range: write of 4 bytes at an allocation "
        "of 400 bytes + 400: not allocated");
  }
}

}  // namespace
}  // namespace stamp::cuda_on_host

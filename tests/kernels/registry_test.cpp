// Which operations there are and which are chosen.
#include <gtest/gtest.h>

#include "kernels/error.h"
#include "kernels/ops.h"

namespace stamp {
namespace {

TEST(Registry, TheOverrideDecidesAndWrongNamesListTheChoices) {
  for (const std::string& name : available_ops()) {
    ASSERT_EQ(0, setenv("STAMP_FORCE_OPS", name.c_str(), 1));
    EXPECT_EQ(make_ops()->name(), name);
  }
  setenv("STAMP_FORCE_OPS", "sse9", 1);
  try {
    make_ops();
    FAIL() << "accepted an unknown name";
  } catch (const InputError& e) {
    EXPECT_NE(std::string(e.what()).find("STAMP_FORCE_OPS=sse9"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("reference"), std::string::npos) << e.what();
  }
  unsetenv("STAMP_FORCE_OPS");
  EXPECT_EQ(make_ops()->name(), available_ops().front());
}

TEST(Registry, ThreadsAreAsAsked) {
  EXPECT_EQ(make_ops("scalar", 3)->threads(), 3);
  EXPECT_EQ(make_ops("reference", 3)->threads(), 1);
}

}  // namespace
}  // namespace stamp

#include "tools/serve/api_keys.h"

#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/temp_dir.h"

namespace stamp {
namespace {

TEST(ApiKeys, WithoutKeysEverybodyMay) { EXPECT_TRUE(ApiKeys().accept("")); }

TEST(ApiKeys, OneOfTheKeysMustBePresented) {
  const ApiKeys keys({"one", "two"});
  EXPECT_TRUE(keys.accept("Bearer one"));
  EXPECT_TRUE(keys.accept("bearer  two "));
  for (const char* wrong :
       {"", "Bearer", "Bearer ", "Bearer on", "Bearer onee", "Bearer three", "Basic one", "one"})
    EXPECT_FALSE(keys.accept(wrong)) << wrong;
}

TEST(ApiKeys, AFileHasOneALine) {
  const TempDir dir;
  write_file(dir / "keys", "# for the team\none\n\n  two \r\n");
  EXPECT_EQ(ApiKeys::read_file((dir / "keys").string()), (std::vector<std::string>{"one", "two"}));
  write_file(dir / "none", "# nothing\n");
  EXPECT_THROW(ApiKeys::read_file((dir / "none").string()), InputError);
  EXPECT_THROW(ApiKeys({""}), InputError);
}

}  // namespace
}  // namespace stamp

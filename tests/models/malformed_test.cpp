#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/error.h"
#include "models/weights.h"
#include "tests/models/malformed_config.h"
#include "tests/models/malformed_safetensors.h"
#include "tests/run_program.h"

namespace stamp {
namespace {

using malformed::Case;

std::vector<Case> all_cases() {
  std::vector<Case> all;
  for (auto cases : {malformed::json_cases(), malformed::config_cases(), malformed::generation_config_cases(),
                     malformed::safetensors_cases(), malformed::shard_cases(), malformed::weight_cases()})
    all.insert(all.end(), cases.begin(), cases.end());
  return all;
}

void load(const std::filesystem::path& directory) {
  const ModelConfig config = ModelConfig::load(directory);
  GenerationConfig::load(directory, config);
  ModelWeights::load(directory, config);
}

ProgramResult generate(const std::filesystem::path& directory) {
  return run_program(STAMP_PROGRAM, {"generate", "--model", directory.string(), "-p", "x", "-n", "2"});
}

/// One line that names the directory and the file and says what is wrong.
void expect_telling(const std::string& message, const std::filesystem::path& directory, const Case& c) {
  EXPECT_NE(message.find(directory.string()), std::string::npos) << message;
  EXPECT_NE(message.find(c.file), std::string::npos) << message;
  EXPECT_NE(message.find(c.word), std::string::npos) << message;
  EXPECT_TRUE(std::none_of(message.begin(), message.end(), [](unsigned char x) { return x < 0x20; }))
      << message;
}

class Malformed : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    random_model().write(directory_.path());
    GetParam().damage(directory_.path());
  }
  TempDir directory_;
};

TEST_P(Malformed, IsRefusedWithATellingMessage) {
  try {
    load(directory_.path());
    FAIL() << "was accepted";
  } catch (const InputError& e) {
    expect_telling(e.what(), directory_.path(), GetParam());
  }
}

TEST_P(Malformed, EndsTheProgramWithCodeTwoAndOneLine) {
  const ProgramResult result = generate(directory_.path());
  EXPECT_EQ(result.signal, 0);
  EXPECT_EQ(result.code, 2);
  EXPECT_EQ(result.out, "");
  ASSERT_FALSE(result.err.empty());
  EXPECT_EQ(result.err.back(), '\n');
  expect_telling(result.err.substr(0, result.err.size() - 1), directory_.path(), GetParam());
}

INSTANTIATE_TEST_SUITE_P(Files, Malformed, testing::ValuesIn(all_cases()),
                         [](const auto& info) { return info.param.name; });

/// Without its damage, the directory that every case begins with loads and runs, in one file and in shards.
TEST(WellFormed, LoadsAndRuns) {
  const TempDir directory;
  random_model().write(directory.path());
  for (const bool sharded : {false, true}) {
    if (sharded) malformed::shard(directory.path());
    EXPECT_NO_THROW(load(directory.path()));
    const ProgramResult result = generate(directory.path());
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    EXPECT_NE(result.out, "");
  }
}

TEST(WellFormed, ThereIsNoDirectory) {
  const TempDir directory;
  for (const std::string& name : {std::string("absent"), std::string(300, 'n'), std::string(5000, 'n')}) {
    const ProgramResult result = generate(directory / name);
    EXPECT_EQ(result.code, 2);
    EXPECT_EQ(result.out, "");
    EXPECT_NE(result.err.find(name + ": no such directory"), std::string::npos) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1);
  }
}

}  // namespace
}  // namespace stamp

#include "models/prepare/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "engine/session.h"
#include "kernels/error.h"
#include "models/prepare/prepare.h"
#include "tests/temp_dir.h"

namespace stamp {
namespace {

const std::filesystem::path kTiny = std::filesystem::path(STAMP_TEST_DATA_DIR) / "tiny";

std::vector<std::filesystem::path> models() {
  std::vector<std::filesystem::path> all;
  for (const auto& entry : std::filesystem::directory_iterator(kTiny)) all.push_back(entry.path());
  std::sort(all.begin(), all.end());
  return all;
}

void quantise(const std::filesystem::path& source, const std::filesystem::path& out, const Recipe& recipe) {
  const ModelConfig config = ModelConfig::load(source);
  const auto ops = make_ops({}, 2);
  const ModelWeights weights = ModelWeights::load(source, config);
  save_checkpoint(out, source, prepare_weights(config, weights, recipe, {.ops = ops.get()}), recipe);
}

std::vector<float> logits_of(const EngineOptions& options) {
  Engine engine(options);
  Session session(engine);
  std::vector<int32_t> tokens;
  for (int i = 0; i < 150; ++i) tokens.push_back(int32_t((i * 31 + 7) % engine.config().vocab_size));
  const auto logits = session.advance(tokens)->host(0);
  return {logits.begin(), logits.end()};
}

TEST(Checkpoint, GivesTheBitsOfTheRecipeOnTheSource) {
  const TempDir dir;
  int number = 0;
  for (const auto& source : models()) {
    for (const char* recipe : {"w8a8", "w4a4kv4-stamp"}) {
      if (recipe[1] == '4' && number % 8 != 1) continue;  // GPTQ takes its time: some variants are enough
      const auto out = dir.path() / std::to_string(number++);
      quantise(source, out, Recipe::load(recipe));
      const auto stored = logits_of({.model = out}), made = logits_of({.model = source, .recipe = recipe});
      EXPECT_EQ(0, std::memcmp(stored.data(), made.data(), made.size() * sizeof(float)))
          << source << " " << recipe;
      EXPECT_THAT(verify_checkpoint(out), testing::IsEmpty());
    }
  }
}

TEST(Checkpoint, NoticesOneChangedBitInAnyFile) {
  const TempDir dir;
  const auto out = dir.path() / "out";
  quantise(models().front(), out, Recipe::load("w8a8"));
  for (const auto& entry : std::filesystem::directory_iterator(out)) {
    if (entry.path().filename() == "manifest.json") continue;
    std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
    const auto at = std::streamoff(entry.file_size() / 2);
    file.seekg(at);
    const int byte = file.get();
    const auto put = [&](int value) {
      file.seekp(at);
      file.put(char(value));
      file.flush();
    };
    put(byte ^ 1);
    EXPECT_THAT(verify_checkpoint(out),
                testing::ElementsAre(testing::HasSubstr(entry.path().filename().string())));
    put(byte);
  }
  EXPECT_THAT(verify_checkpoint(out), testing::IsEmpty());
  std::filesystem::remove(out / "tokenizer.json");
  EXPECT_THAT(verify_checkpoint(out), testing::ElementsAre(testing::HasSubstr("is missing")));
}

TEST(Checkpoint, NoticesOneChangedBitInAnyByteOfTheManifest) {
  const TempDir dir;
  const auto out = dir.path() / "out";
  quantise(models().front(), out, Recipe::load("w8a8"));
  const std::string manifest = slurp(out / "manifest.json");
  for (size_t bit = 0; bit < 8 * manifest.size(); bit += 7) {
    std::string damaged = manifest;
    damaged[bit / 8] = char(damaged[bit / 8] ^ (1 << bit % 8));
    write_file(out / "manifest.json", damaged);
    bool noticed = true;
    try {
      noticed = !verify_checkpoint(out).empty();
    } catch (const InputError&) {
    }
    ASSERT_TRUE(noticed) << damaged;
  }
}

TEST(Checkpoint, IsWrittenWholeOrNotAtAll) {
  const TempDir dir;
  const auto source = models().front(), out = dir.path() / "out";
  quantise(source, out, Recipe::load("w8a8"));
  EXPECT_THROW(quantise(source, out, Recipe::load("w8a8")), InputError);
  EXPECT_THROW(quantise(source, dir.path() / "out" / "config.json" / "x", Recipe::load("w8a8")), Error);
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(dir.path())) ++entries;
  EXPECT_EQ(entries, 1);  // no partial directory stays
}

TEST(Checkpoint, OtherWeightsThanTheStoredOnesAreRefused) {
  const TempDir dir;
  const auto out = dir.path() / "out";
  quantise(models().front(), out, Recipe::load("w8a8"));
  EXPECT_THROW(logits_of({.model = out, .recipe = "w4a8"}), InputError);
  EXPECT_NO_THROW(logits_of({.model = out, .recipe = "w8a8"}));
}

}  // namespace
}  // namespace stamp

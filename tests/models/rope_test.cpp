// Rotary embeddings against Hugging Face transformers' modeling_rope_utils.
#include "models/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/buffer.h"
#include "tests/golden/golden.h"

namespace stamp {
namespace {

TEST(Rope, InverseFrequenciesAndAttentionFactorsEqualTransformers) {
  const nlohmann::json golden = golden::load("rope.json");
  ASSERT_GE(golden["cases"].size(), 19u);
  for (const auto& item : golden["cases"]) {
    const std::string name = item["name"];
    const ModelConfig config = ModelConfig::parse(item["config"].dump(), name);
    const Rope rope(config);
    const std::vector<float> truth = item["inverse_frequencies"];
    ASSERT_EQ(rope.inverse_frequencies().size(), truth.size()) << name;
    for (size_t i = 0; i < truth.size();
         ++i) {  // to one unit in the last place: PyTorch's powf is not always rounded to nearest
      EXPECT_LE(rope.inverse_frequencies()[i], std::nextafter(truth[i], 2.0f)) << name << ", pair " << i;
      EXPECT_GE(rope.inverse_frequencies()[i], std::nextafter(truth[i], 0.0f)) << name << ", pair " << i;
    }
    EXPECT_FLOAT_EQ(rope.attention_factor(), item["attention_factor"].get<float>()) << name;
  }
}

TEST(Rope, AnglesFollowThePositionsOfEachRun) {
  ModelConfig config;
  config.head_dim = 8;
  config.rope_theta = 100.0;
  const Rope rope(config);
  Buffer<float> cos(5 * 4), sin(5 * 4);
  const RowRun runs[] = {{.row = 0, .count = 2, .position = 1000, .pages = {}},
                         {.row = 2, .count = 3, .position = 0, .pages = {}}};
  rope.angles(cos.mat(5, 4), sin.mat(5, 4), runs);
  const int64_t positions[] = {1000, 1001, 0, 1, 2};
  for (int64_t row = 0; row < 5; ++row) {
    for (int64_t pair = 0; pair < 4; ++pair) {
      const double angle = double(positions[row]) * std::pow(100.0, -double(pair) / 4);
      EXPECT_NEAR(cos.mat(5, 4).row(row)[pair], std::cos(angle), 1e-4) << row << " " << pair;
      EXPECT_NEAR(sin.mat(5, 4).row(row)[pair], std::sin(angle), 1e-4) << row << " " << pair;
    }
  }
}

TEST(Rope, YarnMultipliesCosineAndSineByTheAttentionFactor) {
  ModelConfig config;
  config.head_dim = 8;
  config.rope_scaling = {.kind = RopeScaling::Kind::kYarn,
                         .factor = 4,
                         .original_max_position_embeddings = 64,
                         .attention_factor = 1.25};
  const Rope rope(config);
  Buffer<float> cos(4), sin(4);
  const RowRun run{.row = 0, .count = 1, .position = 9, .pages = {}};
  rope.angles(cos.mat(1, 4), sin.mat(1, 4), {&run, 1});
  for (int64_t pair = 0; pair < 4; ++pair) EXPECT_NEAR(std::hypot(cos[pair], sin[pair]), 1.25, 1e-6);
}

}  // namespace
}  // namespace stamp

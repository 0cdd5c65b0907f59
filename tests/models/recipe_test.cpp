#include "models/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/error.h"

namespace stamp {
namespace {

using testing::HasSubstr;

std::string refusal(const std::string& json) {
  try {
    Recipe::parse(json, "r.json");
  } catch (const InputError& e) {
    return e.what();
  }
  return "accepted";
}

TEST(Recipe, BuiltInOnesParseAndSurviveARoundTrip) {
  const auto names = recipe_names();
  for (const char* name : {"f32", "w8a8", "w4a8", "w4a4kv4", "w4a4kv4-stamp", "w4a8kv4-stamp"})
    EXPECT_THAT(names, testing::Contains(name));
  for (const std::string& name : names) {
    const Recipe recipe = Recipe::load(name);
    EXPECT_EQ(recipe.name, name);
    EXPECT_EQ(Recipe::parse(recipe.to_json(), "again.json"), recipe) << recipe.to_json();
  }
  EXPECT_TRUE(Recipe::load("f32").keeps_weights());
}

TEST(Recipe, TheStampRecipeHasTheBitsOfItsBaseline) {
  const Recipe stamp = Recipe::load("w4a4kv4-stamp"), baseline = Recipe::load("w4a4kv4");
  EXPECT_EQ(stamp.activations.plan.mean_bits(), 4.125);
  EXPECT_EQ(baseline.activations.plan.mean_bits(), 4.125);
  EXPECT_EQ(stamp.kv.plan.mean_bits(), baseline.kv.plan.mean_bits());
  EXPECT_EQ(stamp.weights, baseline.weights);
}

TEST(Recipe, PlansOfSingleSites) {
  const Recipe r = Recipe::parse(R"({"activations": {"low_bits": 4, "high_rows": 2, "transform": "haar"},
    "site_plans": {"layers.3.gated": {"transform": "dct", "high_rows": 4}}})",
                                 "r.json");
  EXPECT_EQ(r.plan_of(3, Site::kGated).transform, SeqTransform::kDct);
  EXPECT_EQ(r.plan_of(3, Site::kGated).high_rows, 4);
  EXPECT_EQ(r.plan_of(3, Site::kGated).low_bits, 4);
  EXPECT_EQ(r.plan_of(2, Site::kGated), r.activations.plan);
  EXPECT_EQ(Recipe::parse(r.to_json(), "r.json"), r);
}

TEST(Recipe, RefusesWhatItDoesNotKnow) {
  for (const auto& [json, telling] : std::vector<std::pair<std::string, std::string>>{
           {R"([])", "not a JSON object"},
           {R"({"weight": {}})", "weight is not a field"},
           {R"({"weights": {"bit": 4}})", "weights.bit is not a field"},
           {R"({"weights": {"bits": 5}})", "weights.bits is 5, must be one of 4, 8, 16"},
           {R"({"weights": {"bits": 4, "group": 48}})", "weights.group is 48"},
           {R"({"weights": {"bits": 4, "method": "awq"}})", "weights.method is awq"},
           {R"({"weights": {"method": "gptq"}})", "gptq needs bits below 16"},
           {R"({"weights": {"bits": 8, "value_bits": 4}})",
            "value_bits must be that of bits, or 8 where bits is 4"},
           {R"({"rotation": {"residual": 1}})", "rotation.residual must be true or false"},
           {R"({"activations": {"low_bits": 1}})", "activations.low_bits is 1"},
           {R"({"activations": {"low_bits": 4, "transform": "fft"}})", "activations.transform is fft"},
           {R"({"activations": {"low_bits": 4, "levels": 7}})", "activations.levels is 7"},
           {R"({"activations": {"low_bits": 4, "high_rows": 65}})", "activations.high_rows is 65"},
           {R"({"activations": {"low_bits": 8, "high_bits": 4}})", "low_bits must not be above high_bits"},
           {R"({"activations": {"high_bits": 8}})", "high_bits needs low_bits"},
           {R"({"activations": {"low_bits": 4, "block": 32}})", "activations.block is 32"},
           {R"({"kv": {"low_bits": 5}})", "kv.low_bits of the cache"},
           {R"({"activations": {"low_bits": 4}, "site_plans": {"layers.x.gated": {}}})", "layers.N.SITE"},
           {R"({"site_plans": {"layers.0.gated": {}}})", "needs activations below 16 bits"}})
    EXPECT_THAT(refusal(json), testing::AllOf(HasSubstr("r.json"), HasSubstr(telling))) << json;
  EXPECT_THROW(Recipe::load("w2a2"), InputError);
}

}  // namespace
}  // namespace stamp

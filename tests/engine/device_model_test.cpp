#include "engine/device_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/error.h"

namespace stamp {
namespace {

constexpr int64_t kChunk = 512;
constexpr Step kSteps[] = {{.rows = 2048, .position = 0}, {.rows = 1, .position = 8192}};

std::vector<Recipe> our_recipes() { return {Recipe::load("w4a8kv4-stamp"), Recipe::load("w4a4kv4-stamp")}; }

/// Weights of all linears of the layers.
double linear_weights(const ModelShape& m) {
  const double width = double(m.heads * m.head_dim), kv_width = double(m.kv_heads * m.head_dim);
  return double(m.layers) * double(m.hidden) * (2 * width + 2 * kv_width + 3 * double(m.intermediate));
}

TEST(DeviceModel, FloatLinearsTakeTheirOperationsAtThePeakOrTheirWeightsAtTheBandwidth) {
  for (const Machine& machine : machines()) {
    for (const ModelShape& m : model_shapes()) {
      const double weights = linear_weights(m);
      const Prediction prompt = predict(machine, m, kSteps[0], Scheme::kFp16, {}, kChunk);
      EXPECT_NEAR(prompt.role("linears").tensor, 2 * weights * 2048 / machine.fp16, 1e-12);
      EXPECT_GE(prompt.role("linears").seconds, prompt.role("linears").tensor);
      const RoleTime token = predict(machine, m, kSteps[1], Scheme::kFp16, {}, kChunk).role("linears");
      EXPECT_GE(token.memory, 2 * weights / machine.memory);
      EXPECT_LE(token.memory, 1.001 * 2 * weights / machine.memory);
      EXPECT_NEAR(token.seconds, token.memory + double(token.launches) * kLaunchSeconds, 1e-9);
    }
  }
}

TEST(DeviceModel, OurLinearsDoAtLeastTheOperationsAndReadAtLeastTheWeights) {
  for (const Machine& machine : machines()) {
    for (const ModelShape& m : model_shapes()) {
      for (const Recipe& recipe : our_recipes()) {
        const Prediction prompt = predict(machine, m, kSteps[0], Scheme::kStamp, recipe, kChunk);
        const bool wgmma = machine.compute_capability == 90;
        const double peak = std::max(machine.int4, machine.int8 * (wgmma ? 1 : machine.mma_share));
        EXPECT_GE(prompt.role("linears").tensor, 0.999999 * 2 * linear_weights(m) * 2048 / peak);
        const double read = linear_weights(m) * 0.5 / machine.memory;
        EXPECT_GE(prompt.role("linears").memory, 4 * read);  // once a chunk
        EXPECT_GE(predict(machine, m, kSteps[1], Scheme::kStamp, recipe, kChunk).role("linears").memory,
                  read);
      }
    }
  }
}

TEST(DeviceModel, PartsMakeTheWholeAndNothingIsFasterThanItsBound) {
  for (const Machine& machine : machines()) {
    for (const ModelShape& m : model_shapes()) {
      for (const Recipe& recipe : our_recipes()) {
        for (const Step& step : kSteps) {
          const Prediction today = predict(machine, m, step, Scheme::kStamp, recipe, kChunk);
          const Prediction bound = predict(machine, m, step, Scheme::kStampBound, recipe, kChunk);
          double seconds = 0;
          for (const char* name : role_names()) {
            const RoleTime &ours = today.role(name), &least = bound.role(name);
            EXPECT_GE(ours.seconds, least.seconds) << name;
            EXPECT_GE(ours.seconds, std::max({ours.memory, ours.tensor, ours.floats, ours.issue})) << name;
            EXPECT_EQ(ours.launches, least.launches);
            seconds += ours.seconds;
          }
          EXPECT_NEAR(today.seconds, seconds, 1e-9 * seconds);
          EXPECT_NEAR(today.layer_seconds * double(m.layers) + today.role("head").seconds, seconds,
                      1e-9 * seconds);
          EXPECT_GT(today.transform_seconds, 0);
        }
      }
    }
  }
}

TEST(DeviceModel, APromptIsItsChunksOneAfterAnother) {
  const Machine& machine = find_machine("h100");
  const ModelShape& m = find_shape("8b");
  const Recipe recipe = our_recipes().front();
  const auto seconds = [&](const Step& step) {
    const Prediction p = predict(machine, m, step, Scheme::kStamp, recipe, kChunk);
    return p.seconds - p.role("head").seconds;
  };
  const double parts = seconds({512, 0}) + seconds({512, 512}) + seconds({100, 1024});
  EXPECT_NEAR(seconds({1124, 0}), parts, 1e-9 * parts);
}

/// What integer sums over all input channels, products of nibbles, and launches that do what follows with
/// what is at hand are for.
TEST(DeviceModel, FourBitsTakeAPromptAndATokenAheadOfFp16) {
  const Machine& machine = find_machine("a100");
  const ModelShape& m = find_shape("8b");
  const auto speed = [&](const Step& step, const Recipe& recipe) {
    return predict(machine, m, step, Scheme::kFp16, {}, step.rows).seconds /
           predict(machine, m, step, Scheme::kStamp, recipe, step.rows).seconds;
  };
  EXPECT_GE(speed(kSteps[0], Recipe::load("w4a4kv4-stamp")), 2.0);
  EXPECT_GE(speed(kSteps[0], Recipe::load("w4a8kv4-stamp")), 1.5);
  for (const Recipe& recipe : our_recipes()) EXPECT_GE(speed(kSteps[1], recipe), 3);
}

TEST(DeviceModel, WhatItDoesNotKnowIsNamed) {
  using testing::HasSubstr;
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const InputError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_THAT(message([] { find_machine("z80"); }),
              HasSubstr("\"z80\" is unknown; choose one of a100, h100"));
  EXPECT_THAT(message([] { find_shape("9b"); }), HasSubstr("\"9b\" is unknown; choose one of 1b, 8b, 70b"));
  EXPECT_THAT(
      message([] { predict(machines()[0], model_shapes()[0], {}, Scheme::kStamp, Recipe{}, kChunk); }),
      HasSubstr("recipe f32: a prediction needs"));
}

}  // namespace
}  // namespace stamp

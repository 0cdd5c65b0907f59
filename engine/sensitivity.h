#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "models/config.h"
#include "models/recipe.h"
#include "models/weights.h"

namespace stamp {

struct SensitivityOptions {
  Ops* ops = nullptr;
  std::span<const int32_t> tokens;
  std::function<void(int64_t done, int64_t total)> progress{};  // passes over the tokens
};

/// [layers][Site]: how far the model's answers move, KL divergence in nats a token, if this one input of a
/// linear has the recipe's low_bits in every coefficient of the identity transform. What all others at
/// kTokenBits cost is subtracted; never negative. To first order a divergence is proportional to the input's
/// squared error, and those of several inputs add up, so this is what a plan's error costs the model.
using Sensitivities = std::vector<std::array<double, kSites>>;

/// Runs the text for every input, from its layer on, through weights that were prepared for
/// float_recipe(recipe). Answers are compared at every fourth token from block 1 on. Throws InputError if the
/// text has no such token.
Sensitivities measure_sensitivities(const ModelConfig& config, const ModelWeights& weights,
                                    const Recipe& recipe, const SensitivityOptions& options);

}  // namespace stamp

#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/inspection.h"
#include "kernels/ops.h"
#include "models/config.h"
#include "models/recipe.h"
#include "models/weights.h"

namespace stamp {

struct InspectOptions {
  Ops* ops = nullptr;
  std::span<const int32_t> tokens;
  std::vector<Transform> transforms;
  bool products = false;  // measure errors of products, too: what a search of plans goes by
  std::function<void(int64_t done, int64_t total)> progress{};  // tokens
};

/// The recipe's rotations with weights, activations and cache in floats: what an inspected model runs with.
Recipe float_recipe(const Recipe& recipe);
/// What the recipe does to a source; where it has one precision throughout, the paper's plan (Haar, 5 levels,
/// 2 rows at 8 bits, 4 for the others), so that there is something to look at.
BitPlan inspected_plan(const Recipe& recipe, int64_t layer, Source source);

/// Runs the text through weights that were prepared for float_recipe(recipe). Throws InputError if the text
/// has no block to measure.
Inspection inspect(const ModelConfig& config, const ModelWeights& weights, const Recipe& recipe,
                   const InspectOptions& options);

inline constexpr int kMatrices = 7;  // of a layer, in the order of for_each_matrix
/// Squared error over power of a layer's matrices as `quantised` holds them.
std::array<double, kMatrices> weight_errors(Ops& ops, const LayerWeights& exact,
                                            const LayerWeights& quantised);

}  // namespace stamp

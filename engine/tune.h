#pragma once
#include <span>
#include <vector>

#include "engine/inspection.h"
#include "engine/sensitivity.h"
#include "models/recipe.h"

namespace stamp {

/// The transforms that a search of plans chooses among.
std::vector<Transform> tuned_transforms();

struct TuneOptions {
  double budget = 0;  // mean bits of an activation in a coded block
  /// Which of the measured transforms a plan may have.
  std::vector<Transform> transforms = tuned_transforms();
};

struct TuneResult {
  Recipe recipe;  // the given one with a plan for each input of a linear
  // Predicted divergence of the model's answers, nats a token, and mean bits of an activation in a coded
  // block: of the plans that the recipe had, and of those that were found.
  double fixed_loss = 0, fixed_bits = 0;
  double loss = 0, bits = 0;
};

/// For each layer and input the transform, its levels, the two precisions and the number of rows at the
/// higher one that cost the answers least, within the budget: the divergence measured for the input's
/// identity transform at low_bits, scaled by what the plan leaves of that transform's error. low_bits may
/// move by one. `inspection` must hold the identity, the recipe's and options.transforms with errors of
/// products. Never worse than the recipe's own plans if those fit the budget. Throws InputError if the recipe
/// has one precision throughout or nothing fits the budget.
TuneResult tune(const Inspection& inspection, const Sensitivities& sensitivities, const Recipe& recipe,
                const TuneOptions& options);

}  // namespace stamp

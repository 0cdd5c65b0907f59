#pragma once
#include <vector>

#include "engine/inspection.h"
#include "models/recipe.h"

namespace stamp {

/// The transforms that a search of plans chooses among.
std::vector<Transform> tuned_transforms();

struct TuneResult {
  Recipe recipe;  // the given one with a plan for each input of a linear
  // Mean over layers and inputs of the relative squared error of the products that share an input, and mean
  // bits of an activation in a coded block: of the plans that the recipe had, and of those that were found.
  double fixed_error = 0, fixed_bits = 0;
  double error = 0, bits = 0;
};

/// For each layer and input the transform, its levels and the number of rows at high_bits that make the
/// errors of the products smallest, at no more than `budget` mean bits. `inspection` must hold
/// tuned_transforms() and errors of products. Never worse than the recipe's own plans if those fit the
/// budget. Throws InputError if the recipe has one precision throughout or nothing fits the budget.
TuneResult tune(const Inspection& inspection, const Recipe& recipe, double budget);

}  // namespace stamp

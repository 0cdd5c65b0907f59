#include "engine/tune.h"

#include <algorithm>
#include <string>

#include "engine/inspect.h"
#include "kernels/error.h"

namespace stamp {
namespace {

/// What one input of a linear could be given.
struct Choice {
  BitPlan plan;
  double error = 0;  // of the products, relative
  double bits = 0;   // the plan's mean bits, by the input's share of all channels
};

/// An input and its choices.
struct Decision {
  int64_t layer = 0;
  Site site{};
  std::vector<Choice> choices;  // fewest bits first, each with less error than the one before
  size_t chosen = 0;
  const Choice& choice() const { return choices[chosen]; }
};

using Decisions = std::vector<Decision>;

double error_of(const Decisions& all) {
  double sum = 0;
  for (const Decision& d : all) sum += d.choice().error;
  return sum / double(all.size());
}

double bits_of(const Decisions& all) {
  double sum = 0;
  for (const Decision& d : all) sum += d.choice().bits;
  return sum;
}

/// Each input's best choice if a bit costs `price`.
void choose(Decisions& all, double price) {
  for (Decision& d : all)
    for (size_t i = d.chosen = 0; i < d.choices.size(); ++i)
      if (d.choices[i].error + price * d.choices[i].bits < d.choice().error + price * d.choice().bits)
        d.chosen = i;
}

/// Spends what is left of the budget where it helps most.
void fill(Decisions& all, double budget) {
  while (true) {
    Decision* best = nullptr;
    double best_gain = 0;
    size_t next = 0;
    const double left = budget - bits_of(all);
    for (Decision& d : all)
      for (size_t i = d.chosen + 1; i < d.choices.size(); ++i) {
        const double bits = d.choices[i].bits - d.choice().bits;
        const double gain = (d.choice().error - d.choices[i].error) / bits;
        if (bits <= left && gain > best_gain) best = &d, best_gain = gain, next = i;
      }
    if (best == nullptr) return;
    best->chosen = next;
  }
}

/// The choices of one input: for every number of high rows the best transform.
std::vector<Choice> choices_of(const Inspection& inspection, const SourceStatistics& s, double share) {
  std::vector<Choice> choices;
  for (int rows = 0; rows <= kMaxTunedRows; ++rows) {
    Choice best{.plan = s.plan, .error = 1e300, .bits = 0};
    for (size_t t = 0; t < inspection.transforms.size(); ++t) {
      const double error = s.error(t, rows, true);
      if (error >= best.error) continue;
      best.error = error;
      best.plan.transform = inspection.transforms[t].kind;
      best.plan.levels = inspection.transforms[t].levels;
    }
    best.plan.high_rows = rows;
    best.bits = best.plan.mean_bits() * share;
    if (choices.empty() || best.error < choices.back().error) choices.push_back(best);
  }
  return choices;
}

}  // namespace

std::vector<Transform> tuned_transforms() {
  std::vector<Transform> all{{SeqTransform::kIdentity}, {SeqTransform::kDct}, {SeqTransform::kWalshHadamard}};
  for (int levels = 1; levels <= 6; ++levels) all.push_back({SeqTransform::kHaar, levels});
  return all;
}

TuneResult tune(const Inspection& inspection, const Recipe& recipe, double budget) {
  double channels = 0;
  for (const auto& layer : inspection.layers)
    for (int s = 0; s < kSites; ++s) channels += double(layer[size_t(s)].channels);
  TuneResult result;
  Decisions decisions;
  for (size_t layer = 0; layer < inspection.layers.size(); ++layer) {
    for (int i = 0; i < kSites; ++i) {
      const SourceStatistics& s = inspection.layers[layer][size_t(i)];
      const BitPlan plan = recipe.plan_of(int64_t(layer), Site(i));
      if (!recipe.activations.quantised || plan.low_bits == plan.high_bits)
        throw InputError("recipe " + recipe.name +
                         ": has one precision for activations, there is nothing to tune; "
                         "it needs activations with low_bits below high_bits, as w4a4kv4-stamp has");
      const double share = double(s.channels) / channels;
      result.fixed_bits += plan.mean_bits() * share;
      result.fixed_error += s.error(inspection.index_of({plan.transform, plan.levels}), plan.high_rows, true);
      decisions.push_back({int64_t(layer), Site(i), choices_of(inspection, s, share)});
    }
  }
  result.fixed_error /= double(decisions.size());
  choose(decisions, 1e30);
  if (bits_of(decisions) > budget + 1e-9)
    throw InputError("a budget of " + std::to_string(budget) + " bits is below the fewest possible, " +
                     std::to_string(bits_of(decisions)));
  // The price at which the bits asked for are just within the budget.
  double low = 0, high = 1e6;
  for (int step = 0; step < 200; ++step) {
    const double price = (low + high) / 2;
    choose(decisions, price);
    (bits_of(decisions) > budget + 1e-9 ? low : high) = price;
  }
  choose(decisions, high);
  fill(decisions, budget + 1e-9);
  result.recipe = recipe;
  result.error = error_of(decisions), result.bits = bits_of(decisions);
  if (result.fixed_bits <= budget + 1e-9 && result.fixed_error <= result.error) {
    result.error = result.fixed_error, result.bits = result.fixed_bits;
    return result;
  }
  result.recipe.name = recipe.name + "-tuned";
  for (const Decision& d : decisions) result.recipe.site_plans[{d.layer, d.site}] = d.choice().plan;
  return result;
}

}  // namespace stamp

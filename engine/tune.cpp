#include "engine/tune.h"

#include <algorithm>
#include <string>

#include "kernels/error.h"

namespace stamp {
namespace {

/// What one input of a linear could be given.
struct Choice {
  BitPlan plan;
  double loss = 0;  // predicted divergence, nats a token
  double bits = 0;  // the plan's mean bits, by the input's share of all channels
};

/// An input and its choices.
struct Decision {
  int64_t layer = 0;
  Site site{};
  std::vector<Choice> choices;  // fewest bits first, each with less loss than the one before
  size_t chosen = 0;
  const Choice& choice() const { return choices[chosen]; }
};

using Decisions = std::vector<Decision>;

double loss_of(const Decisions& all) {
  double sum = 0;
  for (const Decision& d : all) sum += d.choice().loss;
  return sum;
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
      if (d.choices[i].loss + price * d.choices[i].bits < d.choice().loss + price * d.choice().bits)
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
        const double gain = (d.choice().loss - d.choices[i].loss) / bits;
        if (bits <= left && gain > best_gain) best = &d, best_gain = gain, next = i;
      }
    if (best == nullptr) return;
    best->chosen = next;
  }
}

/// The divergence that one unit of an input's relative error costs. What was measured is a small difference
/// of means: where it drowned in them, an input counts as much as a tenth of its kind's mean.
double price_of_error(const Inspection& inspection, const Sensitivities& sensitivities, size_t layer,
                      int site) {
  double mean = 0;
  for (const auto& of_layer : sensitivities) mean += of_layer[size_t(site)] / double(sensitivities.size());
  const SourceStatistics& s = inspection.layers[layer][size_t(site)];
  const double error =
      s.product_error(inspection.index_of({SeqTransform::kIdentity}), BitPlan{.low_bits = s.plan.low_bits});
  return error > 0 ? std::max(sensitivities[layer][size_t(site)], mean / 10) / error : 0;
}

/// The choices of one input that no other beats in both loss and bits.
std::vector<Choice> choices_of(const Inspection& inspection, const SourceStatistics& s,
                               std::span<const Transform> transforms, double price, double share) {
  std::vector<Choice> all;
  for (const Transform& t : transforms) {
    const size_t index = inspection.index_of(t);
    const int low = s.plan.low_bits, high = s.plan.high_bits;
    for (int low_bits = std::max(2, low - 1); low_bits <= std::min(low + 1, high - 1); ++low_bits)
      for (int high_bits = low_bits + 1; high_bits <= high; ++high_bits)
        for (int rows = 0; rows <= kBlock; ++rows) {
          const BitPlan plan{t.kind, t.levels, rows, high_bits, low_bits};
          all.push_back({plan, s.product_error(index, plan) * price, plan.mean_bits() * share});
        }
  }
  std::stable_sort(all.begin(), all.end(), [](const Choice& a, const Choice& b) {
    return a.bits != b.bits ? a.bits < b.bits : a.loss < b.loss;
  });
  std::vector<Choice> best;
  for (const Choice& c : all)
    if (best.empty() || c.loss < best.back().loss) best.push_back(c);
  return best;
}

}  // namespace

std::vector<Transform> tuned_transforms() {
  std::vector<Transform> all{{SeqTransform::kIdentity}, {SeqTransform::kDct}, {SeqTransform::kWalshHadamard}};
  for (int levels = 1; levels <= 6; ++levels) all.push_back({SeqTransform::kHaar, levels});
  return all;
}

TuneResult tune(const Inspection& inspection, const Sensitivities& sensitivities, const Recipe& recipe,
                const TuneOptions& options) {
  const double budget = options.budget + 1e-9;
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
      const double price = price_of_error(inspection, sensitivities, layer, i);
      result.fixed_bits += plan.mean_bits() * share;
      result.fixed_loss += s.product_error(inspection.index_of({plan.transform, plan.levels}), plan) * price;
      decisions.push_back(
          {int64_t(layer), Site(i), choices_of(inspection, s, options.transforms, price, share)});
    }
  }
  choose(decisions, 1e30);
  if (bits_of(decisions) > budget)
    throw InputError("a budget of " + std::to_string(options.budget) +
                     " bits is below the fewest possible, " + std::to_string(bits_of(decisions)));
  // The price at which the bits asked for are just within the budget.
  double low = 0, high = 1e6;
  for (int step = 0; step < 200; ++step) {
    const double price = (low + high) / 2;
    choose(decisions, price);
    (bits_of(decisions) > budget ? low : high) = price;
  }
  choose(decisions, high);
  fill(decisions, budget);
  result.recipe = recipe;
  result.loss = loss_of(decisions), result.bits = bits_of(decisions);
  if (result.fixed_bits <= budget && result.fixed_loss <= result.loss) {
    result.loss = result.fixed_loss, result.bits = result.fixed_bits;
    return result;
  }
  result.recipe.name = recipe.name + "-tuned";
  for (const Decision& d : decisions) result.recipe.site_plans[{d.layer, d.site}] = d.choice().plan;
  return result;
}

}  // namespace stamp

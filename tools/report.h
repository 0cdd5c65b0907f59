#pragma once
#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/inspect.h"

namespace stamp {

/// A result of `stamp perplexity --json`.
struct PerplexityRow {
  std::string recipe, protocol;
  double ppl = 0, ppl_stderr = 0, activation_bits = 0, kv_bits = 0, weight_bits = 0;
  int64_t tokens = 0, context = 0;

  /// Throws InputError naming the file and the field.
  static PerplexityRow load(const std::filesystem::path& file);
};

struct Report {
  std::string model;
  Recipe recipe;
  Inspection inspection;                                     // of report_transforms(recipe)
  std::vector<std::array<double, kMatrices>> weight_errors;  // [layers]; empty: not measured
  std::string no_weight_errors;                              // why not
  std::vector<PerplexityRow> perplexities;
};

/// Identity, Haar, DCT and Walsh-Hadamard, then whatever else the recipe's plans use.
std::vector<Transform> report_transforms(const Recipe& recipe, int64_t layers);

/// One page that needs nothing else: drawings inside, no script, no network.
std::string html_report(const Report& report);

}  // namespace stamp

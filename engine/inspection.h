#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/quant_format.h"
#include "models/recipe.h"

namespace stamp {

/// What a layer has quantised: the inputs of its linears (the first four are Site's), its keys after RoPE and
/// rotation, and its values.
enum class Source : uint8_t { kAttention, kAttended, kFeedForward, kGated, kKeys, kValues };
inline constexpr int kSources = 6;
/// site_name(), "keys", "values"
const char* source_name(Source source);

/// A sequence transform that is compared with others.
struct Transform {
  SeqTransform kind = SeqTransform::kIdentity;
  int levels = 5;  // of Haar
  bool operator==(const Transform&) const = default;
};
/// "identity", "haar 5", "dct", "walsh-hadamard"
std::string transform_text(const Transform& transform);

/// Squared errors of a transform's coefficients by their index, summed over blocks and channels. Every row
/// has a scale of its own, so one row's error does not depend on the others' bits.
struct RowErrors {
  std::array<double, kBlock> low{}, high{};  // at the plan's low_bits and high_bits
  std::array<double, kBlock> product{};      // of the products of the rows with the weights, at low_bits
};

struct SourceStatistics {
  int64_t channels = 0;
  BitPlan plan;                   // the recipe's
  std::vector<double> gram;       // [kBlock, kBlock]: sum of X X^T over blocks X [kBlock, channels]
  std::vector<RowErrors> errors;  // by transform, as Inspection::transforms
  double product_power = 0;       // sum of squares of X W^T over the products of this input; 0: not measured

  /// Sum of squares of all values.
  double power() const;
  /// Mean over blocks and token pairs of x_t x_{t+lag} over that of x_t^2, channels by their energy; 1 if
  /// tokens do not change. lag < kBlock.
  double autocorrelation(int64_t lag) const;
  /// Squared error over power if the first `high_rows` coefficients have high_bits.
  double error(size_t transform, int high_rows) const;
  /// The same of the products, for a plan with any bits, whose transform is the one given: what was measured
  /// at low_bits falls with the square of the quantisation step, a row's range over 2^bits - 1.
  double product_error(size_t transform, const BitPlan& of) const;
};

/// Statistics of a model's activations over the whole blocks of a text, every sequence's block 0 left out: it
/// holds the attention sink and always has 8 bits. The model itself runs in floats.
struct Inspection {
  std::vector<Transform> transforms;
  std::vector<std::vector<double>> matrices;  // [transforms][kBlock, kBlock]: L, row = coefficient
  std::vector<std::array<SourceStatistics, kSources>> layers;  // [layers][Source]
  int64_t tokens = 0, blocks = 0;                              // that ran; that were measured

  /// Each coefficient's share of the energy, times kBlock: 1 everywhere if energy is spread evenly. Sums to
  /// kBlock.
  std::array<double, kBlock> energy(const SourceStatistics& source, size_t transform) const;
  /// The index of a transform; throws Error if it was not measured.
  size_t index_of(const Transform& transform) const;
};

/// Decibels of a ratio of error to power: 10 log10(power / error), at most 120.
double sqnr_db(double nmse);

}  // namespace stamp

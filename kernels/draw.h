#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>

#include "kernels/quant_format.h"

/// Drawing a token, for host and device alike, to the same bits: weights are integers, whose sums do not
/// depend on an order, and what is not an integer are single operations of IEEE 754.
namespace stamp {

/// One token to be drawn from a row of logits. Temperature, top-k, top-p (of what top-k left) and min-p apply
/// in this order; the likeliest tokens come first, and among equals the lowest ids.
struct Draw {
  float temperature = 1.0f;  // > 0
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0f;        // (0, 1]
  float min_p = 0.0f;        // [0, 1]: keep weights of at least min_p times the largest
  double uniform = 0.0;      // [0, 1): where in the distribution
  int64_t row = 0;           // of the logits

  /// The least sum of weights that top-p keeps, of `total`: by a product in double, as the next.
  STAMP_INLINE uint64_t nucleus(uint64_t total) const {
    const auto least = uint64_t(ceil(double(top_p) * double(total)));
    return least < total ? least : total;
  }
  /// The first token, in the order of ids, is drawn whose running sum of weights reaches this, of `total`.
  STAMP_INLINE uint64_t drawn(uint64_t total) const {
    const auto below = uint64_t(uniform * double(total));
    return below < total ? below + 1 : total;
  }
  /// The least weight that min-p keeps.
  STAMP_INLINE uint64_t least_weight() const { return uint64_t(ceil(double(min_p) * 0x1p40)); }
};

/// Most tokens in a vocabulary: their weights sum to less than 2^64, their ids fit into places.
inline constexpr int kIdBits = 23;
inline constexpr int64_t kMostDrawnFrom = int64_t{1} << kIdBits;

/// 2^40 e^x for x <= 0, rounded to an integer: within one of it. Of multiplications and additions alone,
/// since devices' exp() differ; the code must be compiled without contraction.
STAMP_INLINE uint64_t scaled_exp(double x) {
  if (!(x > -28.5)) return 0;
  // e^x = 2^-halvings e^r, |r| <= ln(2) / 2, by Taylor's series, whose next term is below 2^-47.
  const int halvings = int(0.5 - x * 1.4426950408889634);
  const double r = x + halvings * 0.6931471805599453, r2 = r * r, r4 = r2 * r2;
  const double first = (1.0 + r) + r2 * (0.5 + r * (1.0 / 6)),
               second = (1.0 / 24 + r * (1.0 / 120)) + r2 * (1.0 / 720 + r * (1.0 / 5040)),
               third = (1.0 / 40320 + r * (1.0 / 362880)) + r2 * (1.0 / 3628800 + r * (1.0 / 39916800));
  const double e = first + r4 * (second + r4 * third);
  return ((uint64_t(int64_t(e * 0x1p41)) >> halvings) + 1) >> 1;
}

/// A token's weight: e^((logit - peak) / temperature) in units of 2^-40. `peak` is the row's largest logit, a
/// finite number; a logit of minus infinity weighs nothing.
class DrawWeights {
 public:
  STAMP_INLINE DrawWeights(float peak, float temperature) : peak_(peak), factor_(1.0 / double(temperature)) {}
  STAMP_INLINE uint64_t operator()(float logit) const {
    return scaled_exp((double(logit) - peak_) * factor_);
  }

 private:
  double peak_, factor_;
};

/// The place of a token in the order of likelihood, the lowest for the likeliest: its logit's bits above its
/// id.
STAMP_INLINE uint64_t place_of(float logit, uint32_t id) {
  const float unsigned_zero = logit + 0.0f;
  uint32_t bits = 0;
  memcpy(&bits, &unsigned_zero, sizeof(bits));
  if (bits >> 31 == 0) bits ^= 0x7fffffffu;
  return uint64_t{bits} << kIdBits | id;
}
STAMP_INLINE uint32_t id_at(uint64_t place) { return uint32_t(place) & uint32_t(kMostDrawnFrom - 1); }
STAMP_INLINE float logit_at(uint64_t place) {
  auto bits = uint32_t(place >> kIdBits);
  if (bits >> 31 == 0) bits ^= 0x7fffffffu;
  float logit = 0;
  memcpy(&logit, &bits, sizeof(logit));
  return logit;
}

/// The token that `draw` takes from `logits`, the largest of which is a finite number and none of which is
/// NaN. `scratch` is twice as long, or more.
int32_t draw_token(std::span<const float> logits, const Draw& draw, std::span<uint64_t> scratch);

}  // namespace stamp

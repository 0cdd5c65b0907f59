#include "engine/inspection.h"

#include <cmath>

#include "kernels/error.h"

namespace stamp {

const char* source_name(Source source) {
  if (int(source) < kSites) return site_name(Site(source));
  return source == Source::kKeys ? "keys" : "values";
}

std::string transform_text(const Transform& transform) {
  switch (transform.kind) {
    case SeqTransform::kIdentity:
      return "identity";
    case SeqTransform::kHaar:
      return "haar " + std::to_string(transform.levels);
    case SeqTransform::kDct:
      return "dct";
    case SeqTransform::kWalshHadamard:
      return "walsh-hadamard";
  }
  return {};
}

double SourceStatistics::power() const {
  double sum = 0;
  for (int64_t t = 0; t < kBlock; ++t) sum += gram[size_t(t * kBlock + t)];
  return sum;
}

double SourceStatistics::autocorrelation(int64_t lag) const {
  double sum = 0, squares = 0;
  for (int64_t t = 0; t + lag < kBlock; ++t) {
    sum += gram[size_t(t * kBlock + t + lag)];
    squares += (gram[size_t(t * kBlock + t)] + gram[size_t((t + lag) * (kBlock + 1))]) / 2;
  }
  return squares > 0 ? sum / squares : 0;
}

double SourceStatistics::error(size_t transform, int high_rows) const {
  const RowErrors& e = errors[transform];
  double sum = 0;
  for (int64_t r = 0; r < kBlock; ++r) sum += r < high_rows ? e.high[size_t(r)] : e.low[size_t(r)];
  return power() > 0 ? sum / power() : 0;
}

double SourceStatistics::product_error(size_t transform, const BitPlan& of) const {
  const auto square_of_steps = [this](int bits) {
    return std::pow((std::exp2(bits) - 1) / double(kept_range(bits, channels)), 2);
  };
  const double high = square_of_steps(of.high_bits), low = square_of_steps(of.low_bits);
  double sum = 0;
  for (int64_t r = 0; r < kBlock; ++r)
    sum += errors[transform].product[size_t(r)] / (r < of.high_rows ? high : low);
  return product_power > 0 ? sum * square_of_steps(plan.low_bits) / product_power : 0;
}

std::array<double, kBlock> Inspection::energy(const SourceStatistics& source, size_t transform) const {
  const std::vector<double>& l = matrices[transform];
  const double mean = source.power() / double(kBlock);
  std::array<double, kBlock> energy{};
  for (int64_t k = 0; k < kBlock; ++k) {
    double sum = 0;  // row k of L G L^T, its diagonal entry
    for (int64_t t = 0; t < kBlock; ++t)
      for (int64_t u = 0; u < kBlock; ++u)
        sum += l[size_t(k * kBlock + t)] * source.gram[size_t(t * kBlock + u)] * l[size_t(k * kBlock + u)];
    energy[size_t(k)] = mean > 0 ? sum / mean : 0;
  }
  return energy;
}

size_t Inspection::index_of(const Transform& transform) const {
  for (size_t t = 0; t < transforms.size(); ++t)
    if (transforms[t].kind == transform.kind &&
        (transform.kind != SeqTransform::kHaar || transforms[t].levels == transform.levels))
      return t;
  throw Error("transform " + transform_text(transform) + " was not measured");
}

double sqnr_db(double nmse) { return nmse > 1e-12 ? -10 * std::log10(nmse) : 120; }

}  // namespace stamp

#pragma once
#include <vector>

#include "kernels/pack.h"
#include "kernels/thread_pool.h"
#include "models/prepare/dense_layer.h"

namespace stamp {

/// Second moments X^T X of a linear's input channels over calibration tokens.
struct Hessian {
  int64_t size = 0;
  std::vector<double> values;  // [size, size], upper triangle

  explicit Hessian(int64_t size) : size(size), values(size_t(size * size), 0.0) {}
  /// Adds rows [count, size]. The same bits for any number of threads.
  void add(const float* rows, int64_t count, ThreadPool& pool);
};

/// What GPTQ needs of a Hessian: the damped moments, the order in which channels are quantised, most energy
/// first, and the upper Cholesky factor of the inverse in that order (Frantar et al., arXiv 2210.17323,
/// algorithm 1).
struct GptqPlan {
  std::vector<double> moments;  // [size, size]
  std::vector<int64_t> order;   // [size]
  std::vector<double> factor;   // [size, size]

  /// Damping is raised until the factorisation succeeds.
  static GptqPlan from(Hessian hessian);
};

/// Quantises one matrix whose input has this plan: after each channel, the rounding errors are made up for in
/// the channels still to come; then some sweeps of coordinate descent over all codes lower what is left of
/// the product's error (as QuantEase does, arXiv 2309.01885). 4-bit grids are fixed beforehand. Rows are
/// independent, so threads change nothing.
PackedWeight quantize_gptq(DenseMatrix& weight, const GptqPlan& plan, int bits, int64_t group, bool symmetric,
                           ThreadPool& pool);

}  // namespace stamp

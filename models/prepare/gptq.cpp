#include "models/prepare/gptq.h"

#include <cblas.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/error.h"
#include "kernels/half.h"
#include "models/prepare/quantize.h"

extern "C" {
// LAPACK, as OpenBLAS exports it. Column-major; "U" of theirs is the lower triangle of our row-major matrix.
void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);
void dpotri_(const char* uplo, const int* n, double* a, const int* lda, int* info);
}

namespace stamp {
namespace {

constexpr double kDamping = 0.01;  // of the mean energy, as in the paper

/// One thread: the same bits whatever the machine. Set once, since setting it is not thread-safe.
void use_one_blas_thread() { [[maybe_unused]] static const bool set = (openblas_set_num_threads(1), true); }

void mirror_upper(std::vector<double>& m, int64_t n) {
  for (int64_t r = 0; r < n; ++r)
    for (int64_t c = r + 1; c < n; ++c) m[size_t(c * n + r)] = m[size_t(r * n + c)];
}

}  // namespace

void Hessian::add(const float* rows, int64_t count) {
  use_one_blas_thread();
  std::vector<float> sums(size_t(size * size), 0.0f);  // of one chunk; doubles carry the rest
  cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, int(size), int(count), 1.0f, rows, int(size), 0.0f,
              sums.data(), int(size));
  for (size_t i = 0; i < values.size(); ++i) values[i] += double(sums[i]);
}

GptqPlan GptqPlan::from(const Hessian& hessian) {
  const int64_t n = hessian.size;
  const auto at = [&](int64_t r, int64_t c) {
    return hessian.values[size_t(std::min(r, c) * n + std::max(r, c))];
  };
  GptqPlan plan;
  plan.energy.resize(size_t(n));
  for (int64_t i = 0; i < n; ++i) plan.energy[size_t(i)] = at(i, i);
  plan.order.resize(size_t(n));
  std::iota(plan.order.begin(), plan.order.end(), 0);
  std::stable_sort(plan.order.begin(), plan.order.end(),
                   [&](int64_t a, int64_t b) { return plan.energy[size_t(a)] > plan.energy[size_t(b)]; });
  const double mean = std::accumulate(plan.energy.begin(), plan.energy.end(), 0.0) / double(n);
  use_one_blas_thread();
  const int size = int(n);
  for (double damping = kDamping; damping < 1e3; damping *= 10) {
    std::vector<double>& m = plan.factor;
    m.resize(size_t(n * n));
    for (int64_t r = 0; r < n; ++r)
      for (int64_t c = 0; c < n; ++c)
        m[size_t(r * n + c)] =
            at(plan.order[size_t(r)], plan.order[size_t(c)]) + (r == c ? damping * mean + 1e-30 : 0.0);
    int info = 0;
    dpotrf_("L", &size, m.data(), &size, &info);
    if (info == 0) dpotri_("L", &size, m.data(), &size, &info);  // the inverse, in our upper triangle
    if (info != 0) continue;
    mirror_upper(m, n);
    dpotrf_("L", &size, m.data(), &size, &info);  // column-major lower L, L L^T: our upper factor
    if (info == 0) return plan;
  }
  throw Error("GPTQ: the calibration activations have no usable second moments");
}

PackedWeight quantize_gptq(DenseMatrix& weight, const GptqPlan& plan, int bits, int64_t group, bool symmetric,
                           ThreadPool& pool) {
  const int64_t n = weight.cols;
  PackedWeight packed = make_packed(bits == 4 ? DType::kQ4 : DType::kQ8, weight.rows, n, group);
  pool.parallel_for(packed.view.panels(), [&](int64_t panel, int) {
    std::vector<int8_t> codes(static_cast<size_t>(n));
    std::vector<uint16_t> scale(size_t(packed.view.groups()), 0);
    std::vector<uint8_t> zero(scale.size(), 0);
    std::vector<GroupGrid> grids(scale.size());
    std::vector<double> w(static_cast<size_t>(n));  // in the plan's order
    for (int64_t r = panel * kPanel; r < std::min(weight.rows, (panel + 1) * kPanel); ++r) {
      const std::span<const double> row(weight.row(r), size_t(n));
      if (bits == 8) scale[0] = row_scale(row);
      for (int64_t g = 0; bits == 4 && g * group < n; ++g) {
        const auto count = size_t(std::min(group, n - g * group));
        grids[size_t(g)] =
            GroupGrid::fit(row.subspan(size_t(g * group), count),
                           std::span(plan.energy).subspan(size_t(g * group), count), symmetric);
        scale[size_t(g)] = grids[size_t(g)].scale, zero[size_t(g)] = grids[size_t(g)].zero;
      }
      const double row_step = f16_to_f32(scale[0]);
      for (int64_t i = 0; i < n; ++i) w[size_t(i)] = row[size_t(plan.order[size_t(i)])];
      for (int64_t i = 0; i < n; ++i) {
        const int64_t channel = plan.order[size_t(i)];
        double value = 0;
        if (bits == 4) {
          const GroupGrid& grid = grids[size_t(channel / group)];
          codes[size_t(channel)] = int8_t(grid.code(w[size_t(i)]));
          value = grid.value(codes[size_t(channel)]);
        } else {
          codes[size_t(channel)] = int8_t(row_code(w[size_t(i)], float(row_step)));
          value = row_step * codes[size_t(channel)];
        }
        const double* factor = plan.factor.data() + i * n;
        const double error = (w[size_t(i)] - value) / factor[i];
        for (int64_t j = i + 1; j < n; ++j) w[size_t(j)] -= error * factor[j];
      }
      pack_row(packed, r, codes, scale, zero);
    }
  });
  return packed;
}

}  // namespace stamp

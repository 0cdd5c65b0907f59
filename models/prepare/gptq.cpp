#include "models/prepare/gptq.h"

#include <cblas.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "kernels/error.h"
#include "models/prepare/quantize.h"

extern "C" {
// LAPACK, as OpenBLAS exports it. Column-major; "U" of theirs is the lower triangle of our row-major matrix.
void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);
void dpotri_(const char* uplo, const int* n, double* a, const int* lda, int* info);
}

namespace stamp {
namespace {

constexpr double kDamping = 0.01;  // of the mean energy, as in the paper
constexpr int64_t kStrip = 64;     // rows of a Hessian that a task adds to

/// One thread: the same bits whatever the machine. Set once, since setting it is not thread-safe.
void use_one_blas_thread() { [[maybe_unused]] static const bool set = (openblas_set_num_threads(1), true); }

void mirror_upper(std::vector<double>& m, int64_t n) {
  for (int64_t r = 0; r < n; ++r)
    for (int64_t c = r + 1; c < n; ++c) m[size_t(c * n + r)] = m[size_t(r * n + c)];
}

}  // namespace

void Hessian::add(const float* rows, int64_t count, ThreadPool& pool) {
  use_one_blas_thread();
  // A strip of rows of the triangle at a time, the long ones first.
  pool.parallel_for(divide_up(size, kStrip), [&](int64_t strip, int) {
    const int64_t begin = strip * kStrip, height = std::min(kStrip, size - begin), width = size - begin;
    std::vector<float> sums(size_t(height * width));  // of one chunk; doubles carry the rest
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, int(height), int(width), int(count), 1.0f,
                rows + begin, int(size), rows + begin, int(size), 0.0f, sums.data(), int(width));
    for (int64_t r = 0; r < height; ++r) {
      double* row = values.data() + (begin + r) * size + begin;
      for (int64_t c = r; c < width; ++c) row[c] += double(sums[size_t(r * width + c)]);
    }
  });
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
    // A panel's rows go through the factor together, which is read once for them all.
    const int64_t first = panel * kPanel, rows = std::min(kPanel, weight.rows - first);
    std::vector<int8_t> codes(size_t(kPanel * n));
    std::vector<RowGrid> grids(size_t(rows), RowGrid{});
    std::vector<double> w(size_t(n * kPanel), 0.0);  // [channels in the plan's order, rows]
    for (int64_t r = 0; r < rows; ++r) {
      const std::span<const double> row(weight.row(first + r), size_t(n));
      if (bits == 4) grids[size_t(r)] = RowGrid::fit(row, plan.energy, group, symmetric);
      else grids[size_t(r)].scale = row_scale(row);
      for (int64_t i = 0; i < n; ++i) w[size_t(i * kPanel + r)] = row[size_t(plan.order[size_t(i)])];
    }
    for (int64_t i = 0; i < n; ++i) {
      const int64_t channel = plan.order[size_t(i)];
      const double* factor = plan.factor.data() + i * n;
      std::array<double, kPanel> error{};
      for (int64_t r = 0; r < rows; ++r) {
        const double exact = w[size_t(i * kPanel + r)];
        const RowGrid& row = grids[size_t(r)];
        int8_t& code = codes[size_t(r * n + channel)];
        double value = 0;
        if (bits == 4) {
          const GroupGrid grid = row.of_group(channel / group);
          code = int8_t(grid.code(exact));
          value = grid.value(code);
        } else {
          code = int8_t(row_code(exact, row.scale));
          value = double(row.scale) * code;
        }
        error[size_t(r)] = (exact - value) / factor[i];
      }
      for (int64_t j = i + 1; j < n; ++j)
        for (int64_t r = 0; r < kPanel; ++r) w[size_t(j * kPanel + r)] -= error[size_t(r)] * factor[j];
    }
    for (int64_t r = 0; r < rows; ++r) {
      const RowGrid& row = grids[size_t(r)];
      pack_row(packed, first + r, std::span(codes).subspan(size_t(r * n), size_t(n)), row.scale,
               row.group_scale, row.zero);
    }
  });
  return packed;
}

}  // namespace stamp

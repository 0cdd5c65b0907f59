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
constexpr int kSweeps = 4;         // of the descent: more gain little
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

GptqPlan GptqPlan::from(Hessian hessian) {
  const int64_t n = hessian.size;
  mirror_upper(hessian.values, n);
  GptqPlan plan;
  plan.moments = std::move(hessian.values);
  const auto energy = [&](int64_t i) -> double& { return plan.moments[size_t(i * n + i)]; };
  plan.order.resize(size_t(n));
  std::iota(plan.order.begin(), plan.order.end(), 0);
  std::stable_sort(plan.order.begin(), plan.order.end(),
                   [&](int64_t a, int64_t b) { return energy(a) > energy(b); });
  double mean = 0;
  for (int64_t i = 0; i < n; ++i) mean += energy(i) / double(n);
  use_one_blas_thread();
  const int size = int(n);
  double damped = 0;
  for (double damping = kDamping; damping < 1e3; damping *= 10) {
    const double more = damping * mean + 1e-30 - damped;
    for (int64_t i = 0; i < n; ++i) energy(i) += more;
    damped += more;
    std::vector<double>& m = plan.factor;
    m.resize(size_t(n * n));
    for (int64_t r = 0; r < n; ++r)
      for (int64_t c = 0; c < n; ++c)
        m[size_t(r * n + c)] = plan.moments[size_t(plan.order[size_t(r)] * n + plan.order[size_t(c)])];
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

namespace {

/// Rows of one panel on their way to codes, together: whatever they read of the plan is read once.
class Panel {
 public:
  Panel(DenseMatrix& weight, const GptqPlan& plan, int bits, int64_t group, bool symmetric, int64_t first)
      : plan_(plan),
        bits_(bits),
        n_(weight.cols),
        first_(first),
        rows_(std::min(kPanel, weight.rows - first)),
        exact_(weight.row(first)),
        codes_(size_t(rows_ * n_)),
        errors_(codes_.size()) {
    for (int64_t r = 0; r < rows_; ++r) {
      const std::span<const double> row(exact_ + r * n_, size_t(n_));
      grids_.push_back(bits == 4 ? RowGrid::fit(row, group, symmetric) : RowGrid{.scale = row_scale(row)});
    }
  }

  /// GPTQ: channel after channel takes the nearest code, and those still to come make up for its error.
  void round_in_order() {
    std::vector<double> w(size_t(n_ * kPanel), 0.0);  // [channels in the plan's order, rows]
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t r = 0; r < rows_; ++r) w[size_t(i * kPanel + r)] = exact_[r * n_ + plan_.order[size_t(i)]];
    for (int64_t i = 0; i < n_; ++i) {
      const double* factor = plan_.factor.data() + i * n_;
      std::array<double, kPanel> error{};
      for (int64_t r = 0; r < rows_; ++r) {
        const double wanted = w[size_t(i * kPanel + r)];
        error[size_t(r)] = (wanted - take_nearest(r, plan_.order[size_t(i)], wanted)) / factor[i];
      }
      for (int64_t j = i + 1; j < n_; ++j)
        for (int64_t r = 0; r < kPanel; ++r) w[size_t(j * kPanel + r)] -= error[size_t(r)] * factor[j];
    }
  }

  /// Coordinate descent: channel after channel takes the code that is best as long as the others stay.
  void descend() {
    std::vector<double> slopes(errors_.size());  // errors times moments
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, int(rows_), int(n_), int(n_), 1.0, errors_.data(),
                int(n_), plan_.moments.data(), int(n_), 0.0, slopes.data(), int(n_));
    for (int sweep = 0; sweep < kSweeps; ++sweep) {
      for (const int64_t channel : plan_.order) {
        const double* moments = plan_.moments.data() + channel * n_;
        for (int64_t r = 0; r < rows_; ++r) {
          double* slope = slopes.data() + r * n_;
          const double before = errors_[size_t(r * n_ + channel)];
          const double wanted = exact_[r * n_ + channel] + before - slope[channel] / moments[channel];
          take_nearest(r, channel, wanted);
          const double change = errors_[size_t(r * n_ + channel)] - before;
          if (change == 0) continue;
          for (int64_t j = 0; j < n_; ++j) slope[j] += change * moments[j];
        }
      }
    }
  }

  void pack(PackedWeight& packed) const {
    for (int64_t r = 0; r < rows_; ++r) {
      const RowGrid& grid = grids_[size_t(r)];
      pack_row(packed, first_ + r, std::span(codes_).subspan(size_t(r * n_), size_t(n_)), grid.scale,
               grid.group_scale, grid.zero);
    }
  }

 private:
  /// The code whose value is nearest to `wanted`; returns the value.
  double take_nearest(int64_t r, int64_t channel, double wanted) {
    const RowGrid& grid = grids_[size_t(r)];
    const auto at = size_t(r * n_ + channel);
    double value = 0;
    if (bits_ == 4) {
      const GroupGrid group = grid.of_group(channel / grid.group);
      codes_[at] = int8_t(group.code(wanted));
      value = group.value(codes_[at]);
    } else {
      codes_[at] = int8_t(row_code(wanted, grid.scale));
      value = double(grid.scale) * codes_[at];
    }
    errors_[at] = value - exact_[at];
    return value;
  }

  const GptqPlan& plan_;
  int bits_;
  int64_t n_, first_, rows_;
  const double* exact_;         // [rows, channels]
  std::vector<int8_t> codes_;   // [rows, channels]
  std::vector<double> errors_;  // of the codes' values
  std::vector<RowGrid> grids_;
};

}  // namespace

PackedWeight quantize_gptq(DenseMatrix& weight, const GptqPlan& plan, int bits, int64_t group, bool symmetric,
                           ThreadPool& pool) {
  use_one_blas_thread();
  PackedWeight packed = make_packed(bits == 4 ? DType::kQ4 : DType::kQ8, weight.rows, weight.cols, group);
  pool.parallel_for(packed.view.panels(), [&](int64_t i, int) {
    Panel panel(weight, plan, bits, group, symmetric, i * kPanel);
    panel.round_in_order();
    panel.descend();
    panel.pack(packed);
  });
  return packed;
}

}  // namespace stamp

#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <variant>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/cpu/kernels.h"
#include "kernels/thread_pool.h"
#include "kernels/views.h"

namespace stamp {

template <class T>
void reserve(Buffer<T>& buffer, int64_t size) {
  if (buffer.size() < size) buffer = Buffer<T>(size);
}

/// Elementwise work below this is done before a worker would wake.
constexpr int64_t kSerialFloats = 16384;

/// body(row, thread) for all rows, on the pool if `rows * floats_per_row` is worth waking it.
template <class Body>
void pool_for_rows(ThreadPool& pool, int64_t rows, int64_t floats_per_row, const Body& body) {
  if (rows * floats_per_row < kSerialFloats) {
    for (int64_t r = 0; r < rows; ++r) body(r, 0);
    return;
  }
  const int64_t span = std::max<int64_t>(1, kSerialFloats / 2 / floats_per_row);
  pool.parallel_for(divide_up(rows, span), [&](int64_t item, int thread) {
    for (int64_t r = item * span; r < std::min(rows, (item + 1) * span); ++r) body(r, thread);
  });
}

// Operations of Ops in which a row meets no other row, but for the blocks of a transform.
struct NormStep {
  Mat<float> out;
  Mat<const float> in;
  const float* gain;
  float eps;
};
struct AddStep {
  Mat<float> x;
  Mat<const float> y;
};
struct SiluStep {
  Mat<float> gate;
  Mat<const float> up;
};
struct RopeStep {
  Mat<float> x;
  Mat<const float> cos, sin;
};
struct RotateStep {
  Mat<float> x;
  RotationView rotation;
  bool inverse;
};
struct QuantizeStep {
  QuantMat out;
  Mat<const float> in;
  bool uses_up;  // `in`: there is room for coefficients
};
using RowStep = std::variant<NormStep, AddStep, SiluStep, RopeStep, RotateStep, QuantizeStep>;

/// Such operations, called one after the other, as one loop over the rows: what one of them writes the next
/// one finds in a core's cache, and threads meet once. The views' memory must stay until run().
class RowSteps {
 public:
  /// `scratch`: a buffer for each thread, which others may use between calls.
  RowSteps(const CpuKernels& kernels, ThreadPool& pool, std::vector<Buffer<float>>& scratch)
      : kernels_(kernels), pool_(pool), scratch_(scratch) {}

  /// Takes a step to those that wait, or first does them, where it reads or writes other rows of theirs.
  void add(const RowStep& step);
  /// Does what waits.
  void run();

 private:
  /// Rows of memory that a step reads or writes.
  struct Region {
    const std::byte* begin = nullptr;
    int64_t row_bytes = 0, pitch = 0;
    bool written = false;
  };
  using Regions = std::array<Region, 4>;

  static Regions regions_of(const RowStep& step);
  bool keeps_apart(const Regions& regions) const;
  void do_row(const RowStep& step, int64_t row, int thread);
  void rotate_row(float* row, const RotateStep& step, float* mixed) const;
  void quantize_row(const QuantizeStep& step, int64_t row, const float* values, int bits) const;
  void quantize_block(const QuantizeStep& step, int64_t first, int thread) const;

  const CpuKernels& kernels_;
  ThreadPool& pool_;
  std::vector<Buffer<float>>& scratch_;
  std::vector<RowStep> steps_;
  std::vector<Regions> regions_;  // of each
  int64_t rows_ = 0;              // of all
};

}  // namespace stamp

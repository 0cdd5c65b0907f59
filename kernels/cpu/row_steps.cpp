#include "kernels/cpu/row_steps.h"

#include <algorithm>
#include <cmath>

namespace stamp {
namespace {

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

int64_t rows_of(const RowStep& step) {
  return std::visit(
      Overloaded{[](const NormStep& s) { return s.in.rows; }, [](const AddStep& s) { return s.x.rows; },
                 [](const SiluStep& s) { return s.gate.rows; }, [](const RopeStep& s) { return s.x.rows; },
                 [](const RotateStep& s) { return s.x.rows; },
                 [](const QuantizeStep& s) { return s.in.rows; }},
      step);
}

/// What a row costs, in floats that are read.
int64_t floats_of(const RowStep& step) {
  return std::visit(
      Overloaded{[](const NormStep& s) { return s.in.cols; }, [](const AddStep& s) { return s.x.cols; },
                 [](const SiluStep& s) { return 4 * s.gate.cols; },
                 [](const RopeStep& s) { return s.x.cols; }, [](const RotateStep& s) { return 8 * s.x.cols; },
                 [](const QuantizeStep& s) { return s.in.cols; }},
      step);
}

int64_t scratch_floats(const RowStep& step) {
  if (const auto* rotate = std::get_if<RotateStep>(&step)) return rotate->x.cols;
  const auto* quantize = std::get_if<QuantizeStep>(&step);
  if (quantize != nullptr && !quantize->uses_up) return kBlock * spread_stride(quantize->in.cols);
  return 0;
}

}  // namespace

void RowSteps::add(const RowStep& step) {
  const Regions regions = regions_of(step);
  const int64_t rows = rows_of(step);
  if (!steps_.empty() && (rows != rows_ || !keeps_apart(regions))) run();
  rows_ = rows;
  steps_.push_back(step);
  regions_.push_back(regions);
  if (std::holds_alternative<QuantizeStep>(step)) run();  // a product follows
}

void RowSteps::run() {
  if (steps_.empty()) return;
  for (const RowStep& step : steps_)
    for (auto& scratch : scratch_) reserve(scratch, scratch_floats(step));
  const auto* quantize = std::get_if<QuantizeStep>(&steps_.back());
  if (quantize != nullptr && std::ranges::any_of(quantize->out.tiles, &RowTile::coded)) {
    pool_.parallel_for(int64_t(quantize->out.tiles.size()), [&](int64_t item, int thread) {
      const RowTile& tile = quantize->out.tiles[size_t(item)];
      const size_t by_rows = steps_.size() - (tile.coded ? 1 : 0);
      for (int64_t r = tile.row; r < tile.row + tile.count; ++r)
        for (size_t i = 0; i < by_rows; ++i) do_row(steps_[i], r, thread);
      if (tile.coded) quantize_block(*quantize, tile.row, thread);
    });
  } else {
    int64_t floats = 0;
    for (const RowStep& step : steps_) floats += floats_of(step);
    pool_for_rows(pool_, rows_, floats, [&](int64_t r, int thread) {
      for (const RowStep& step : steps_) do_row(step, r, thread);
    });
  }
  steps_.clear();
  regions_.clear();
}

RowSteps::Regions RowSteps::regions_of(const RowStep& step) {
  const auto region = [](const auto& mat, bool written) {
    constexpr int64_t kSize = sizeof(*mat.data);
    return Region{reinterpret_cast<const std::byte*>(mat.data), mat.cols * kSize, mat.stride * kSize,
                  written};
  };
  return std::visit(
      Overloaded{[&](const NormStep& s) {
                   return Regions{region(s.out, true), region(s.in, false)};
                 },
                 [&](const AddStep& s) {
                   return Regions{region(s.x, true), region(s.y, false)};
                 },
                 [&](const SiluStep& s) {
                   return Regions{region(s.gate, true), region(s.up, false)};
                 },
                 [&](const RopeStep& s) {
                   return Regions{region(s.x, true), region(s.cos, false), region(s.sin, false)};
                 },
                 [&](const RotateStep& s) { return Regions{region(s.x, true)}; },
                 [&](const QuantizeStep& s) {
                   const auto column = [&](float* data) { return Mat<float>{data, s.in.rows, 1, 1}; };
                   return Regions{region(Mat<uint8_t>{s.out.q, s.in.rows, s.out.stride, s.out.stride}, true),
                                  region(column(s.out.scale), true), region(column(s.out.offset), true),
                                  region(s.in, s.uses_up)};
                 }},
      step);
}

/// Whether each region is apart from those of the steps that wait, or the same rows, unless both are only
/// read.
bool RowSteps::keeps_apart(const Regions& regions) const {
  const auto end = [&](const Region& region) {
    return region.begin + (rows_ - 1) * region.pitch + region.row_bytes;
  };
  for (const Regions& others : regions_)
    for (const Region& a : others)
      for (const Region& b : regions) {
        const bool same = a.begin == b.begin && a.pitch == b.pitch;
        if ((a.written || b.written) && !same && a.begin < end(b) && b.begin < end(a)) return false;
      }
  return true;
}

void RowSteps::do_row(const RowStep& step, int64_t r, int thread) {
  std::visit(
      Overloaded{
          [&](const NormStep& s) { kernels_.rms_norm(s.out.row(r), s.in.row(r), s.gain, s.in.cols, s.eps); },
          [&](const AddStep& s) { kernels_.add(s.x.row(r), s.y.row(r), s.x.cols); },
          [&](const SiluStep& s) { kernels_.silu_mul(s.gate.row(r), s.up.row(r), s.gate.cols); },
          [&](const RopeStep& s) {
            const int64_t head_dim = 2 * s.cos.cols;
            kernels_.rope(s.x.row(r), s.x.cols / head_dim, head_dim, s.cos.row(r), s.sin.row(r));
          },
          [&](const RotateStep& s) { rotate_row(s.x.row(r), s, scratch_[size_t(thread)].data()); },
          [&](const QuantizeStep& s) { quantize_row(s, r, s.in.row(r), kTokenBits); }},
      step);
}

void RowSteps::rotate_row(float* row, const RotateStep& step, float* mixed) const {
  const RotationView& rotation = step.rotation;
  const int64_t block = rotation.block, blocks = step.x.cols / block;
  const float scale = 1.0f / std::sqrt(float(block));
  const auto flip = [&] {
    for (size_t c = 0; c < rotation.signs.size(); ++c) row[c] *= rotation.signs[c];
  };
  if (!step.inverse) flip();
  for (int64_t b = 0; b < blocks; ++b) kernels_.hadamard(row + b * block, block, scale);
  if (!rotation.mix.empty()) {
    std::fill_n(mixed, step.x.cols, 0.0f);
    for (int64_t to = 0; to < blocks; ++to)
      for (int64_t from = 0; from < blocks; ++from) {
        const float factor = rotation.mix[size_t(step.inverse ? from * blocks + to : to * blocks + from)];
        for (int64_t c = 0; c < block; ++c) mixed[to * block + c] += factor * row[from * block + c];
      }
    std::copy_n(mixed, step.x.cols, row);
  }
  if (step.inverse) flip();
}

void RowSteps::quantize_row(const QuantizeStep& step, int64_t r, const float* values, int bits) const {
  const QuantMat& out = step.out;
  kernels_.quantize_row(out.q + r * out.stride, out.scale + r, out.offset + r, values, step.in.cols,
                        out.stride, bits);
}

/// The coefficients of the block that begins at row `first`: where the values are, if they may go there,
/// whose lines are in the cache by then.
void RowSteps::quantize_block(const QuantizeStep& step, int64_t first, int thread) const {
  const auto& [out, in, uses_up] = step;
  const Mat<float> apart{scratch_[size_t(thread)].data(), kBlock, in.cols, spread_stride(in.cols)},
      in_place{const_cast<float*>(in.row(first)), kBlock, in.cols, in.stride};
  const Mat<float> coefficients = uses_up ? in_place : apart;
  kernels_.transform(coefficients.data, coefficients.stride, in.row(first), in.stride, in.cols,
                     out.plan.transform, out.plan.levels, false);
  for (int64_t r = 0; r < kBlock; ++r) quantize_row(step, first + r, coefficients.row(r), out.plan.bits(r));
}

}  // namespace stamp

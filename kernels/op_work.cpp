#include "kernels/op_work.h"

#include <algorithm>
#include <cmath>

#include "kernels/kernel_cost.h"

namespace stamp {
namespace {

constexpr double kFloat = 4;

double coded_blocks(const QuantMat& m) { return double(std::ranges::count_if(m.tiles, &RowTile::coded)); }
/// Integers and what they are scaled with.
double quantised_bytes(const QuantMat& m) { return double(m.rows) * (double(m.cols) + 2 * kFloat); }

void add_transforms(OpWork& work, double blocks, double channels, const BitPlan& plan) {
  work.transformed += blocks * channels;
  work.float_ops += blocks * channels * transform_ops(plan);
}

/// Output channels and everything that is read and written besides the input.
double outputs(std::span<const Product> products, int64_t rows, OpWork& work) {
  double channels = 0;
  for (const Product& product : products) {
    channels += double(product.weight.rows);
    work.bytes += double(product.weight.bytes()) + kFloat * double(product.bias.size());
  }
  work.bytes += kFloat * double(rows) * channels;
  return channels;
}

}  // namespace

OpWork& OpWork::operator+=(const OpWork& other) {
  bytes += other.bytes;
  int8_ops += other.int8_ops;
  int4_ops += other.int4_ops;
  float_ops += other.float_ops;
  transformed += other.transformed;
  return *this;
}

OpWork embed_work(int64_t rows, const WeightView& table) {
  const double row = double(table.bytes()) / double(table.rows);
  return {.bytes = double(rows) * (row + kFloat * double(table.cols))};
}

OpWork elementwise_work(int64_t rows, int64_t cols, int matrices) {
  return {.bytes = kFloat * double(rows) * double(cols) * matrices};
}

OpWork rotate_work(int64_t rows, int64_t cols, const RotationView& rotation) {
  OpWork work = elementwise_work(rows, cols, 2);
  double each = std::log2(double(rotation.block));  // of a channel: sums and differences
  if (!rotation.mix.empty()) each += 2 * double(cols / rotation.block);
  work.float_ops = each * double(rows) * double(cols);
  return work;
}

OpWork linear_work(std::span<const Product> products, Mat<const float> in) {
  OpWork work = elementwise_work(in.rows, in.cols, 1);
  work.float_ops = 2 * double(in.rows) * double(in.cols) * outputs(products, in.rows, work);
  return work;
}

OpWork linear_work(std::span<const Product> products, const QuantMat& in) {
  OpWork work{.bytes = quantised_bytes(in)};
  const double channels = outputs(products, in.rows, work);
  for (const Product& product : products) {
    const DType dtype = product.weight.dtype;
    double& ops = dtype == DType::kQ4 ? work.int4_ops : dtype == DType::kQ8 ? work.int8_ops : work.float_ops;
    ops += 2 * double(in.rows) * double(in.cols) * double(product.weight.rows);
  }
  add_transforms(work, coded_blocks(in), channels, in.plan);
  return work;
}

OpWork quantize_work(const QuantMat& out) {
  OpWork work = elementwise_work(out.rows, out.cols, 1);
  work.bytes += quantised_bytes(out);
  add_transforms(work, coded_blocks(out), double(out.cols), out.plan);
  return work;
}

OpWork append_kv_work(const KvPages& kv, std::span<const RowRun> runs) {
  const int64_t width = kv.kv_heads * kv.head_dim;
  OpWork work;
  for (const RowRun& run : runs) {
    work.bytes += 2 * kFloat * double(run.count * width);
    const int64_t end = run.position + run.count;
    int64_t open = run.count;
    for (int64_t page = run.position / kBlock; (page + 1) * kBlock <= end; ++page) {
      if (!kv.format.seals(page)) continue;
      // A page that the run holds as a whole has no open form; any other's is read.
      if (page * kBlock >= run.position) open -= kBlock;
      else work.bytes += double(kv.open_layer_bytes());
      work.bytes += double(kv.sealed_layer_bytes());
      add_transforms(work, 1, 2 * double(width), kv.format.plan);
    }
    work.bytes += double(open) * double(kv.open_layer_bytes()) / double(kBlock);
  }
  return work;
}

OpWork attention_work(int64_t heads, const KvPages& kv, std::span<const RowRun> runs) {
  const double width = double(heads * kv.head_dim);
  OpWork work;
  for (const RowRun& run : runs) {
    work.bytes += 2 * kFloat * double(run.count) * width;
    const int64_t end = run.position + run.count;
    for (int64_t page = 0; page * kBlock < end; ++page) {
      const int64_t first = page * kBlock;
      const bool sealed = kv.format.seals(page) && first + kBlock <= end;
      const int64_t keys = std::min(kBlock, end - first);
      work.bytes += sealed ? double(kv.sealed_layer_bytes())
                           : double(kv.open_layer_bytes()) * double(keys) / double(kBlock);
      // Queries behind the page see all of it, those in it what is not behind them.
      const int64_t behind = std::min(run.count, std::max<int64_t>(0, end - first - kBlock));
      const int64_t inside =
          std::max<int64_t>(0, std::min(end, first + kBlock) - std::max(run.position, first));
      const double seen = double(std::max(run.position, first) - first);
      const double pairs =
          double(behind * kBlock) + double(inside) * seen + double(inside * (inside + 1)) / 2;
      double& ops = !kv.format.coded                         ? work.float_ops
                    : sealed && kv.format.plan.low_bits <= 4 ? work.int4_ops
                                                             : work.int8_ops;
      ops += 4 * pairs * width;
    }
  }
  return work;
}

}  // namespace stamp

#include "tools/roofline.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace stamp {
namespace {

double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// What L of one channel of a block takes: the difference of quantising some rows with it and without.
double transform_seconds(Ops& ops, const BitPlan& plan, int64_t cols) {
  constexpr int64_t kBlocks = 8;
  constexpr int kPasses = 20;
  const int64_t rows = kBlocks * kBlock, stride = round_up(cols, QuantMat::kQuantAlign);
  Buffer<float> in(rows * cols), scale(rows), offset(rows);
  for (int64_t i = 0; i < in.size(); ++i) in[i] = float(i * 7919 % 1009) / 1009.0f - 0.5f;
  Buffer<uint8_t> q(rows * stride);
  std::vector<RowTile> tiles;
  for (int64_t row = 0; row < rows; row += kBlock) tiles.push_back({row, kBlock, true});
  BitPlan plain = plan;
  plain.transform = SeqTransform::kIdentity;
  double least[2] = {1e300, 1e300};
  for (int pass = 0; pass < 2 * kPasses; ++pass) {
    QuantMat out{.q = q.data(),
                 .rows = rows,
                 .cols = cols,
                 .stride = stride,
                 .scale = scale.data(),
                 .offset = offset.data(),
                 .plan = pass % 2 == 0 ? plan : plain,
                 .tiles = tiles};
    least[pass % 2] = std::min(least[pass % 2], seconds_of([&] { ops.quantize(out, in.mat(rows, cols)); }));
  }
  return std::max(0.0, least[0] - least[1]) / double(kBlocks * cols);
}

const char* limit_of(const OpWork& work, const MachinePeaks& peaks) {
  if (work.bytes / peaks.read_bytes >= bound_seconds(work, peaks)) return "memory";
  return work.int4_ops + work.int8_ops > 0 ? "integers" : "floats";
}

}  // namespace

Roofline::Roofline(Engine& engine)
    : config_(engine.config()), peaks_(measure_peaks(engine.ops().name(), engine.ops().threads())) {
  const Recipe& recipe = engine.recipe();
  const BitPlan plan = recipe.plan_of(0, Site::kAttention);
  if (recipe.activations.quantised && !plan.is_plain())
    transform_seconds_ = transform_seconds(engine.ops(), plan, config_.hidden_size);
  text_ = fmt::format(
      "\nRoofline. {} x{} at most, measured just now: {:.1f} GB/s read, {:.0f} GOP/s of 8-bit integers, "
      "{:.0f} of 8 by 4 bits, {:.0f} GFLOP/s. Bytes: every operand once; what caches hold may be faster.\n",
      engine.ops().name(), engine.ops().threads(), peaks_.read_bytes / 1e9, peaks_.int8_ops / 1e9,
      peaks_.int4_ops / 1e9, peaks_.float_ops / 1e9);
}

std::string Roofline::name_of(const TimedOps::Entry& entry) const {
  using Kind = TimedOps::Kind;
  switch (entry.kind) {
    case Kind::kEmbed:
      return "embed";
    case Kind::kGather:
      return "gather";
    case Kind::kNorm:
      return "norm";
    case Kind::kQuantize:
      return "quantize, transform";
    case Kind::kRope:
      return "rope";
    case Kind::kRotate:
      return "rotate";
    case Kind::kAppendKv:
      return "kv append, seal";
    case Kind::kAttention:
      return "attention";
    case Kind::kSilu:
      return "silu, product";
    case Kind::kAdd:
      return "add";
    case Kind::kEvaluate:
      return "evaluate";
    case Kind::kLinear:
      break;
  }
  const char* role = entry.products == 3                     ? "q, k, v"
                     : entry.products == 2                   ? "gate, up"
                     : entry.out == config_.vocab_size       ? "logits"
                     : entry.in == config_.intermediate_size ? "down"
                                                             : "o";
  return fmt::format("linear {}: {} to {}", role, entry.in, entry.out);
}

void Roofline::add(const std::string& test, int64_t runs, double seconds,
                   const std::vector<TimedOps::Entry>& entries) {
  double inside = 0, transformed = 0;
  for (const TimedOps::Entry& e : entries) {
    inside += e.seconds;
    if (e.kind != TimedOps::Kind::kAppendKv) transformed += e.work.transformed;
  }
  const double transforms = transformed * transform_seconds_;
  text_ += fmt::format("\n{}: {:.1f} ms, {:.1f} % of it in operations", test, 1e3 * seconds / double(runs),
                       100 * inside / seconds);
  if (transforms > 0)
    text_ += fmt::format(
        "; transforms of activations {:.1f} %, by what quantize takes more with them than without",
        100 * transforms / seconds);
  text_ +=
      "\n| operation | calls | ms | share | GB/s | GOP/s | of the bound | which is |\n"
      "|---|---:|---:|---:|---:|---:|---:|---|\n";
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const TimedOps::Entry& e : entries) {
    const OpWork& w = e.work;
    const double ops = w.int8_ops + w.int4_ops + w.float_ops, bound = bound_seconds(w, peaks_);
    text_ += fmt::format("| {} | {} | {:.2f} | {:.1f} % | {:.1f} | {:.0f} | {:.0f} % | {} |\n", name_of(e),
                         e.calls / runs, 1e3 * e.seconds / double(runs), 100 * e.seconds / seconds,
                         w.bytes / e.seconds / 1e9, ops / e.seconds / 1e9, 100 * bound / e.seconds,
                         limit_of(w, peaks_));
    rows.push_back({{"operation", name_of(e)},
                    {"calls", e.calls},
                    {"seconds", e.seconds},
                    {"bytes", w.bytes},
                    {"int8_ops", w.int8_ops},
                    {"int4_ops", w.int4_ops},
                    {"float_ops", w.float_ops},
                    {"bound_seconds", bound}});
  }
  tests_.push_back({{"name", test},
                    {"runs", runs},
                    {"seconds", seconds},
                    {"transform_seconds", transforms},
                    {"operations", rows}});
}

nlohmann::ordered_json Roofline::json() const {
  return {{"read_bytes_per_second", peaks_.read_bytes},
          {"int8_ops_per_second", peaks_.int8_ops},
          {"int4_ops_per_second", peaks_.int4_ops},
          {"float_ops_per_second", peaks_.float_ops},
          {"tests", tests_}};
}

}  // namespace stamp

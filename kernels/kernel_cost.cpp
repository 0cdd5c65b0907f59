#include "kernels/kernel_cost.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/main_loops.h"
#include "kernels/cuda/tile_plan.h"

namespace stamp {
namespace {

constexpr double kLanes = 32, kFloat = sizeof(float), kHalf = 2, kWide = 16;  // bytes of one lane's access
constexpr double kRowTile = sizeof(RowTile), kPointer = sizeof(void*);        // as warps read them
constexpr int64_t kStage = 64;      // input channels of a stage of linear_int.cu
constexpr int64_t kChannels = 128;  // of a block of quantize.cu, and threads

/// No more than the counted work needs, with accesses as wide as they can be.
KernelCost with_instructions(KernelCost c) {
  c.instructions =
      c.mma_u8 + c.mma_u4 + c.copies + c.dp4a + c.float_ops / kLanes + c.requested / (kWide * kLanes);
  return c;
}
double coded_tiles(std::span<const RowTile> tiles) {
  return double(std::ranges::count_if(tiles, &RowTile::coded));
}
int64_t rows_of(std::span<const RowTile> tiles) {
  int64_t rows = 0;
  for (const RowTile& tile : tiles) rows += tile.count;
  return rows;
}

}  // namespace

double transform_ops(const BitPlan& plan) {
  constexpr double kRows = double(kBlock);
  switch (plan.transform) {
    case SeqTransform::kIdentity:
      return 0;
    case SeqTransform::kHaar:  // sum and difference of every pair on every level, one scale a row
      return 2 * (kRows - double(kBlock >> plan.levels)) + kRows;
    case SeqTransform::kDct:  // butterflies and a product with a secant on six levels, sums on the way back
      return 6 * kRows * 2;
    case SeqTransform::kWalshHadamard:
      return 6 * kRows + kRows;
  }
  return 0;
}

KernelCost row_chain_cost(int64_t rows, int64_t cols, const RowChainShape& shape) {
  constexpr double kSilu = 12;  // an exponential and a division are several operations each
  const double values = double(rows * cols), gain = shape.norms ? double(cols) * kFloat : 0;
  const int inputs = shape.adds || shape.gates ? 2 : 1,
            outputs = (shape.floats ? 1 : 0) + (shape.adds && shape.norms);
  KernelCost c{.kernel = "row_chain", .bytes = values * (inputs + outputs) * kFloat};
  if (shape.integers) c.bytes += double(rows) * (double(round_up(cols, QuantMat::kQuantAlign)) + 2 * kFloat);
  c.requested = c.bytes + double(rows) * gain;  // every row reads the gains
  c.bytes += gain;
  c.float_ops = values * ((shape.adds ? 1 : 0) + (shape.gates ? kSilu : 0) + (shape.norms ? 3 : 0) +
                          (shape.integers ? 5 : 0) +
                          (shape.rotation_block > 0 ? std::log2(double(shape.rotation_block)) + 1 : 0));
  return with_instructions(c);
}

KernelCost heads_cost(int64_t rows, int64_t cols, int64_t head_dim, bool rotates) {
  const double values = double(rows * cols);
  KernelCost c{.kernel = "heads", .bytes = values * 2 * kFloat + double(rows * head_dim) * kFloat};
  c.requested = values * 3 * kFloat;  // angles, for every head
  c.float_ops = values * (3 + (rotates ? std::log2(double(head_dim)) + 1 : 0));
  return with_instructions(c);
}

KernelCost embed_cost(int64_t rows, const WeightView& table) {
  const double values = double(rows * table.cols), row = double(table.bytes()) / double(table.rows);
  KernelCost c{.kernel = "embed", .bytes = values * kFloat + double(rows) * row, .float_ops = values};
  c.requested = c.bytes;
  return with_instructions(c);
}

KernelCost row_extremes_cost(std::span<const RowTile> tiles, const BitPlan& plan, int64_t cols) {
  const auto parts = double(divide_up(cols, kChannels)), rows = double(rows_of(tiles));
  KernelCost c{.kernel = "row_extremes"};
  c.bytes = rows * (double(cols) * kFloat + parts * 2 * kFloat);
  c.requested = c.bytes + double(tiles.size()) * parts * (kChannels / kLanes) * kRowTile;
  c.transform_ops = coded_tiles(tiles) * double(cols) * transform_ops(plan);
  c.float_ops = rows * double(cols) * 2 + c.transform_ops;
  return with_instructions(c);
}

KernelCost quantize_cost(std::span<const RowTile> tiles, const BitPlan& plan, int64_t cols) {
  const int64_t stride = round_up(cols, QuantMat::kQuantAlign);
  const auto parts = double(divide_up(cols, kChannels)), blocks = double(stride / kChannels),
             rows = double(rows_of(tiles));
  KernelCost c{.kernel = "quantize"};
  const double once = rows * (double(cols) * kFloat + double(stride) + 2 * kFloat);
  c.bytes = once + rows * parts * 2 * kFloat;
  c.requested =
      once + blocks * (rows * parts * 2 * kFloat + double(tiles.size()) * (kChannels / kLanes) * kRowTile);
  c.transform_ops = coded_tiles(tiles) * double(stride) * transform_ops(plan);
  c.float_ops = rows * double(stride) * 3 + c.transform_ops;
  return with_instructions(c);
}

KernelCost group_sums_cost(int64_t rows, const WeightView& weight) {
  const auto in = double(rows * weight.padded_cols()), out = double(rows * weight.groups());
  KernelCost c{.kernel = "group_sums", .bytes = in + out * kFloat, .requested = in + out * kFloat};
  // A lane's four for 16 channels; warps at the end are not full.
  c.dp4a = double(rows * divide_up(weight.padded_cols(), 512)) * 4;
  return with_instructions(c);
}

KernelCost linear_int_cost(std::span<const RowTile> tiles, const BitPlan& plan, const WeightView& weight,
                           bool bias, const PlannedDevice& device) {
  const cuda::TilePlan cut =
      cuda::plan_linear(int64_t(tiles.size()), weight, {device.compute_capability, device.multiprocessors});
  const bool four = weight.dtype == DType::kQ4, nibbles = cut.path == cuda::MmaPath::kFour;
  const cuda::LoopGroups kind = !four                    ? cuda::LoopGroups::kNone
                                : weight.group == kStage ? cuda::LoopGroups::kStage
                                                         : cuda::LoopGroups::kOther;
  const cuda::MainLoop& loop = cuda::main_loop(device.compute_capability, cut.path, kind, cut.panels);
  const int64_t panels = weight.panels(), blocks = divide_up(panels, cut.panels),
                computed = blocks * cut.panels;
  const int64_t warps = blocks * loop.warps, stages = weight.padded_cols() / kStage;
  const auto groups = double(weight.groups()), stage_bytes = double(kStage * kPanel) / (four ? 2 : 1);
  KernelCost c{.kernel = "linear_int"};
  c.blocks = double(blocks) * double(tiles.size());
  c.warps = loop.warps;
  for (const RowTile& tile : tiles) {
    const auto rows = double(tile.count), depth = double(stages);
    const int64_t row_tiles = divide_up(tile.count, 16);
    // Column tiles of 8 channels, two a panel.
    int64_t narrow = 0;
    if (nibbles) {
      const int64_t high = plan.high_bits > 4 ? plan.high_rows : 0;
      const int64_t wide =
          !tile.coded || plan.low_bits > 4 ? row_tiles : std::min(row_tiles, divide_up(high, 16));
      c.mma_u4 += double(computed * 2 * stages * (row_tiles + wide));
      narrow = row_tiles - wide;
    } else {
      c.mma_u8 += double(computed * 2 * stages * 2 * row_tiles);
    }
    c.copies += depth * double(blocks) *
                (kBlock * kStage / kWide / kLanes + cut.panels * stage_bytes / kWide / kLanes);
    c.requested += depth * (double(blocks) * rows * kStage + double(panels) * stage_bytes);
    c.requested += double(warps) * kRowTile;
    // Groups' parameters, which warps of absent panels read as well, and the rows' own sums.
    if (four) c.requested += groups * (double(computed) * kPanel * 3 + double(warps) * rows * kFloat);
    else c.requested += double(panels) * kPanel * kHalf;
    c.requested += double(panels) * kPanel * kFloat + double(computed) * rows * 2 * kFloat;
    c.requested += double(weight.rows) * (rows + (bias ? 1 : 0)) * kFloat;
    c.float_ops += double(computed * kPanel * row_tiles * 16) * (four ? groups * 3 : 1);
    c.float_ops += double(computed * kPanel * row_tiles * 16) * 3;
    if (tile.coded) c.transform_ops += double(weight.rows) * transform_ops(plan);
    // What a row tile without high nibbles skips of the loop: products, their addition, the nibbles
    // themselves.
    const double skipped = double(narrow * (2 * loop.panels * (1 + 4) + 12));
    c.instructions +=
        double(warps * stages) * (double(loop.instructions * row_tiles) / (kBlock / 16) - skipped);
  }
  c.float_ops += c.transform_ops;
  c.instructions += c.transform_ops / kLanes;
  const auto rows = double(rows_of(tiles));
  c.bytes = double(weight.bytes()) + rows * double(weight.padded_cols()) + rows * 2 * kFloat +
            rows * double(weight.rows) * kFloat + (four ? rows * groups * kFloat : 0) +
            (bias ? double(weight.rows) * kFloat : 0);
  return c;
}

int64_t few_rows() { return cuda::kFewRows; }

KernelCost linear_few_cost(int64_t rows, std::span<const WeightView> weights, bool bias) {
  constexpr int64_t kWarps = 4, kWarpDepth = 512, kSteps = 8;
  const bool four = weights.front().dtype == DType::kQ4;
  const int64_t computed = rows == 1 ? 1 : rows <= 4 ? 4 : cuda::kFewRows;  // the kernel's instances
  KernelCost c{.kernel = four ? "linear_few_four" : "linear_few_eight", .warps = kWarps};
  for (const WeightView& w : weights) {
    const int64_t depth = w.padded_cols();
    c.blocks += double(w.panels());
    // With groups all warps go through every round, also where no channels are left for them.
    const int64_t turns =
        four ? kWarps * divide_up(depth, kWarps * kWarpDepth) : divide_up(depth, kWarpDepth);
    c.dp4a += double(w.panels() * turns * computed * (kSteps * 4 * 2 + (four ? 4 : 0)));
    const double sums = double(w.panels()) * kPanel * kFloat;
    const auto pairs = double(divide_up(rows, 2)), out = double(rows * w.rows) * kFloat;
    c.bytes += double(w.bytes()) + double(rows * depth) + out + double(rows) * 2 * kFloat +
               (bias ? double(w.rows) * kFloat : 0);
    // A warp finishes two rows: sums and bias come once for both.
    c.requested += double(w.bytes()) - sums + double(w.panels() * rows) * (double(depth) + 2 * kFloat) + out +
                   pairs * double(w.rows) * kFloat * (bias ? 2 : 1);
    if (!four)
      c.requested += double(w.panels() * (divide_up(computed, 2) - 1) * kPanel) * kHalf;  // scales, too
    c.float_ops += double(rows * w.rows) * (double(w.groups()) * 2 + 3);
  }
  return with_instructions(c);
}

KernelCost append_kv_cost(int64_t rows, int64_t position, const KvPages& kv) {
  constexpr double kWarps = 4, kPageWrite = 32;
  const auto blocks = double(kv.kv_heads * 2), values = double(rows * kv.kv_heads * kv.head_dim) * 2;
  const double row_bytes = blocks * double(kv.head_dim + 3);
  const int64_t end = position + rows;
  KernelCost c{.kernel = "append_coded", .bytes = values * kFloat};
  for (int64_t page = position / kBlock; page * kBlock < end; ++page) {
    const int64_t from = std::max(position, page * kBlock), to = std::min(end, (page + 1) * kBlock);
    const bool seals = kv.format.seals(page) && to == (page + 1) * kBlock,
               opens = !seals || to - from < kBlock;
    if (opens) c.bytes += double(to - from) * row_bytes;
    if (opens && seals) c.bytes += double(kBlock) * row_bytes;  // it is read again
    if (seals) c.bytes += double(kv.sealed_layer_bytes());
    if (seals) c.transform_ops += values / double(rows) * transform_ops(kv.format.plan);
    c.requested += blocks * kWarps * (kPageWrite + kPointer * (opens && seals ? 2 : 1));
  }
  c.requested += c.bytes;
  c.float_ops = values * 6 + c.transform_ops;
  return with_instructions(c);
}

namespace {

/// Tiles of one instance of the attention kernel, of at most `most` queries each.
KernelCost attention_tiles_cost(const std::vector<cuda::QueryTile>& tiles, int64_t most,
                                std::string_view name, const KvPages& kv, int64_t length) {
  constexpr double kWarps = 4;
  const auto d = double(kv.head_dim);
  KernelCost c{.kernel = name, .blocks = double(tiles.size()) * double(kv.kv_heads), .warps = kWarps};
  for (const cuda::QueryTile& tile : tiles) {
    const auto values = double(tile.count) * d * kFloat;
    const auto splits =
        double(divide_up(tile.last_page, cuda::kSplitPages) - tile.first_page / cuda::kSplitPages);
    c.requested += kWarps * sizeof(cuda::QueryTile) + values;
    // Outputs are folded where they lie, or left as a part with the largest score and the sum of weights.
    c.requested += tile.part < 0 ? values * (2 * splits - 1) : values + double(tile.count) * 2 * kFloat;
    for (int64_t page = tile.first_page; page < tile.last_page; ++page) {
      const bool sealed = kv.format.seals(page) && (page + 1) * kBlock <= length;
      const double bytes = 2 * double((sealed ? kv.sealed_side() : kv.open_side()).bytes());
      c.requested += bytes + kWarps * kPointer;
      c.copies += std::ceil(bytes / (kWide * kLanes));
      c.float_ops += double(most) * kBlock * (2 * d + 6);
      if (sealed) c.transform_ops += double(most) * 2 * transform_ops(kv.format.plan);
    }
  }
  for (double* sum : {&c.requested, &c.copies, &c.float_ops, &c.transform_ops}) *sum *= double(kv.kv_heads);
  c.float_ops += c.transform_ops;
  return c;
}

}  // namespace

std::vector<KernelCost> attention_costs(int64_t rows, int64_t position, int64_t heads, const KvPages& kv,
                                        const PlannedDevice& device) {
  const RowRun run{.row = 0, .count = rows, .position = position, .pages = {}};
  const int64_t length = position + rows;
  cuda::AttentionPlan plan;
  cuda::plan_attention(plan, std::span(&run, 1), heads / kv.kv_heads, kv.kv_heads,
                       {device.compute_capability, device.multiprocessors});
  std::vector<KernelCost> launches;
  if (!plan.many.empty())
    launches.push_back(attention_tiles_cost(plan.many, cuda::kQueries, "attention", kv, length));
  if (!plan.few.empty())
    launches.push_back(attention_tiles_cost(plan.few, cuda::kFewQueries, "attention_few", kv, length));
  KernelCost& first = launches.front();
  first.bytes = 2 * double(rows * heads * kv.head_dim) * kFloat;  // queries and outputs
  for (int64_t page = 0; page * kBlock < length; ++page) {
    const bool sealed = kv.format.seals(page) && (page + 1) * kBlock <= length;
    first.bytes += double(sealed ? kv.sealed_layer_bytes() : kv.open_layer_bytes());
  }
  if (!plan.split.empty()) {
    constexpr double kWarps = 8;
    KernelCost fold{.kernel = "fold_splits"};
    for (const cuda::QueryTile& tile : plan.split) {
      const auto splits = double(divide_up(tile.last_page, cuda::kSplitPages)), count = double(tile.count);
      const double values = double(kv.kv_heads) * count * double(kv.head_dim);
      fold.bytes += values * (splits + 1) * kFloat + double(kv.kv_heads) * count * splits * 2 * kFloat;
      fold.requested += double(kv.kv_heads) * kWarps * sizeof(cuda::QueryTile);
      fold.float_ops += values * splits * 8;
    }
    fold.requested += fold.bytes;
    launches.push_back(fold);
  }
  for (KernelCost& c : launches) c = with_instructions(c);
  return launches;
}

}  // namespace stamp

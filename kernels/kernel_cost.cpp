#include "kernels/kernel_cost.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>
#include <vector>

#include "kernels/cuda/attention_layout.h"
#include "kernels/cuda/attention_plan.h"
#include "kernels/cuda/main_loops.h"
#include "kernels/cuda/tile_plan.h"

namespace stamp {
namespace {

constexpr double kLanes = 32, kFloat = sizeof(float), kWide = 16;       // bytes of one lane's access
constexpr double kRowTile = sizeof(RowTile), kPointer = sizeof(void*);  // as warps read them
constexpr double kSilu = 12;        // FP32 operations: an exponential and a division are several each
constexpr int64_t kChannels = 128;  // of a block of quantize.cu, and threads

/// No more than the counted work needs, with accesses as wide as they can be.
KernelCost with_instructions(KernelCost c) {
  c.instructions = c.mma_u8 + c.mma_u4 + c.wgmma + c.copies + c.dp4a + c.float_ops / kLanes +
                   c.requested / (kWide * kLanes);
  return c;
}
cuda::Device planned(const PlannedDevice& device) {
  return {device.compute_capability, device.multiprocessors, device.shared_bytes,
          device.compute_capability == 90};
}
double coded_tiles(std::span<const RowTile> tiles) {
  return double(std::ranges::count_if(tiles, &RowTile::coded));
}
bool any_coded(std::span<const RowTile> tiles) { return std::ranges::any_of(tiles, &RowTile::coded); }
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
    case SeqTransform::kHaar:  // sum and difference of every pair on every level
      return 2 * (kRows - double(kBlock >> plan.levels));
    case SeqTransform::kDct:  // butterflies and a product with a secant on six levels, sums on the way back
      return 6 * kRows * 2;
    case SeqTransform::kWalshHadamard:
      return 6 * kRows;
  }
  return 0;
}

double transform_scale_ops(const BitPlan& plan) {
  return plan.transform == SeqTransform::kIdentity ? 0 : double(kBlock);
}

KernelCost row_chain_cost(int64_t rows, int64_t cols, const RowChainShape& shape) {
  if (shape.factors) {
    const double read = double(rows * cols) * kFloat, all = read + double(rows) * kFloat;
    return with_instructions(
        {.kernel = "row_chain", .bytes = all, .requested = all, .float_ops = double(rows * cols)});
  }
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

namespace {

/// Of a norm of which rows' factors are known: reading these and the gains, for every `blocks` of a tile.
void add_norm(KernelCost& c, std::span<const RowTile> tiles, int64_t cols, double blocks) {
  const auto rows = double(rows_of(tiles));
  c.bytes += (rows + double(cols)) * kFloat;
  c.requested += (rows * blocks + double(tiles.size()) * double(cols)) * kFloat;
  c.float_ops += rows * double(cols) * 2;
}

}  // namespace

KernelCost row_extremes_cost(std::span<const RowTile> tiles, const BitPlan& plan, int64_t cols, bool norms) {
  const auto parts = double(divide_up(cols, kChannels)), rows = double(rows_of(tiles));
  KernelCost c{.kernel = "row_extremes"};
  c.bytes = rows * (double(cols) * kFloat + parts * 2 * kFloat);
  c.requested = c.bytes + double(tiles.size()) * parts * (kChannels / kLanes) * kRowTile;
  c.transform_ops = coded_tiles(tiles) * double(cols) * transform_ops(plan);
  c.float_ops = rows * double(cols) * 2 + c.transform_ops;
  if (norms) add_norm(c, tiles, cols, parts);
  return with_instructions(c);
}

bool wants_split_rows(std::span<const RowTile> tiles, const BitPlan& plan, const WeightView& weight,
                      const PlannedDevice& device) {
  return cuda::mma_path(weight, any_coded(tiles), plan, planned(device)) == cuda::MmaPath::kFour;
}

namespace {

/// Of cuda::SplitRows.
double split_bytes(std::span<const RowTile> tiles, const BitPlan& plan, const WeightView& weight) {
  double rows = 0;
  for (const RowTile& tile : tiles) rows += double(kBlock + cuda::wide_rows(tile.coded, plan));
  return rows * double(weight.padded_cols()) / 2 +
         double(int64_t(tiles.size()) * kBlock * weight.zero_groups()) * 2;
}

/// `blocks` of a tile, whose results are `written` bytes.
KernelCost quantize_blocks_cost(std::span<const RowTile> tiles, const BitPlan& plan, int64_t cols,
                                double blocks, double written) {
  const auto parts = double(divide_up(cols, kChannels)), rows = double(rows_of(tiles)),
             channels = blocks * double(kChannels);
  KernelCost c{.kernel = "quantize"};
  const double once = rows * (double(cols) * kFloat + 2 * kFloat) + written;
  c.bytes = once + rows * parts * 2 * kFloat;
  c.requested =
      once + blocks * (rows * parts * 2 * kFloat + double(tiles.size()) * (kChannels / kLanes) * kRowTile);
  c.transform_ops = coded_tiles(tiles) * channels * (transform_ops(plan) + transform_scale_ops(plan));
  c.float_ops = rows * channels * 4 + c.transform_ops;
  return c;
}

}  // namespace

KernelCost quantize_cost(std::span<const RowTile> tiles, const BitPlan& plan, int64_t cols) {
  const int64_t stride = round_up(cols, QuantMat::kQuantAlign);
  return with_instructions(
      quantize_blocks_cost(tiles, plan, cols, double(stride / kChannels), double(rows_of(tiles) * stride)));
}

KernelCost quantize_split_cost(std::span<const RowTile> tiles, const BitPlan& plan, const WeightView& weight,
                               bool norms, bool with_bytes) {
  const auto blocks = double(weight.zero_groups() * kColAlign / kChannels);
  double written = split_bytes(tiles, plan, weight);
  if (with_bytes) written += double(rows_of(tiles) * round_up(weight.cols, QuantMat::kQuantAlign));
  KernelCost c = quantize_blocks_cost(tiles, plan, weight.cols, blocks, written);
  if (norms) add_norm(c, tiles, weight.cols, blocks);
  c.dp4a = double(tiles.size()) * blocks * double(kBlock * kChannels) / kWide / kLanes * 4;
  return with_instructions(c);
}

KernelCost split_rows_cost(std::span<const RowTile> tiles, const BitPlan& plan, const WeightView& weight) {
  constexpr double kDepth = 512, kWarps = 8;  // of a block, which has half a tile
  const auto depth = double(weight.padded_cols()),
             blocks = double(tiles.size()) * 2 * std::ceil(depth / kDepth);
  KernelCost c{.kernel = "split_rows"};
  c.bytes = double(rows_of(tiles)) * depth + split_bytes(tiles, plan, weight);
  c.requested = c.bytes + blocks * kWarps * kRowTile;
  c.dp4a = blocks * (kBlock / 2) * 4;  // a lane's four for 16 channels of a row, absent or not
  return with_instructions(c);
}

namespace {

constexpr int64_t kLine = cuda::kStageDepth;

/// The asynchronous copies of one stage by one block of linear_int.cu.
struct StageCopies {
  double copies = 0, bytes = 0;
};
/// `tile`: the block's; in the place of rows beyond its last, and of panels beyond the last, comes the last
/// again. `weights`: like this one, which share the block, with `live_panels` each.
StageCopies stage_copies(const cuda::TilePlan& cut, const WeightView& weight, int64_t weights,
                         const RowTile& tile, const BitPlan& plan, int64_t live_panels) {
  constexpr int64_t kLanesOf = 32, kLineChunks = 4, kMostGroups = 2;
  const bool four = weight.dtype == DType::kQ4;
  const int64_t panels = cut.channel_warps * cuda::kWarpChannels / kPanel;
  StageCopies c;
  constexpr int64_t kRowsOf = kLanesOf / kLineChunks;  // that a warp copies
  if (cut.path == cuda::MmaPath::kFour) {              // half as long, and the upper halves of wide ones
    const int64_t wide = cuda::wide_rows(tile.coded, plan);
    c.bytes += double((kBlock + wide) * kLine / 2);
    c.copies += double(kBlock / (2 * kRowsOf) + divide_up(wide, 2 * kRowsOf));
  } else {
    for (int64_t row = 0; row < kBlock; row += kRowsOf)
      c.bytes += double(std::clamp<int64_t>(tile.count - row, 1, kRowsOf) * kLine);
    c.copies += double(kBlock / kRowsOf);
  }
  const int64_t panel_chunks = panels * kLine * kPanel / (four ? 2 : 1) / int64_t(kWide);
  c.copies += double(panel_chunks / kLanesOf);
  c.bytes += double(panel_chunks) * kWide;
  if (!four) return c;
  // Parameters, one chunk a thread: four groups' zeros, and the scales of one group or two.
  const int64_t scales = panels * kMostGroups,
                zeros = cut.path == cuda::MmaPath::kEight ? panels * kZeroGroups : 0;
  std::set<int64_t> warps;
  // Warp, whether zeros, weight, panel, chunk.
  std::set<std::tuple<int64_t, bool, int64_t, int64_t, int64_t>> asked;
  const int64_t own_panels = panels / weights;
  for (int64_t i = 0; i < zeros + scales; ++i) {
    const bool zero = i < zeros;
    const int64_t panel = zero ? i / kZeroGroups : (i - zeros) % panels,
                  chunk = zero ? i % kZeroGroups : (i - zeros) / panels;
    if (!zero && chunk * weight.group >= kLine) continue;
    warps.insert(i / kLanesOf);
    asked.insert(
        {i / kLanesOf, zero, panel / own_panels, std::min(panel % own_panels, live_panels - 1), chunk});
  }
  c.copies += double(warps.size());
  c.bytes += double(asked.size()) * kWide;
  return c;
}

/// What one weight adds to `c`, or `weights` like it whose channels share blocks. `cut` cuts it into blocks.
void add_product(KernelCost& c, std::span<const RowTile> tiles, const BitPlan& plan, const WeightView& weight,
                 int64_t weights, bool bias, const cuda::TilePlan& cut, int compute_capability) {
  const bool four = weight.dtype == DType::kQ4, nibbles = cut.path == cuda::MmaPath::kFour;
  const int64_t steps = weight.padded_cols() / kLine, panels = weight.panels(),
                quads = weight.zero_groups() / kZeroGroups;
  const int64_t channels = cut.channel_warps * cuda::kWarpChannels / weights,
                block_panels = channels / kPanel, channel_blocks = divide_up(weight.rows, channels);
  const int64_t row_warps = cuda::kLinearWarps / cut.channel_warps, warp_rows = kBlock / row_warps,
                column_tiles = warp_rows / 8;
  const auto channel_warps = double(channel_blocks * cut.channel_warps);
  c.blocks += double(int64_t(tiles.size()) * channel_blocks);
  for (const RowTile& tile : tiles) {
    for (const bool last : {false, true}) {
      const double blocks = last ? 1 : double(channel_blocks - 1);
      const StageCopies copies =
          stage_copies(cut, weight, weights, tile, plan,
                       last ? panels - (channel_blocks - 1) * block_panels : block_panels);
      c.copies += blocks * double(steps) * copies.copies;
      c.requested += blocks * double(steps) * copies.bytes;
    }
    for (int64_t row = 0; row < tile.count; row += warp_rows) {
      // Two row tiles of 16 channels for each column tile of eight rows; of nibbles a second time where rows
      // are wide, which either the first eight are, or as good as all.
      const int64_t wide = cuda::wide_rows(tile.coded, plan) - row, wide_tiles = !nibbles || wide <= 0 ? 0
                                                                                 : wide <= 8           ? 1
                                                                                             : column_tiles;
      const int64_t stage = nibbles ? 2 * (column_tiles + wide_tiles) : 4 * column_tiles;
      (nibbles ? c.mma_u4 : c.mma_u8) += channel_warps * double(steps * stage);
      c.instructions += channel_warps * double(steps) / cuda::kLoopStages *
                        main_loop(compute_capability, cut, four ? 4 : 8, int(stage)).instructions;
      if (nibbles) {
        // Zero points of a product's eight quads, times upper and lower bytes of the sums.
        const double products = 2 * 2 * double(column_tiles * divide_up(quads, 8));
        c.mma_u8 += channel_warps * products;
        for (int64_t panel = 0; panel < channel_blocks * block_panels; panel += 2)
          c.requested += double(weights) * 2 *
                         double(quads * std::clamp<int64_t>(panels - panel, 1, 2) * kPanel * kZeroGroups);
        c.requested += channel_warps * 2 * double(quads * warp_rows * kZeroGroups);
        // With loads of both, and the upper bytes' place.
        c.instructions += channel_warps * (products * 2 + double(column_tiles * 8));
      }
      c.float_ops += channel_warps * double(2 * column_tiles * 16 * 8 * 3);
    }
    // Every block reads scales and offsets, every warp its panels' scales and sums, threads the bias for the
    // rows they write.
    c.requested += double(channel_blocks * tile.count) * 2 * kFloat;
    c.requested += double(weights * row_warps * panels) * kPanel * 2 * kFloat;
    if (bias) c.requested += double(weights * weight.rows * row_warps * weights) * kFloat;
    if (tile.coded) c.transform_ops += double(weights * weight.rows) * transform_ops(plan);
  }
  c.requested += double(int64_t(tiles.size()) * channel_blocks * cuda::kLinearWarps) * kRowTile;
  c.bytes += double(weights) * (double(weight.bytes()) + (bias ? double(weight.rows) * kFloat : 0));
}

/// The same of linear_wgmma.cu.
void add_wgmma_product(KernelCost& c, std::span<const RowTile> tiles, const BitPlan& plan,
                       const WeightView& weight, int64_t weights, bool bias, const cuda::TilePlan& cut) {
  constexpr int64_t kDeep = 128, kDepth = 32, kRows = 128, kRowsOf = 4, kMostGroups = 2;  // of a warp's copy
  const bool four = weight.dtype == DType::kQ4;
  const int64_t depth = weight.padded_cols(), steps = divide_up(depth, kDeep), panels = weight.panels(),
                channels = cut.channels() / weights, block_panels = channels / kPanel,
                channel_blocks = divide_up(weight.rows, channels),
                row_blocks = divide_up(int64_t(tiles.size()), cut.row_tiles), warps = cut.warps();
  const auto blocks = double(row_blocks * channel_blocks), of_blocks = double(row_blocks * weights);
  const int64_t products = kDeep / kDepth * cut.row_tiles * kBlock / kRows,
                panel_bytes = depth * kPanel / (four ? 2 : 1);
  c.blocks += blocks;
  c.wgmma += blocks * double(warps * steps * products);
  c.instructions +=
      blocks * double(warps * steps) * main_loop(90, cut, four ? 4 : 8, int(products)).instructions;
  // Rows of every tile of a block; those beyond a tile's last are the last again, or the first where there is
  // no tile. Panels beyond the last are copied again, by other warps than the last.
  for (int64_t i = 0; i < row_blocks * cut.row_tiles; ++i) {
    const int64_t count = i < int64_t(tiles.size()) ? tiles[size_t(i)].count : 1;
    for (int64_t row = 0; row < kBlock; row += kRowsOf)
      c.requested += double(channel_blocks * steps * std::clamp<int64_t>(count - row, 1, kRowsOf) * kDeep);
  }
  c.requested += blocks * double(block_panels * weights * panel_bytes);
  c.copies += blocks * double(steps * (cut.row_tiles * kBlock / kRowsOf +
                                       divide_up(block_panels * weights * kDeep * kPanel / (four ? 2 : 1),
                                                 int64_t(kWide * kLanes))));
  if (four) {  // one warp copies a quad of zero points, one the scales, of every panel once
    c.copies += blocks * 2 * double(steps);
    c.requested += of_blocks * double(panels * (steps * kPanel * kZeroGroups));
    for (int64_t step = 0; step < steps; ++step)
      for (int64_t group = 0; group < kMostGroups; ++group)
        if (group * weight.group < std::min(kDeep, depth - step * kDeep))
          c.requested += of_blocks * double(panels * kPanel);
  }
  // Every block reads its rows' scales and offsets, every warp its panel's scales and sums, threads the bias.
  c.requested += double(channel_blocks * rows_of(tiles)) * 2 * kFloat;
  c.requested += of_blocks * double(panels * kPanel) * 2 * kFloat;
  const double bias_warps = double(warps) * kLanes / double(channels);
  if (bias) c.requested += of_blocks * double(weight.rows) * bias_warps * kFloat;
  c.requested += double(channel_blocks * int64_t(tiles.size())) * kRowTile;
  c.float_ops += double(row_blocks * cut.row_tiles * kBlock * channel_blocks * cut.channels() * 3);
  c.transform_ops += coded_tiles(tiles) * double(weights * weight.rows) * transform_ops(plan);
  c.bytes += double(weights) * (double(weight.bytes()) + (bias ? double(weight.rows) * kFloat : 0));
}

}  // namespace

KernelCost linear_int_cost(std::span<const RowTile> tiles, const BitPlan& plan,
                           std::span<const WeightView> weights, bool bias, const PlannedDevice& device,
                           After after) {
  cuda::LinearProducts products;
  if (after == After::kSiluMul) products.epilogue = cuda::Epilogue::kSiluMul;
  for (const WeightView& w : weights) products.one[products.count++].weight = w;
  const WeightView& first = weights.front();
  const cuda::TilePlan cut =
      cuda::plan_linear(int64_t(tiles.size()), products, planned(device), any_coded(tiles), plan);
  const bool wgmma = cut.path == cuda::MmaPath::kWgmma;
  KernelCost c{.kernel = wgmma ? "linear_wgmma" : "linear_int", .warps = double(cut.warps())};
  const auto add = [&](const WeightView& weight, int64_t count) {
    if (wgmma) add_wgmma_product(c, tiles, plan, weight, count, bias, cut);
    else add_product(c, tiles, plan, weight, count, bias, cut, device.compute_capability);
  };
  const auto rows = double(rows_of(tiles));
  double values = 0, after_ops = 0;
  if (after == After::kSiluMul) {
    values = rows * double(first.rows);
    after_ops = values * kSilu;
    add(first, 2);
  } else {
    for (const WeightView& w : weights) {
      values += rows * double(w.rows);
      add(w, 1);
    }
    if (after == After::kAdd) after_ops = values;
  }
  const double outputs = values * kFloat * (after == After::kAdd ? 2 : 1);  // read, too
  c.requested += outputs;
  c.bytes += outputs;
  c.float_ops += c.transform_ops + after_ops;
  c.instructions += (c.transform_ops + after_ops) / kLanes;
  c.bytes += rows * 2 * kFloat + (cut.path == cuda::MmaPath::kFour ? split_bytes(tiles, plan, first)
                                                                   : rows * double(first.padded_cols()));
  return c;
}

int64_t few_rows() { return cuda::kFewRows; }

KernelCost linear_few_cost(int64_t rows, std::span<const WeightView> weights, bool bias) {
  constexpr int64_t kWarps = 4, kWarpDepth = 512, kSteps = 8;
  const bool four = weights.front().dtype == DType::kQ4;
  const int64_t computed = rows == 1 ? 1 : rows <= 4 ? 4 : cuda::kFewRows;  // the kernel's instances
  KernelCost c{.kernel = "linear_few", .warps = kWarps};
  for (const WeightView& w : weights) {
    const int64_t depth = w.padded_cols(), turns = divide_up(depth, kWarpDepth);
    c.blocks += double(w.panels());
    c.dp4a += double(w.panels() * turns * computed * (kSteps * 4 * 2 + (four ? 4 : 0)));
    const double of_rows = double(w.panels()) * kPanel * 2 * kFloat;  // scales and sums
    const auto pairs = double(divide_up(rows, 2)), out = double(rows * w.rows) * kFloat;
    c.bytes += double(w.bytes()) + double(rows * depth) + out + double(rows) * 2 * kFloat +
               (bias ? double(w.rows) * kFloat : 0);
    // A warp finishes two rows: scales, sums and bias come once for both.
    c.requested += double(w.bytes()) - of_rows + double(w.panels() * rows) * (double(depth) + 2 * kFloat) +
                   out + pairs * double(w.rows) * kFloat * (bias ? 3 : 2);
    c.float_ops += double(rows * w.rows) * 4;
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
    if (seals)
      c.transform_ops +=
          values / double(rows) * (transform_ops(kv.format.plan) + transform_scale_ops(kv.format.plan));
    c.requested += blocks * kWarps * (kPageWrite + kPointer * (opens && seals ? 2 : 1));
  }
  c.requested += c.bytes;
  c.float_ops = values * 6 + c.transform_ops;
  return with_instructions(c);
}

namespace {

constexpr double kNarrowSums = kBlock / 4;  // dp4a, of narrow rows' zero points and weights

struct PageOfHead {
  bool sealed = false;
  KvSide side;
};
PageOfHead page_of_head(const KvPages& kv, int64_t page, int64_t length) {
  const bool sealed = kv.format.seals(page) && (page + 1) * kBlock <= length;
  return {sealed, sealed ? kv.sealed_side() : kv.open_side()};
}

/// Of keys and values of the page's tokens that are there yet, with their parameters.
double bytes_of_tokens(const KvSide& side, int64_t present) {
  double bytes = 0;
  for (int64_t r = 0; r < present; ++r) bytes += 2 * (double(side.row_bytes(r)) + 3);
  return bytes;
}

/// What `queries` queries, a warp's, take of one page (attention_page.cuh).
void add_page(KernelCost& c, const KvPages& kv, const PageOfHead& page, int64_t queries) {
  const int64_t places = round_up(2 * round_up(kv.head_dim / 2, 4), 32), tiles = divide_up(queries, 16);
  const int64_t wide = page.side.wide_rows(), wide_steps = wide > 8 ? 2 : 1;
  const int64_t steps = (wide < kBlock ? 2 : 0) + (wide > 0 ? 2 * wide_steps : 0);
  c.mma_u8 += double(tiles * (places / 32 * (kBlock / 8) + places / 8 * steps));
  c.float_ops += double(queries) * (double(kBlock) * 10 + double(places) * 4);
  if (page.sealed) c.transform_ops += double(queries) * 2 * transform_ops(kv.format.plan);
}

/// Tiles of many queries, some for each warp.
KernelCost attention_many_cost(const cuda::AttentionPlan& plan, int64_t sharing, const KvPages& kv,
                               int64_t length) {
  constexpr int64_t kQueries = cuda::kWarpQueries;
  const int64_t warps = plan.many_queries / kQueries;
  KernelCost c{.kernel = "attention", .blocks = double(plan.many.size()), .warps = double(warps)};
  for (const cuda::QueryTile& tile : plan.many) {
    const auto values = double(tile.count) * double(kv.head_dim) * kFloat;
    const auto splits = double(divide_up(tile.last_page, cuda::kSplitPages));
    // Queries are read for their peak and for their codes; outputs are folded where they lie.
    c.requested += double(warps) * sizeof(cuda::QueryTile) + 2 * values + values * (2 * splits - 1);
    for (int64_t page = tile.first_page; page < tile.last_page; ++page) {
      const PageOfHead at = page_of_head(kv, page, length);
      const double bytes = 2 * double(at.side.bytes());
      c.requested += bytes + double(warps) * kPointer;
      c.copies += std::ceil(bytes / (kWide * kLanes));
      for (int64_t first = 0; first < tile.count; first += kQueries) {
        const int64_t last = std::min<int64_t>(first + kQueries, tile.count) - 1;
        if (tile.position + (tile.first + last) / sharing < page * kBlock) continue;
        add_page(c, kv, at, kQueries);
        if (at.side.wide_rows() < kBlock) c.dp4a += kNarrowSums;
      }
    }
  }
  return c;
}

/// Tiles of few queries, a page a warp.
KernelCost attention_few_cost(const cuda::AttentionPlan& plan, const KvPages& kv, int64_t length) {
  const auto d = double(kv.head_dim), warps = double(cuda::kSplitPages),
             lanes = cuda::quads_can_weigh(kv.format, kv.sealed_side()) ? double(cuda::kQuad) : 1.0;
  KernelCost c{.kernel = "attention_few", .blocks = double(plan.few.size()), .warps = warps};
  for (const cuda::QueryTile& tile : plan.few) {
    const auto values = double(tile.count) * d * kFloat;
    const auto splits = double(divide_up(tile.last_page - tile.first_page, cuda::kSplitPages));
    c.requested += warps * sizeof(cuda::QueryTile) + 2 * values;
    c.requested += tile.part < 0 ? values * (2 * splits - 1) : values + double(tile.count) * 2 * kFloat;
    for (int64_t page = tile.first_page; page < tile.last_page; ++page) {
      const PageOfHead at = page_of_head(kv, page, length);
      const int64_t present = std::min(kBlock, length - page * kBlock);
      // Zero points come twice, and the page's base to fetch it ahead, too.
      c.requested += bytes_of_tokens(at.side, present) + double(present) + 2 * kPointer;
      add_page(c, kv, at, cuda::kFewQueries);
      if (at.side.wide_rows() < kBlock) c.dp4a += kNarrowSums / lanes;
    }
  }
  return c;
}

}  // namespace

std::vector<KernelCost> attention_costs(int64_t rows, int64_t position, int64_t heads, const KvPages& kv,
                                        const PlannedDevice& device) {
  const RowRun run{.row = 0, .count = rows, .position = position, .pages = {}};
  const int64_t length = position + rows, sharing = heads / kv.kv_heads;
  cuda::AttentionPlan plan;
  cuda::plan_attention(plan, std::span(&run, 1), sharing, kv.kv_heads,
                       cuda::ManyLayout(kv.head_dim, kv.open_side(), kv.sealed_side()).memory(),
                       planned(device));
  std::vector<KernelCost> launches;
  if (!plan.many.empty()) launches.push_back(attention_many_cost(plan, sharing, kv, length));
  if (!plan.few.empty()) launches.push_back(attention_few_cost(plan, kv, length));
  for (KernelCost& c : launches)
    for (double* of_head :
         {&c.requested, &c.copies, &c.dp4a, &c.mma_u8, &c.float_ops, &c.transform_ops, &c.blocks})
      *of_head *= double(kv.kv_heads);
  KernelCost& first = launches.front();
  first.bytes = 2 * double(rows * heads * kv.head_dim) * kFloat;  // queries and outputs
  for (int64_t page = 0; page * kBlock < length; ++page)
    first.bytes += double(kv.kv_heads) * bytes_of_tokens(page_of_head(kv, page, length).side,
                                                         std::min(kBlock, length - page * kBlock));
  if (!plan.split.empty()) {
    const auto heads_of = double(kv.kv_heads), warps = double(divide_up(kv.head_dim, int64_t(kLanes)));
    KernelCost fold{.kernel = "fold_splits"};
    for (const cuda::QueryTile& tile : plan.split) {
      const auto splits = double(divide_up(tile.last_page, cuda::kSplitPages)), count = double(tile.count);
      const double values = heads_of * count * double(kv.head_dim),
                   softmax = heads_of * count * splits * 2 * kFloat;
      fold.bytes += values * (splits + 1) * kFloat + softmax;
      // Every warp of a block reads the query's softmax; also queries that are not there have a block.
      fold.requested +=
          softmax * (warps - 1) + heads_of * cuda::kFewQueries * warps * sizeof(cuda::QueryTile);
      fold.float_ops += values * splits * 2;
    }
    fold.requested += fold.bytes;
    launches.push_back(fold);
  }
  for (KernelCost& c : launches) {
    c.float_ops += c.transform_ops;
    c = with_instructions(c);
  }
  return launches;
}

}  // namespace stamp

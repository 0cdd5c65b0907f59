#include "engine/device_model.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/error.h"
#include "kernels/kernel_cost.h"

namespace stamp {
namespace {

constexpr Machine kMachines[] = {
    {.name = "a100",
     .description = "A100 80 GB SXM",
     .sources = "NVIDIA A100 datasheet (2021): 312 TFLOPS FP16, 624 TOPS INT8, 1,248 TOPS INT4, 19.5 TFLOPS "
                "FP32, 2,039 GB/s; A100 whitepaper, table 4: 108 SMs, 1,410 MHz, 4 schedulers an SM",
     .compute_capability = 80,
     .memory = 2039e9,
     .fp16 = 312e12,
     .int8 = 624e12,
     .int4 = 1248e12,
     .fp32 = 19.5e12,
     .multiprocessors = 108,
     .shared_bytes = 163 << 10,
     .clock = 1410e6},
    {.name = "h100",
     .description = "H100 80 GB SXM5",
     .sources = "NVIDIA H100 datasheet (2023), halves of its figures with sparsity: 989 TFLOPS FP16, 1,979 "
                "TOPS INT8, 67 TFLOPS FP32, 3.35 TB/s; 132 SMs, 1,830 MHz, which is the clock of these "
                "tensor-core figures; mma.sync reaches 63 % of the peak (Luo et al., Benchmarking and "
                "Dissecting the Nvidia Hopper GPU Architecture, arXiv 2402.13499)",
     .compute_capability = 90,
     .memory = 3350e9,
     .fp16 = 989e12,
     .int8 = 1979e12,
     .fp32 = 67e12,
     .multiprocessors = 132,
     .shared_bytes = 227 << 10,
     .clock = 1830e6,
     .mma_share = 0.63},
    {.name = "rtx4090",
     .description = "GeForce RTX 4090",
     .sources = "NVIDIA Ada GPU architecture whitepaper, appendix A: 165.2 TFLOPS FP16 with FP32 sums, 660.6 "
                "TOPS INT8, 1,321.2 TOPS INT4, 82.6 TFLOPS FP32, 1,008 GB/s, 128 SMs, 2,520 MHz",
     .compute_capability = 89,
     .memory = 1008e9,
     .fp16 = 165.2e12,
     .int8 = 660.6e12,
     .int4 = 1321.2e12,
     .fp32 = 82.6e12,
     .multiprocessors = 128,
     .shared_bytes = 99 << 10,
     .clock = 2520e6},
    {.name = "b200",
     .description = "B200 180 GB of an HGX B200",
     .sources =
         "NVIDIA Blackwell datasheet, HGX B200, halves of its figures with sparsity: 2.25 PFLOPS FP16, "
         "4.5 POPS INT8, 75 TFLOPS FP32, 7.7 TB/s; 148 SMs, 1,965 MHz as its device properties report; "
         "nothing is published about mma.sync: the rate of a Hopper SM is assumed, 31 % of the peak",
     .compute_capability = 100,
     .memory = 7700e9,
     .fp16 = 2250e12,
     .int8 = 4500e12,
     .fp32 = 75e12,
     .multiprocessors = 148,
     .shared_bytes = 227 << 10,
     .clock = 1965e6,
     .mma_share = 0.31},
};

constexpr ModelShape kShapes[] = {
    {"1b", "Llama-3.2-1B", 2048, 8192, 16, 32, 8, 64, 128256},
    {"8b", "Meta-Llama-3-8B", 4096, 14336, 32, 32, 8, 128, 128256},
    {"70b", "Meta-Llama-3-70B", 8192, 28672, 80, 64, 8, 128, 128256},
};

/// Rows: norms, residuals, SiLU, rotations, rotary embedding, and the integers that are made with them.
enum Role { kLinears, kAttention, kQuantise, kRows, kHead };
constexpr const char* kRoles[] = {"linears", "attention", "quantise", "rows", "head"};

constexpr double kSchedulers = 4;  // of a multiprocessor, an instruction a clock each

/// Adds launches of one scheme up.
class Sum {
 public:
  Sum(const Machine& machine, bool instructions) : machine_(machine), instructions_(instructions) {
    for (const char* role : kRoles) result_.roles.push_back({.role = role});
  }

  /// `times` launches of `bytes` of memory and the rest in seconds.
  void add(Role role, int64_t times, double bytes, double tensor, double floats = 0, double issue = 0) {
    if (!instructions_) floats = issue = 0;
    const double memory = bytes / machine_.memory, n = double(times);
    const double seconds = std::max({memory, tensor, floats, issue}) + kLaunchSeconds;
    RoleTime& r = result_.roles[role];
    r.launches += times;
    r.memory += n * memory;
    r.tensor += n * tensor;
    r.floats += n * floats;
    r.issue += n * issue;
    r.seconds += n * seconds;
    result_.seconds += n * seconds;
    if (role != kHead) result_.layer_seconds += seconds;
  }
  void add(Role role, int64_t times, const KernelCost& c) {
    constexpr double kEightOps = 2.0 * 16 * 8 * 32, kFourOps = 2.0 * 16 * 8 * 64,
                     kWgmmaOps = 2.0 * 16 * 128 * 32;
    double tensor = c.mma_u8 * kEightOps / (machine_.int8 * machine_.mma_share);
    tensor += c.wgmma * kWgmmaOps / machine_.int8;
    if (c.mma_u4 > 0) tensor += c.mma_u4 * kFourOps / machine_.int4;
    add(role, times, c.bytes, tensor, float_seconds(c.float_ops), issue_seconds(c));
    result_.transform_seconds += double(times) * float_seconds(c.transform_ops);
  }
  /// Tensor-core operations of an ideal kernel, in seconds.
  double fp16(double ops) const { return ops / machine_.fp16; }
  double int8(double ops) const { return ops / machine_.int8; }

  Prediction result() && { return std::move(result_); }

 private:
  double float_seconds(double ops) const { return ops / (machine_.fp32 / 2); }

  /// A multiprocessor has whole blocks, a warp issues at most one instruction a clock.
  double issue_seconds(const KernelCost& c) const {
    const auto multiprocessors = double(machine_.multiprocessors);
    if (c.blocks == 0) return c.instructions / (multiprocessors * kSchedulers * machine_.clock);
    const double block = c.instructions / c.blocks, turns = std::ceil(c.blocks / multiprocessors);
    return std::max(turns * block / kSchedulers, block / c.warps) / machine_.clock;
  }

  const Machine& machine_;
  bool instructions_;
  Prediction result_;
};

/// Pairs of a query and a key that it sees, of one head.
double visible_pairs(const Step& step) {
  return double(step.rows) * double(step.position) + double(step.rows) * double(step.rows + 1) / 2;
}

/// Ideal kernels: at the published peaks, every operand of 16-bit activations read or written once.
Prediction predict_other(const Machine& machine, const ModelShape& m, const Step& step, Scheme scheme) {
  Sum sum(machine, false);
  const auto rows = double(step.rows), hidden = double(m.hidden), intermediate = double(m.intermediate),
             width = double(m.heads * m.head_dim), kv_width = double(m.kv_heads * m.head_dim);
  const bool eight = scheme == Scheme::kW8A8;
  // 4 bits in groups of 128 with a scale of 16 bits and a zero point of 4; 8 bits with a scale a row.
  const double weight_bytes = scheme == Scheme::kFp16 ? 2 : eight ? 1 : 0.5 + 2.5 / 128;
  const auto linear = [&](Role role, int64_t times, double count, double k, double n, double bytes) {
    const double ops = 2 * count * k * n;
    sum.add(role, times, k * n * bytes + count * (k * (eight ? 1 : 2) + n * 2),
            eight ? sum.int8(ops) : sum.fp16(ops));
  };
  const auto elementwise = [&](Role role, double values) { sum.add(role, m.layers, rows * values * 2, 0); };
  linear(kLinears, m.layers, rows, hidden, width + 2 * kv_width, weight_bytes);
  linear(kLinears, m.layers, rows, width, hidden, weight_bytes);
  linear(kLinears, m.layers, rows, hidden, 2 * intermediate, weight_bytes);
  linear(kLinears, m.layers, rows, intermediate, hidden, weight_bytes);
  sum.add(kAttention, m.layers,
          2 * rows * width * 2 + 2 * double(step.position + step.rows) * kv_width * (eight ? 1 : 2),
          sum.fp16(4 * visible_pairs(step) * width));
  elementwise(kRows, 2 * (width + kv_width) + 2 * kv_width);  // RoPE, and keys and values to the cache
  elementwise(kRows, 3 * intermediate);                       // SiLU and product
  elementwise(kRows, 4 * hidden);                             // residual and norm in one, twice
  elementwise(kRows, 4 * hidden);
  if (eight)
    for (const double cols : {hidden, width, hidden, intermediate}) elementwise(kQuantise, 1.5 * cols);
  linear(kHead, 1, 1, hidden, double(m.vocab), eight ? 1 : 2);
  return std::move(sum).result();
}

WeightView shape_of(int64_t rows, int64_t cols, int bits, int64_t group) {
  return {.dtype = bits == 4 ? DType::kQ4 : DType::kQ8,
          .rows = rows,
          .cols = cols,
          .group = bits == 4 ? group : 0};
}

/// The launches of Llama::forward_layer() and, if this is the prompt's end, head(), one by one.
void add_stamp(Sum& sum, const Machine& machine, const ModelShape& m, const Step& step, const Recipe& recipe,
               bool ends) {
  const int64_t rows = step.rows, width = m.heads * m.head_dim, kv_width = m.kv_heads * m.head_dim;
  const PlannedDevice device{machine.compute_capability, machine.multiprocessors, machine.shared_bytes};
  const RowRun run{.row = 0, .count = rows, .position = step.position, .pages = {}};
  const BitPlan& plan = recipe.activations.plan;
  std::vector<RowTile> tiles;
  split_tiles(std::span(&run, 1), plan, tiles);
  const bool coded = std::ranges::any_of(tiles, &RowTile::coded);
  const auto weight = [&](int64_t n, int64_t k) {
    return shape_of(n, k, recipe.weights.bits, recipe.weights.group);
  };
  const bool wide_values = recipe.weights.value_bits != recipe.weights.bits;
  const bool few = rows <= few_rows();
  // What comes before an input, and the input as integers: in one launch where no tile is coded. Sums and
  // SiLU are with the products of many rows.
  const auto input = [&](Role role, int64_t cols, RowChainShape chain, bool with_bytes = false) {
    chain.integers = !coded;
    if (!few) chain.adds = chain.gates = false;
    const WeightView w = weight(kPanel, cols);
    const bool splits = coded && !few && wants_split_rows(tiles, plan, w, device);
    const bool leaves_norm = splits && chain.norms;
    chain.factors = leaves_norm;
    const bool alone = !chain.adds && !chain.gates && !chain.norms && chain.rotation_block == 0;
    if (!coded || !alone) sum.add(role, m.layers, row_chain_cost(rows, cols, chain));
    if (!coded) return;
    sum.add(kQuantise, m.layers, row_extremes_cost(tiles, plan, cols, leaves_norm));
    sum.add(kQuantise, m.layers,
            splits ? quantize_split_cost(tiles, plan, w, leaves_norm, with_bytes)
                   : quantize_cost(tiles, plan, cols));
  };
  // A launch for all that follow each other with weights of the same bits.
  const auto linears = [&](std::span<const WeightView> weights, After after = After::kNothing) {
    while (!weights.empty()) {
      const DType type = weights.front().dtype;
      const auto end = std::ranges::find_if(weights, [&](const WeightView& w) { return w.dtype != type; });
      const auto together = weights.first(size_t(end - weights.begin()));
      sum.add(kLinears, m.layers,
              few ? linear_few_cost(rows, together, false)
                  : linear_int_cost(tiles, plan, together, false, device, after));
      weights = weights.subspan(together.size());
    }
  };
  const KvPages kv{.open = {},
                   .sealed = {},
                   .kv_heads = m.kv_heads,
                   .head_dim = m.head_dim,
                   .format = {.coded = recipe.kv.quantised, .plan = recipe.kv.plan}};

  // Few rows' residual addition joins the norm behind it, that of a layer's end the next layer's.
  input(kRows, m.hidden, {.adds = true, .norms = true}, wide_values);
  linears(std::array{weight(width, m.hidden), weight(kv_width, m.hidden),
                     shape_of(kv_width, m.hidden, recipe.weights.value_bits, recipe.weights.group)});
  sum.add(kRows, m.layers, heads_cost(rows, width + kv_width, m.head_dim, recipe.rotation.head));
  sum.add(kAttention, m.layers, append_kv_cost(rows, step.position, kv));
  for (const KernelCost& launch : attention_costs(rows, step.position, m.heads, kv, device))
    sum.add(kAttention, m.layers, launch);
  input(kQuantise, width, {.floats = false});
  linears(std::array{weight(m.hidden, width)}, After::kAdd);
  input(kRows, m.hidden, {.adds = true, .norms = true});
  linears(std::array{weight(m.intermediate, m.hidden), weight(m.intermediate, m.hidden)}, After::kSiluMul);
  input(kRows, m.intermediate,
        {.gates = true, .rotation_block = recipe.rotation.down ? m.intermediate & -m.intermediate : 0});
  linears(std::array{weight(m.hidden, m.intermediate)}, After::kAdd);

  const WeightView head = shape_of(m.vocab, m.hidden, recipe.weights.head_bits, recipe.weights.group);
  sum.add(kHead, 1, embed_cost(rows, head));
  if (!ends) return;
  const int64_t residual_block = recipe.rotation.residual ? m.hidden & -m.hidden : 0;
  if (residual_block > 0) sum.add(kHead, 1, row_chain_cost(1, m.hidden, {.rotation_block = residual_block}));
  sum.add(kHead, 1,
          row_chain_cost(1, m.hidden, {.norms = true, .rotation_block = residual_block, .integers = true}));
  sum.add(kHead, 1, linear_few_cost(1, {&head, 1}, false));
}

template <class Entry>
const Entry& find(std::span<const Entry> entries, std::string_view what, std::string_view name) {
  std::string choices;
  for (const Entry& entry : entries) {
    if (entry.name == name) return entry;
    choices += (choices.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw InputError(std::string(what) + " \"" + std::string(name) + "\" is unknown; choose one of " + choices);
}

}  // namespace

std::span<const Machine> machines() { return kMachines; }
std::span<const ModelShape> model_shapes() { return kShapes; }
std::span<const char* const> role_names() { return kRoles; }
const Machine& find_machine(std::string_view name) { return find(machines(), "device model", name); }
const ModelShape& find_shape(std::string_view name) { return find(model_shapes(), "shape", name); }

const char* scheme_name(Scheme scheme) {
  constexpr const char* kNames[] = {"fp16", "w4a16", "w8a8", "stamp", "stamp-bound"};
  return kNames[size_t(scheme)];
}

const RoleTime& Prediction::role(std::string_view name) const {
  return *std::ranges::find_if(roles, [&](const RoleTime& r) { return r.role == name; });
}

Prediction predict(const Machine& machine, const ModelShape& model, const Step& step, Scheme scheme,
                   const Recipe& recipe, int64_t chunk) {
  if (scheme != Scheme::kStamp && scheme != Scheme::kStampBound)
    return predict_other(machine, model, step, scheme);
  if (!recipe.activations.quantised || !recipe.kv.quantised || recipe.weights.bits == 16 ||
      recipe.weights.head_bits == 16)
    throw InputError("recipe " + recipe.name +
                     ": a prediction needs weights, head, activations and cache of 4 or 8 bits");
  Sum sum(machine, scheme == Scheme::kStamp);
  for (int64_t done = 0; done < step.rows; done += chunk) {
    const int64_t rows = std::min(chunk, step.rows - done);
    add_stamp(sum, machine, model, {rows, step.position + done}, recipe, done + rows == step.rows);
  }
  return std::move(sum).result();
}

}  // namespace stamp

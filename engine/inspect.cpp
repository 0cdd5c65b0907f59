#include "engine/inspect.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "engine/text_pass.h"
#include "kernels/error.h"

namespace stamp {
namespace {

constexpr int64_t kChunk = TextPass::kChunk;

/// L [kBlock, kBlock] as the engine has it: the inverse of the identity, L^T, is the product of an identity
/// of coefficients with an identity of weights.
std::vector<double> matrix_of(Ops& ops, const Transform& transform) {
  Buffer<uint8_t> q(kBlock * QuantMat::kQuantAlign);
  Buffer<float> scale(kBlock), offset(kBlock), eye(kBlock * kBlock), inverse(kBlock * kBlock);
  for (int64_t i = 0; i < kBlock; ++i) {
    q[i * QuantMat::kQuantAlign + i] = 1;
    eye[i * kBlock + i] = scale[i] = 1.0f;
  }
  const RowTile tile{.row = 0, .count = kBlock, .coded = true};
  const QuantMat in{.q = q.data(),
                    .rows = kBlock,
                    .cols = kBlock,
                    .stride = QuantMat::kQuantAlign,
                    .scale = scale.data(),
                    .offset = offset.data(),
                    .plan = {.transform = transform.kind, .levels = transform.levels},
                    .tiles = {&tile, 1}};
  ops.linear(inverse.mat(kBlock, kBlock), in, {eye.data(), DType::kF32, kBlock, kBlock}, {});
  std::vector<double> matrix(kBlock * kBlock);
  for (int64_t k = 0; k < kBlock; ++k)
    for (int64_t t = 0; t < kBlock; ++t) matrix[size_t(k * kBlock + t)] = double(inverse[t * kBlock + k]);
  return matrix;
}

double sum_of_squares(std::span<const float> x) {
  double sum = 0;
  for (float value : x) sum += double(value) * double(value);
  return sum;
}

std::vector<WeightView> weights_behind(const LayerWeights& layer, Source source) {
  switch (source) {
    case Source::kAttention:
      return {layer.q, layer.k, layer.v};
    case Source::kAttended:
      return {layer.o};
    case Source::kFeedForward:
      return {layer.gate, layer.up};
    case Source::kGated:
      return {layer.down};
    default:
      return {};
  }
}

/// Takes the activations of whole blocks and adds what they say to the statistics.
class Meter {
 public:
  Meter(const ModelConfig& config, const ModelWeights& weights, const InspectOptions& options,
        Inspection& result)
      : config_(config), weights_(weights), options_(options), ops_(*options.ops), result_(result) {
    const int64_t widest = config.widest_input();
    coefficients_ = Buffer<float>(kChunk * widest);
    transposed_ = Buffer<float>(kBlock * widest);
    q_ = Buffer<uint8_t>(kChunk * round_up(widest, QuantMat::kQuantAlign));
    scale_ = Buffer<float>(kChunk), offset_ = Buffer<float>(kChunk);
    matrix_ = Buffer<float>(kBlock * kBlock);
    if (!options.products) return;
    differences_ = Buffer<float>(kChunk * widest);
    const int64_t outputs = std::max({(config.heads + 2 * config.kv_heads) * config.head_dim,
                                      config.hidden_size, 2 * config.intermediate_size});
    products_ = Buffer<float>(kChunk * outputs);
  }

  /// x [blocks * kBlock, channels] without gaps; rows are quantised in pieces of `width` channels.
  void add(int64_t layer, Source source, Mat<const float> x, int64_t width) {
    SourceStatistics& s = result_.layers[size_t(layer)][size_t(source)];
    add_gram(s, x);
    const std::vector<WeightView> weights = options_.products
                                                ? weights_behind(weights_.layers[size_t(layer)], source)
                                                : std::vector<WeightView>();
    if (!weights.empty()) {
      std::vector<double> powers(size_t(x.rows), 0.0);
      multiply(x, weights, powers);
      for (double power : powers) s.product_power += power;
    }
    for (size_t t = 0; t < result_.transforms.size(); ++t) {
      transform(x, t);
      add_errors(s, t, x, width, weights, s.plan.low_bits, s.errors[t].low);
      add_errors(s, t, x, width, {}, s.plan.high_bits, s.errors[t].high);
    }
  }

 private:
  void add_gram(SourceStatistics& s, Mat<const float> x) {
    for (int64_t row = 0; row < x.rows; row += kBlock) {
      const Mat<const float> block = x.slice(row, kBlock);
      ops_.linear(matrix_.mat(kBlock, kBlock), block, {block.data, DType::kF32, kBlock, x.cols}, {});
      for (int64_t i = 0; i < kBlock * kBlock; ++i) s.gram[size_t(i)] += double(matrix_[i]);
    }
  }

  /// coefficients = L x, block by block.
  void transform(Mat<const float> x, size_t index) {
    const auto& l = result_.matrices[index];
    std::copy(l.begin(), l.end(), matrix_.data());
    for (int64_t row = 0; row < x.rows; row += kBlock) {
      for (int64_t t = 0; t < kBlock; ++t)
        for (int64_t c = 0; c < x.cols; ++c) transposed_[c * kBlock + t] = x.row(row + t)[c];
      ops_.linear(coefficients_.mat(x.rows, x.cols).slice(row, kBlock), matrix_.mat(kBlock, kBlock),
                  {transposed_.data(), DType::kF32, x.cols, kBlock}, {});
    }
  }

  /// What the engine's integers at `bits` differ from the coefficients by; of the products with `weights`,
  /// too.
  void add_errors(SourceStatistics& s, size_t index, Mat<const float> x, int64_t width,
                  std::span<const WeightView> weights, int bits, std::array<double, kBlock>& sums) {
    const Transform& t = result_.transforms[index];
    const int64_t blocks = x.rows / kBlock;
    const Mat<float> coefficients = coefficients_.mat(x.rows, x.cols);
    std::vector<RowTile> tiles;
    for (int64_t b = 0; b < blocks; ++b) tiles.push_back({b * kBlock, kBlock, true});
    for (int64_t first = 0; first < x.cols; first += width) {
      QuantMat q{.q = q_.data(),
                 .rows = x.rows,
                 .cols = width,
                 .stride = round_up(width, QuantMat::kQuantAlign),
                 .scale = scale_.data(),
                 .offset = offset_.data(),
                 .plan = {.transform = t.kind, .levels = t.levels, .high_bits = bits, .low_bits = bits},
                 .tiles = tiles};
      ops_.quantize(q, {x.data + first, x.rows, width, x.stride});
      for (int64_t r = 0; r < x.rows; ++r) {
        float* c = coefficients.row(r) + first;
        const uint8_t* codes = q.q + r * q.stride;
        float* keep = weights.empty() ? nullptr : differences_.data() + r * x.cols + first;
        double sum = 0;
        for (int64_t i = 0; i < width; ++i) {
          const float difference = q.scale[r] * float(codes[i]) + q.offset[r] - c[i];
          sum += double(difference) * double(difference);
          if (keep != nullptr) keep[i] = difference;
        }
        sums[size_t(r % kBlock)] += sum;
      }
    }
    if (weights.empty()) return;
    std::vector<double> powers(size_t(x.rows), 0.0);
    multiply(differences_.mat(x.rows, x.cols), weights, powers);
    for (int64_t r = 0; r < x.rows; ++r) s.errors[index].product[size_t(r % kBlock)] += powers[size_t(r)];
  }

  /// powers[r] += the squares of row r of in W^T, for all W.
  void multiply(Mat<const float> in, std::span<const WeightView> weights, std::span<double> powers) {
    std::vector<Product> products;
    int64_t at = 0;
    for (const WeightView& w : weights) {
      products.push_back({{products_.data() + at, in.rows, w.rows, w.rows}, w, {}});
      at += in.rows * w.rows;
    }
    ops_.linear(products, in);
    for (const Product& p : products)
      for (int64_t r = 0; r < in.rows; ++r) powers[size_t(r)] += sum_of_squares(p.out.row_span(r));
  }

  const ModelConfig& config_;
  const ModelWeights& weights_;
  const InspectOptions& options_;
  Ops& ops_;
  Inspection& result_;
  Buffer<float> coefficients_;  // [kChunk, widest]
  Buffer<float> transposed_;    // [widest, kBlock]
  Buffer<float> matrix_;        // [kBlock, kBlock]
  Buffer<float> differences_;   // [kChunk, widest]
  Buffer<float> products_;      // [kChunk, widest outputs of an input]
  Buffer<uint8_t> q_;
  Buffer<float> scale_, offset_;
};

}  // namespace

Recipe float_recipe(const Recipe& recipe) {
  Recipe floats;
  floats.name = recipe.name + " in floats";
  floats.rotation = recipe.rotation;
  return floats;
}

BitPlan inspected_plan(const Recipe& recipe, int64_t layer, Source source) {
  const bool cached = int(source) >= kSites;
  const Recipe::Values& values = cached ? recipe.kv : recipe.activations;
  const BitPlan plan = cached ? values.plan : recipe.plan_of(layer, Site(source));
  if (values.quantised && plan.low_bits < plan.high_bits) return plan;
  return {.transform = SeqTransform::kHaar, .levels = 5, .high_rows = 2, .high_bits = 8, .low_bits = 4};
}

Inspection inspect(const ModelConfig& config, const ModelWeights& weights, const Recipe& recipe,
                   const InspectOptions& options) {
  const int64_t tokens = int64_t(options.tokens.size()) / kBlock * kBlock;
  const int64_t length = TextPass::length(config);
  if (tokens < 2 * kBlock || length < 2 * kBlock)
    throw InputError("the text has " + std::to_string(options.tokens.size()) +
                     " tokens in the model's context; at least " + std::to_string(2 * kBlock) +
                     " are needed: the first block is left out");
  Inspection result{.transforms = options.transforms, .matrices = {}, .layers = {}, .tokens = tokens};
  for (const Transform& t : options.transforms) result.matrices.push_back(matrix_of(*options.ops, t));
  result.layers.resize(size_t(config.layers));
  const int64_t widths[kSources] = {
      config.hidden_size,       config.heads * config.head_dim,    config.hidden_size,
      config.intermediate_size, config.kv_heads * config.head_dim, config.kv_heads * config.head_dim};
  for (int64_t layer = 0; layer < config.layers; ++layer)
    for (int s = 0; s < kSources; ++s)
      result.layers[size_t(layer)][size_t(s)] = {.channels = widths[s],
                                                 .plan = inspected_plan(recipe, layer, Source(s)),
                                                 .gram = std::vector<double>(size_t(kBlock * kBlock), 0.0),
                                                 .errors = std::vector<RowErrors>(options.transforms.size())};

  const Recipe floats = float_recipe(recipe);
  Llama llama(config, weights, floats, *options.ops, kChunk);
  Meter meter(config, weights, options, result);
  int64_t skip = 0;  // rows of the forward pass that belong to block 0
  const auto measure = [&](int64_t layer, Source source, Mat<const float> x, int64_t width) {
    if (x.rows > skip) meter.add(layer, source, x.slice(skip, x.rows - skip), width);
  };
  llama.observe(
      {.input = [&](int64_t layer, Site site,
                    const Llama::Input& in) { measure(layer, Source(site), in.values, in.values.cols); },
       .cache =
           [&](int64_t layer, Mat<const float> keys, Mat<const float> values) {
             measure(layer, Source::kKeys, keys, config.head_dim);
             measure(layer, Source::kValues, values, config.head_dim);
           }});
  int64_t done = 0;
  TextPass(config).run(options.tokens.first(size_t(tokens)),
                       [&](std::span<const int32_t> chunk, const RowRun& run, const KvPages& kv) {
                         skip = run.position == 0 ? kBlock : 0;
                         llama.forward({.tokens = chunk, .runs = {&run, 1}, .logit_rows = {}}, kv, {});
                         result.blocks += (run.count - skip) / kBlock;
                         done += run.count;
                         if (options.progress) options.progress(done, tokens);
                       });
  return result;
}

std::array<double, kMatrices> weight_errors(Ops& ops, const LayerWeights& exact,
                                            const LayerWeights& quantised) {
  std::vector<WeightView> matrices;
  for_each_matrix(quantised, [&](const char*, const WeightView& w) { matrices.push_back(w); });
  std::array<double, kMatrices> errors{};
  size_t i = 0;
  for_each_matrix(exact, [&](const char*, const WeightView& w) {
    std::vector<int32_t> rows(static_cast<size_t>(w.rows));
    std::iota(rows.begin(), rows.end(), 0);
    Buffer<float> truth(w.rows * w.cols), values(w.rows * w.cols);  // [rows, cols], widened by a lookup
    ops.embed(truth.mat(w.rows, w.cols), rows, w);
    ops.embed(values.mat(w.rows, w.cols), rows, matrices[i]);
    double error = 0, power = 0;
    for (int64_t j = 0; j < truth.size(); ++j) {
      error += (double(values[j]) - double(truth[j])) * (double(values[j]) - double(truth[j]));
      power += double(truth[j]) * double(truth[j]);
    }
    errors[i++] = power > 0 ? error / power : 0;
  });
  return errors;
}

}  // namespace stamp

#include "engine/engine.h"

#include <algorithm>
#include <chrono>

#include "kernels/device.h"
#include "kernels/error.h"
#include "models/file.h"
#include "models/prepare/prepare.h"
#include "models/safetensors.h"
#include "models/sha256.h"

namespace stamp {
namespace {

bool is_on_cpu(const std::string& device) { return device == "auto" || device == "cpu"; }

void check(const EngineOptions& options) {
  const std::vector<std::string> devices = device_names();
  if (!is_on_cpu(options.device) &&
      std::find(devices.begin(), devices.end(), options.device) == devices.end()) {
    std::string choices = "auto, cpu";
    for (const std::string& device : devices) choices += ", " + device;
    throw InputError("device " + options.device + ": unknown; choose one of " + choices);
  }
  if (options.prefill_chunk < 0 || options.prefill_chunk % kBlock != 0)
    throw InputError("prefill chunk " + std::to_string(options.prefill_chunk) + ": must be a multiple of " +
                     std::to_string(kBlock));
  if (options.context < 0)
    throw InputError("context " + std::to_string(options.context) + ": must not be negative");
  if (options.cache_tokens < 0)
    throw InputError("cache of " + std::to_string(options.cache_tokens) + " tokens: must not be negative");
  if (options.cache_bytes < 0 || options.sequences < 1)
    throw InputError("the cache must have room for at least one sequence");
}

}  // namespace

int64_t host_chunk(const ModelConfig& c) {
  const int64_t floats = c.hidden_size + 2 * (c.heads + c.kv_heads) * c.head_dim + 2 * c.intermediate_size;
  return std::clamp(kHostActivations / (floats * int64_t{sizeof(float)}) / kBlock * kBlock, 4 * kBlock,
                    8 * kBlock);
}

Recipe choose_recipe(const EngineOptions& options, const ModelConfig& config) {
  if (config.stored_recipe.empty()) return Recipe::load(options.recipe.empty() ? "f32" : options.recipe);
  const Recipe stored = Recipe::parse(config.stored_recipe, (options.model / "config.json").string());
  if (options.recipe.empty()) return stored;
  Recipe asked = Recipe::load(options.recipe);
  if (!(asked.weights == stored.weights && asked.rotation == stored.rotation))
    throw InputError(options.model.string() + ": is quantised with recipe " + stored.name +
                     "; give the unquantised model to --recipe " + options.recipe);
  return asked;  // the same weights under other activations or another cache
}

Engine::Engine(const EngineOptions& options) : options_(options) {
  const auto start = std::chrono::steady_clock::now();
  check(options_);
  ops_ = is_on_cpu(options_.device) ? make_ops(options_.ops, options_.threads) : open_device(options_.device);
  if (options_.wrap_ops) ops_ = options_.wrap_ops(std::move(ops_));
  const bool on_host = this->on_host();
  config_ = ModelConfig::load(options_.model);
  recipe_ = choose_recipe(options_, config_);
  generation_config_ = GenerationConfig::load(options_.model, config_);
  weights_ = ModelWeights::load(options_.model, config_);
  tokenizer_ = Tokenizer::load(options_.model);
  chat_template_ = ChatTemplate::load(options_.model);
  if (tokenizer_->vocab_size() > config_.vocab_size)
    throw InputError((options_.model / "config.json").string() + ": vocab_size is " +
                     std::to_string(config_.vocab_size) + " but the tokenizer has " +
                     std::to_string(tokenizer_->vocab_size()) + " tokens; the files do not belong together");
  context_ = options_.context > 0 ? options_.context : config_.max_position_embeddings;
  const KvFormat format{.coded = recipe_.kv.quantised, .plan = recipe_.kv.plan};
  const int64_t cached = cache_tokens(format);
  if (options_.context > cached)
    throw InputError("a cache of " + std::to_string(cached) + " tokens cannot hold a context of " +
                     std::to_string(options_.context) + "; shorten the context or enlarge the cache");
  context_ = std::min(context_, cached);
  const bool prepares = config_.stored_recipe.empty() && !recipe_.keeps_weights();
  if (prepares) {  // looks into activations, which takes the host's memory
    const auto host_ops = on_host ? nullptr : make_ops("", options_.threads);
    weights_ = prepare_weights(
        config_, weights_, recipe_,
        {.ops = on_host ? ops_.get() : host_ops.get(), .progress = options_.prepare_progress});
  }
  if (!on_host) weights_.move_to(ops_->memory());
  codes_activations_ = recipe_.activations.quantised && !recipe_.activations.plan.is_plain();
  for (const auto& [at, plan] : recipe_.site_plans) codes_activations_ |= !plan.is_plain();
  const int64_t rows = options_.prefill_chunk > 0 ? options_.prefill_chunk
                       : on_host                  ? host_chunk(config_)
                                                  : kDeviceChunk;
  llama_ = std::make_unique<Llama>(config_, weights_, recipe_, *ops_, rows);
  cache_ = std::make_unique<KvCache>(config_, format, cached, options_.page_shuffle, ops_->memory());
  if (!prepares && on_host) {
    // A mapped file's pages can be given up, copies cannot: only where there is room to spare.
    const bool copies = !options_.map_weights && int64_t(weights_.file_bytes) < available_memory() / 2;
    mover_ = std::jthread([=, this](const std::stop_token& stop) { weights_.use_huge_pages(copies, stop); });
  }
  release_freed_memory();  // of the files' JSON
  load_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool Engine::on_host() const { return &ops_->memory() == &host_memory(); }

/// Of all sequences together, as the options say. The context is known.
int64_t Engine::cache_tokens(const KvFormat& format) const {
  if (options_.cache_tokens > 0) return options_.cache_tokens;
  if (options_.cache_bytes == 0 && options_.sequences == 1) return context_;
  const double per_token = KvCache(config_, format, kBlock).bytes_per_token(context_);
  const auto held_by = [&](int64_t bytes) { return int64_t(double(bytes) / per_token) / kBlock * kBlock; };
  if (options_.cache_bytes == 0)
    return std::max(context_, std::min(held_by(available_memory() / 4), options_.sequences * context_));
  const int64_t tokens = held_by(options_.cache_bytes);
  if (tokens == 0)
    throw InputError("a cache of " + std::to_string(options_.cache_bytes) +
                     " bytes is too small for a block of " + std::to_string(kBlock) +
                     " tokens; give it more memory");
  return tokens;
}

void Engine::check_room(std::span<const int32_t> tokens, int64_t held) const {
  const int64_t wanted = held + int64_t(tokens.size());
  if (wanted > context_)
    throw InputError(std::to_string(wanted) + " tokens do not fit the context of " +
                     std::to_string(context_) + "; shorten the text or raise --ctx");
  for (int32_t id : tokens)
    if (id < 0 || id >= config_.vocab_size)
      throw InputError("token id " + std::to_string(id) + " is not in the vocabulary of " +
                       std::to_string(config_.vocab_size));
}

std::string Engine::fingerprint() const {
  std::string text =
      sha256_file(options_.model / "config.json") + recipe_.to_json() + std::string(ops_->name());
  const Safetensors files = Safetensors::open(options_.model);
  for (const auto& [name, tensor] : files.tensors()) {
    text += name + ' ' + tensor.dtype + ' ';
    text.append(reinterpret_cast<const char*>(tensor.data), std::min<uint64_t>(tensor.bytes, 4096));
  }
  return sha256_hex(text);
}

double Engine::weight_bits() const {
  int64_t elements = weights_.embedding.rows * weights_.embedding.cols;
  if (weights_.lm_head.data != weights_.embedding.data)
    elements += weights_.lm_head.rows * weights_.lm_head.cols;
  for (const LayerWeights& layer : weights_.layers)
    for_each_matrix(layer, [&](const char*, const WeightView& w) { elements += w.rows * w.cols; });
  return 8.0 * double(weights_.matrix_bytes()) / double(elements);
}

namespace {

/// Block 0 and an incomplete last block have kTokenBits.
double mean_bits(const BitPlan& plan, int64_t tokens) {
  const int64_t coded = std::max<int64_t>(0, tokens / kBlock - 1) * kBlock;
  return (double(coded) * plan.mean_bits() + double(tokens - coded) * kTokenBits) / double(tokens);
}

}  // namespace

double Engine::activation_bits(int64_t tokens) const {
  if (!recipe_.activations.quantised) return 32.0;
  double sum = 0, channels = 0;
  for (int64_t layer = 0; layer < config_.layers; ++layer) {
    const LayerWeights& w = weights_.layers[size_t(layer)];
    const int64_t widths[kSites] = {w.q.cols, w.o.cols, w.gate.cols, w.down.cols};
    for (int site = 0; site < kSites; ++site) {
      sum += double(widths[site]) * mean_bits(recipe_.plan_of(layer, Site(site)), tokens);
      channels += double(widths[site]);
    }
  }
  return sum / channels;
}

double Engine::kv_bits(int64_t tokens) const {
  return recipe_.kv.quantised ? mean_bits(recipe_.kv.plan, tokens) : 32.0;
}

}  // namespace stamp

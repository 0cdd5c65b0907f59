#include "engine/engine.h"

#include <algorithm>
#include <chrono>

#include "kernels/device.h"
#include "kernels/error.h"

namespace stamp {
namespace {

void check(const EngineOptions& options) {
  if (options.recipe != "f32")
    throw InputError("recipe " + options.recipe + ": unknown; this version has f32");
  if (options.device == "cuda") require_cuda_device();
  if (options.device != "auto" && options.device != "cpu")
    throw InputError("device " + options.device + ": unknown; choose auto, cpu or cuda");
  if (options.prefill_chunk < kBlock || options.prefill_chunk % kBlock != 0)
    throw InputError("prefill chunk " + std::to_string(options.prefill_chunk) + ": must be a multiple of " +
                     std::to_string(kBlock));
  if (options.context < 0)
    throw InputError("context " + std::to_string(options.context) + ": must not be negative");
}

}  // namespace

Engine::Engine(const EngineOptions& options) : options_(options) {
  const auto start = std::chrono::steady_clock::now();
  check(options_);
  config_ = ModelConfig::load(options_.model);
  generation_config_ = GenerationConfig::load(options_.model, config_);
  weights_ = ModelWeights::load(options_.model, config_);
  tokenizer_ = Tokenizer::load(options_.model);
  chat_template_ = ChatTemplate::load(options_.model);
  if (tokenizer_->vocab_size() > config_.vocab_size)
    throw InputError((options_.model / "config.json").string() + ": vocab_size is " +
                     std::to_string(config_.vocab_size) + " but the tokenizer has " +
                     std::to_string(tokenizer_->vocab_size()) + " tokens; the files do not belong together");
  context_ = options_.context > 0 ? options_.context : config_.max_position_embeddings;
  ops_ = make_ops(options_.ops, options_.threads);
  llama_ = std::make_unique<Llama>(config_, weights_, *ops_, options_.prefill_chunk);
  cache_ = std::make_unique<KvCache>(config_, context_, options_.page_shuffle);
  load_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double Engine::weight_bits() const { return 8.0 * double(dtype_size(weights_.embedding.dtype)); }

}  // namespace stamp

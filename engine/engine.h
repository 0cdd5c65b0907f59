#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "engine/kv_cache.h"
#include "kernels/ops.h"
#include "models/chat_template.h"
#include "models/config.h"
#include "models/llama.h"
#include "models/tokenizer.h"
#include "models/weights.h"

namespace stamp {

struct EngineOptions {
  std::filesystem::path model{};  // an HF directory
  std::string recipe = "f32";     // how weights, activations and cache are represented
  std::string device = "auto";    // auto, cpu or cuda
  int threads = 0;                // <= 0: one per available core
  int64_t context = 0;            // tokens the cache can hold; 0: what the model was trained for
  int64_t prefill_chunk = 256;    // rows of a forward pass; a multiple of kBlock
  std::string ops{};              // operations by name; empty: STAMP_FORCE_OPS or the best
  uint64_t page_shuffle = 0;      // see KvCache
};

/// One loaded model: its files, its operations and its cache. Not thread-safe: one session advances at a
/// time.
class Engine {
 public:
  /// Throws InputError for anything wrong with the options or the files.
  explicit Engine(const EngineOptions& options);

  const EngineOptions& options() const { return options_; }
  const ModelConfig& config() const { return config_; }
  const GenerationConfig& generation_config() const { return generation_config_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  /// Null if the model has none.
  const ChatTemplate* chat_template() const { return chat_template_ ? &*chat_template_ : nullptr; }
  Ops& ops() { return *ops_; }
  Llama& llama() { return *llama_; }
  KvCache& cache() { return *cache_; }
  int64_t context() const { return context_; }
  double load_seconds() const { return load_seconds_; }
  int64_t weight_bytes() const { return int64_t(weights_.file_bytes); }
  /// Mean bits of a stored weight, an activation and a cached value.
  double weight_bits() const;
  double activation_bits() const { return 32.0; }
  double kv_bits() const { return 32.0; }

 private:
  EngineOptions options_;
  ModelConfig config_;
  GenerationConfig generation_config_;
  ModelWeights weights_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_template_;
  std::unique_ptr<Ops> ops_;
  std::unique_ptr<Llama> llama_;
  std::unique_ptr<KvCache> cache_;
  int64_t context_ = 0;
  double load_seconds_ = 0;
};

}  // namespace stamp

#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>

#include "engine/kv_cache.h"
#include "kernels/ops.h"
#include "models/chat_template.h"
#include "models/config.h"
#include "models/llama.h"
#include "models/recipe.h"
#include "models/tokenizer.h"
#include "models/weights.h"

namespace stamp {

/// Rows of a forward pass on a device where nobody says how many. On the host there are fewer to keep busy:
/// host_chunk().
inline constexpr int64_t kDeviceChunk = 2048;
/// Panels of weights become bytes once for all rows of a pass; but activations of so many should not take
/// more than kHostActivations bytes. 256 to 512.
inline constexpr int64_t kHostActivations = 16 << 20;
int64_t host_chunk(const ModelConfig& config);

struct EngineOptions {
  std::filesystem::path model{};  // an HF directory
  std::string recipe{};           // how weights, activations and cache are represented; empty: as stored
  std::string device = "auto";    // auto or cpu, or one of device_names()
  int threads = 0;                // <= 0: one per available core
  int64_t context = 0;            // most tokens of a sequence; 0: what the model was trained for, or fits
  int64_t cache_tokens = 0;       // that the cache holds, of all sequences together; 0: by cache_bytes
  int64_t cache_bytes = 0;        // that the cache may take; 0: by sequences
  int64_t sequences = 1;          // full contexts it holds; of several, what a quarter of free memory does
  bool map_weights = false;       // leave them in the mapped file instead of moving them to huge pages
  int64_t prefill_chunk = 0;      // most rows of a forward pass, a multiple of kBlock; 0: host_chunk() or
                                  // kDeviceChunk
  std::string ops{};              // operations by name; empty: STAMP_FORCE_OPS or the best
  std::function<void(int64_t done, int64_t total)> prepare_progress{};  // while weights are quantised at load
  uint64_t page_shuffle = 0;                                            // see KvCache
  /// Puts others, TimedOps say, around the operations.
  std::function<std::unique_ptr<Ops>(std::unique_ptr<Ops> ops)> wrap_ops{};
};

/// How the model is represented: a quantised directory says so itself, anything else is f32 unless asked
/// otherwise. Throws InputError if a quantised directory has other weights than the recipe asked for.
Recipe choose_recipe(const EngineOptions& options, const ModelConfig& config);

/// One loaded model: its files, its operations and its cache. Not thread-safe: one session advances at a
/// time.
class Engine {
 public:
  /// Throws InputError for anything wrong with the options or the files.
  explicit Engine(const EngineOptions& options);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const EngineOptions& options() const { return options_; }
  const ModelConfig& config() const { return config_; }
  const GenerationConfig& generation_config() const { return generation_config_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  /// Null if the model has none.
  const ChatTemplate* chat_template() const { return chat_template_ ? &*chat_template_ : nullptr; }
  Ops& ops() { return *ops_; }
  /// The operations work in the host's memory.
  bool on_host() const;
  Llama& llama() { return *llama_; }
  KvCache& cache() { return *cache_; }
  int64_t context() const { return context_; }
  /// Throws InputError if a sequence that holds `held` tokens cannot be continued by these: an id is not in
  /// the vocabulary, or the context would overflow.
  void check_room(std::span<const int32_t> tokens, int64_t held = 0) const;
  double load_seconds() const { return load_seconds_; }
  const Recipe& recipe() const { return recipe_; }
  const ModelWeights& weights() const { return weights_; }
  int64_t weight_bytes() const { return weights_.matrix_bytes(); }
  /// Whole blocks of a prompt are computed together: what a token's logits are depends on its block.
  bool codes_blocks() const { return cache_->format().seals(1) || codes_activations_; }
  /// Mean bits of a matrix element, scales counted; of an activation and of a cached value without their
  /// scales, over the first `tokens` tokens of a sequence.
  double weight_bits() const;
  double activation_bits(int64_t tokens) const;
  double kv_bits(int64_t tokens) const;

  /// What decides the bits of logits and cached pages: configuration, weights, recipe and operations. Of the
  /// weights, names and first bytes are read.
  std::string fingerprint() const;

 private:
  int64_t cache_tokens(const KvFormat& format) const;

  EngineOptions options_;
  ModelConfig config_;
  GenerationConfig generation_config_;
  Recipe recipe_;
  std::unique_ptr<Ops> ops_;  // before everything in its memory
  ModelWeights weights_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> chat_template_;
  std::unique_ptr<Llama> llama_;
  std::unique_ptr<KvCache> cache_;
  bool codes_activations_ = false;
  int64_t context_ = 0;
  double load_seconds_ = 0;
  std::jthread mover_;  // of the weights to huge pages, while the engine already works; joined first
};

}  // namespace stamp

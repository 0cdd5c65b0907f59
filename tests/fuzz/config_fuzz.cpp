#include "models/config.h"

#include <cmath>
#include <cstdlib>

#include "kernels/error.h"
#include "models/rope.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

/// The text is read as config.json and as generation_config.json. An accepted configuration describes a model
/// whose sizes fit 64 bits and whose angles are numbers; everything else is an InputError.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  stamp::ModelConfig config;
  config.vocab_size = 32000;
  try {
    const auto generation = stamp::GenerationConfig::parse(text, "generation_config.json", config);
    for (int32_t id : generation.eos_token_ids) require(id >= 0 && id < config.vocab_size);
    require(generation.top_p.value_or(1) > 0 && generation.temperature.value_or(0) >= 0);
  } catch (const stamp::InputError&) {
  }
  try {
    config = stamp::ModelConfig::parse(text, "config.json");
  } catch (const stamp::InputError&) {
    return 0;
  }
  require(config.vocab_size > 0 && config.hidden_size > 0 && config.intermediate_size > 0 &&
          config.layers > 0);
  require(config.heads % config.kv_heads == 0 && config.head_dim >= 2 && config.head_dim % 2 == 0);
  int64_t product = 0;
  require(!__builtin_mul_overflow(config.vocab_size, config.hidden_size, &product));
  require(!__builtin_mul_overflow(config.heads * config.head_dim, config.hidden_size * 8, &product));
  for (int32_t id : config.eos_token_ids) require(id >= 0 && id < config.vocab_size);
  const stamp::Rope rope(config);
  require(std::isfinite(rope.attention_factor()) && rope.attention_factor() > 0);
  for (float frequency : rope.inverse_frequencies()) require(std::isfinite(frequency) && frequency >= 0);
  return 0;
}

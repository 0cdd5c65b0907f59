#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/quant_format.h"

namespace stamp {

/// Which of a layer's inputs: what q, k and v share; the attended values before o; what gate and up share;
/// the gated values before down.
enum class Site : uint8_t { kAttention, kAttended, kFeedForward, kGated };
inline constexpr int kSites = 4;
/// "attention", "attended", "feed_forward", "gated"
const char* site_name(Site site);

/// How a model is represented (configs/*.json, design section 4). Sixteen bits mean: as the files store it,
/// with float32 arithmetic.
struct Recipe {
  struct Weights {
    int bits = 16;           // 16, 8 (one scale a row) or 4
    int64_t group = 64;      // 4 bits: input channels that share a scale: 32, 64 or 128
    bool symmetric = false;  // 4 bits: the zero point is the middle code
    int value_bits = 16;     // of v, whose errors cost most: as bits, or 8 where bits is 4
    bool gptq = false;       // else round to nearest
    int head_bits = 16;      // embedding and lm_head: 16, 8 or 4
    bool operator==(const Weights&) const = default;
  };
  struct Rotation {
    bool residual = false;  // R1: the residual stream, fused into the weights
    bool head = false;      // R2 on values and o, fused; R3 on queries and keys, online
    bool down = false;      // R4: the input of down, online
    uint64_t seed = 0;
    bool any() const { return residual || head || down; }
    bool operator==(const Rotation&) const = default;
  };
  /// Activations of linears, or the KV cache.
  struct Values {
    bool quantised = false;  // false: 16 bits
    BitPlan plan;
    bool operator==(const Values&) const = default;
  };

  std::string name = "f32";
  Weights weights;
  Rotation rotation;
  Values activations, kv;
  /// Plans of single inputs, where a search found better ones than `activations`: by layer and site.
  std::map<std::pair<int64_t, Site>, BitPlan> site_plans;

  BitPlan plan_of(int64_t layer, Site site) const;
  /// Nothing about the weights changes: they are used from the files.
  bool keeps_weights() const { return weights.bits == 16 && weights.head_bits == 16 && !rotation.any(); }
  bool operator==(const Recipe&) const = default;

  /// A name of recipe_names() or a JSON file. Throws InputError naming the file and field, or the known
  /// names.
  static Recipe load(const std::string& name_or_file);
  static Recipe parse(std::string_view json, const std::string& file_name);
  /// The JSON that parse() reads back.
  std::string to_json() const;
};

/// The recipes built in from configs/, sorted.
std::vector<std::string> recipe_names();

}  // namespace stamp

#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.h"
#include "tests/tiny_model.h"

namespace stamp {

/// An engine on a tiny model in a directory of its own.
struct TinyEngine {
  explicit TinyEngine(const TinyModel& model, EngineOptions options = {}) {
    model.write(directory.path());
    options.model = directory.path();
    if (options.threads == 0) options.threads = 1;
    engine = std::make_unique<Engine>(options);
  }
  operator Engine&() { return *engine; }
  Engine* operator->() { return engine.get(); }

  TempDir directory;
  std::unique_ptr<Engine> engine;
};

/// The tiny models' tokens are bytes.
inline std::vector<int32_t> bytes_of(std::string_view text) {
  std::vector<int32_t> ids;
  for (const unsigned char c : text) ids.push_back(c);
  return ids;
}

/// Ids that repeat no pattern.
inline std::vector<int32_t> tokens_for(const Engine& engine, int64_t count, uint32_t seed = 1) {
  std::vector<int32_t> tokens;
  for (uint32_t x = seed; int64_t(tokens.size()) < count; x = x * 1664525u + 1013904223u)
    tokens.push_back(int32_t((x >> 8) % uint32_t(engine.config().vocab_size)));
  return tokens;
}

/// A file of a recipe with the bits of w4a4kv4-stamp, rounded to nearest, which takes no calibration.
inline std::string coded_recipe(const TempDir& dir) {
  const std::string plan =
      R"({"low_bits": 4, "high_bits": 8, "high_rows": 2, "transform": "haar", "levels": 5})";
  write_file(dir / "recipe.json", R"({"name": "coded", "weights": {"bits": 4, "group": 32, "head_bits": 8},
    "rotation": {"residual": true, "head": true, "down": true}, "activations": )" +
                                      plan + R"(, "kv": )" + plan + "}");
  return (dir / "recipe.json").string();
}

}  // namespace stamp

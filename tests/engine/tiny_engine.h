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

}  // namespace stamp

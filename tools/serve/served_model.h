#pragma once
#include <memory>
#include <string>

#include "engine/grammar/constraint_cache.h"
#include "engine/grammar/token_vocabulary.h"
#include "engine/scheduler.h"

namespace stamp {

/// The model that answers, with its scheduler, and what the wire format says about it.
struct ServedModel {
  /// Loads. `kv_bytes`: for keys and values of all sequences; 0: a quarter of the memory that is free, at
  /// most what as many full contexts as run together take. Without a name it has its directory's. Throws
  /// InputError for anything wrong with the options or the files.
  ServedModel(const EngineOptions& engine_options, const SchedulerOptions& scheduler_options,
              int64_t kv_bytes, const std::string& name);

  const Tokenizer& tokenizer() const { return engine.tokenizer(); }
  int64_t vocab_size() const { return engine.config().vocab_size; }

  Engine engine;
  TokenVocabulary vocabulary;
  mutable ConstraintCache constraints;  // of what requests asked for
  Scheduler scheduler;                  // ends first
  std::string name;
  int64_t created = 0;                    // unix time of the load
  std::string fingerprint;                // of everything that the answers depend on but the request
  nlohmann::ordered_json tokenizer_info;  // what tokenizer_config.json holds
};

}  // namespace stamp

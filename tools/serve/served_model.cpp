#include "tools/serve/served_model.h"

#include <ctime>

#include "models/file.h"
#include "models/json.h"
#include "models/sha256.h"

namespace stamp {
namespace {

nlohmann::ordered_json read_tokenizer_info(const std::filesystem::path& directory) {
  const auto file = directory / "tokenizer_config.json";
  auto info = nlohmann::ordered_json::object();
  if (std::filesystem::exists(file))
    info = parse_ordered_json(read_file(file, uint64_t{64} << 20), file.string());
  const auto chat = directory / "chat_template.jinja";
  if (info.is_object() && std::filesystem::exists(chat))
    info["chat_template"] = read_file(chat, uint64_t{4} << 20);
  return info;
}

/// The options with a cache for many sequences, and with steps as long as the scheduler makes them.
EngineOptions for_many(EngineOptions options, const SchedulerOptions& scheduler, int64_t kv_bytes) {
  options.prefill_chunk = std::max(options.prefill_chunk, round_up(scheduler.step_tokens, kBlock));
  options.cache_bytes = kv_bytes;
  options.sequences = scheduler.parallel;
  return options;
}

}  // namespace

ServedModel::ServedModel(const EngineOptions& engine_options, const SchedulerOptions& scheduler_options,
                         int64_t kv_bytes, const std::string& served_name)
    : engine(for_many(engine_options, scheduler_options, kv_bytes)),
      vocabulary(engine.tokenizer(), engine.generation_config().eos_token_ids, engine.config().vocab_size),
      scheduler(engine, scheduler_options),
      name(served_name.empty() ? std::filesystem::weakly_canonical(engine_options.model).filename().string()
                               : served_name),
      created(std::time(nullptr)),
      tokenizer_info(read_tokenizer_info(engine_options.model)) {
  fingerprint = "fp_" + sha256_hex(engine.fingerprint()).substr(0, 12);
}

}  // namespace stamp

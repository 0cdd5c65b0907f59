#include "tools/serve/served_model.h"

#include <ctime>

#include "kernels/error.h"
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
  options.prefill_chunk =
      std::max(options.prefill_chunk, (scheduler.step_tokens + kBlock - 1) / kBlock * kBlock);
  const ModelConfig config = ModelConfig::load(options.model);
  const Recipe recipe = choose_recipe(options, config);
  const KvCache one_page(config, {.coded = recipe.kv.quantised, .plan = recipe.kv.plan}, kBlock);
  const int64_t context = options.context > 0 ? options.context : config.max_position_embeddings;
  const int64_t bytes = kv_bytes > 0 ? kv_bytes : available_memory() / 4;
  int64_t tokens = int64_t(double(bytes) / one_page.bytes_per_token(context)) / kBlock * kBlock;
  if (kv_bytes > 0 && tokens == 0)
    throw InputError("--kv-memory " + std::to_string(kv_bytes) + ": not enough for " +
                     std::to_string(kBlock) + " tokens");
  if (kv_bytes == 0) tokens = std::max(context, std::min(tokens, scheduler.parallel * context));
  options.cache_tokens = tokens;
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

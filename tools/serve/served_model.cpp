#include "tools/serve/served_model.h"

#include <ctime>

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

}  // namespace

ServedModel::ServedModel(const EngineOptions& engine_options, const SchedulerOptions& scheduler_options,
                         const std::string& served_name)
    : engine(engine_options),
      scheduler(engine, scheduler_options),
      name(served_name),
      created(std::time(nullptr)),
      tokenizer_info(read_tokenizer_info(engine_options.model)) {
  fingerprint =
      "fp_" +
      sha256_hex(name + "\n" + engine.recipe().name + "\n" + std::string(engine.ops().name())).substr(0, 12);
}

}  // namespace stamp

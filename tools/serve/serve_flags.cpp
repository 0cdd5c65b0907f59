#include "tools/serve/serve_flags.h"

#include <fmt/format.h>

#include "kernels/error.h"
#include "models/json.h"
#include "tools/cli.h"

namespace stamp {
namespace {

using Json = nlohmann::json;

/// As it would be written on the command line.
std::string argument(const Json& value, const std::string& file, const std::string& field) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean() || value.is_number()) return value.dump();
  throw InputError(file + ": " + field + " must be a string, a number, true or false");
}

}  // namespace

void add_served_model_flags(CLI::App& command, SchedulerOptions& scheduler, int64_t& kv_memory,
                            std::string& served_name) {
  add_flag_with_mirror(command, "--served-name", served_name,
                       "The model's name in requests and answers; by default its directory's");
  add_flag_with_mirror(command, "--parallel", scheduler.parallel, "Sequences that advance together")
      ->check(CLI::Range(int64_t{1}, int64_t{1024}))
      ->capture_default_str();
  add_flag_with_mirror(command, "--kv-memory", kv_memory,
                       "Bytes for the keys and values of all sequences; by default a quarter of what is "
                       "free, at most --parallel full contexts")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 50))
      ->type_name("BYTES");
}

void ServeFlags::add(CLI::App& command) {
  const auto flag = [&](const std::string& name, auto& value, const std::string& help) {
    return add_flag_with_mirror(command, name, value, help);
  };
  add_model_flags(command, engine);
  command.get_option("--model")->required(false);  // it may come from --config
  add_context_flag(command, engine);
  flag("--host", http.host, "Address to listen on; 0.0.0.0 is all of them")->capture_default_str();
  flag("--port", http.port, "Port; 0 is any that is free")->capture_default_str();
  const auto range = [](int64_t low, int64_t high) { return CLI::Range(low, high); };
  add_served_model_flags(command, scheduler, kv_memory, served_name);
  flag("--queue", scheduler.queue,
       "Sequences that may wait for a place; further requests are answered with 429")
      ->check(range(0, 1 << 20))
      ->capture_default_str();
  flag("--step-tokens", scheduler.step_tokens,
       fmt::format("Most tokens that one forward pass computes; 0 is {} on the host and {} on a device",
                   kHostStep, kDeviceChunk))
      ->check(range(0, 1 << 16))
      ->capture_default_str();
  add_switch_with_mirror(command, "--no-prefix-cache", no_prefix_cache,
                         "Compute every prompt from its first token");
  flag("--session-dir", session_dir, "Directory that keeps the prefix cache while the server is down")
      ->type_name("DIR");
  flag("--api-key", keys, "Key that clients must present; repeatable")->allow_extra_args(false);
  flag("--api-key-file", key_file, "File with one key a line");
  flag("--tls-cert", http.certificate_file, "Certificate chain, PEM; with --tls-key the server speaks HTTPS");
  flag("--tls-key", http.key_file, "Its private key, PEM");
  flag("--cors-origin", cors_origin, "Origin whose pages may use the server from a browser; * is any");
  flag("--log-format", log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  flag("--max-connections", http.limits.connections, "Further ones are answered with 503")
      ->check(range(1, 1 << 20))
      ->capture_default_str();
  const auto seconds = [&](const std::string& name, HttpLimits::Seconds& value, const std::string& help) {
    CLI::Option* option = command.add_option_function<double>(
        name, [&value](const double& given) { value = HttpLimits::Seconds(given); }, help);
    option->check(CLI::Range(0.1, 86400.0))->default_str(std::to_string(int(value.count())));
    option->type_name("SECONDS");
    option->envname(mirror_of(*option));
  };
  seconds("--header-timeout", http.limits.header_timeout, "For a request's header to arrive");
  seconds("--body-timeout", http.limits.body_timeout, "For a request's body to arrive");
  seconds("--idle-timeout", http.limits.idle_timeout, "Between two requests of a connection");
  seconds("--write-timeout", http.limits.write_timeout, "For a client to take a part of an answer");
  flag("--config", config, "JSON file with flags by name, such as {\"port\": 8080}");
}

void ServeFlags::read_config(CLI::App& command) {
  if (config.empty()) return;
  const Json object = read_json_file(config);
  if (!object.is_object()) throw InputError(config + ": must be a JSON object");
  for (const auto& [field, value] : object.items()) {
    CLI::Option* option = command.get_option_no_throw("--" + field);
    if (option == nullptr || field == "config" || field == "help")
      throw InputError(config + ": " + printable(field) + ": no such flag of stamp serve");
    if (value.is_null() || option->count() > 0) continue;
    if (value.is_array())
      for (const Json& item : value) option->add_result(argument(item, config, field));
    else option->add_result(argument(value, config, field));
    try {
      option->run_callback();
    } catch (const CLI::ParseError& e) {
      throw InputError(config + ": " + e.what());
    }
  }
}

void ServeFlags::validate() const {
  if (engine.model.empty()) throw InputError("--model is required");
  if (!session_dir.empty() && no_prefix_cache)
    throw InputError("--session-dir keeps the prefix cache, which --no-prefix-cache turns off");
  if (!session_dir.empty() && !std::filesystem::is_directory(session_dir))
    throw InputError(session_dir + ": no such directory; make it for --session-dir");
}

ApiOptions ServeFlags::api() const {
  std::vector<std::string> all = keys;
  if (!key_file.empty())
    for (std::string& key : ApiKeys::read_file(key_file)) all.push_back(std::move(key));
  return {.keys = ApiKeys(all), .cors_origin = cors_origin, .parallel = scheduler.parallel};
}

ServerLog::Format ServeFlags::format() const {
  return log_format == "json" ? ServerLog::Format::kJson : ServerLog::Format::kText;
}

std::filesystem::path ServeFlags::prefix_file() const {
  return session_dir.empty() ? std::filesystem::path() : std::filesystem::path(session_dir) / "prefixes";
}

}  // namespace stamp

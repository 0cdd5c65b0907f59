#pragma once
#include <CLI/CLI.hpp>

#include "tools/serve/api.h"
#include "tools/serve/http_server.h"

namespace stamp {

/// --served-name, --parallel, --kv-memory: how a ServedModel is made.
void add_served_model_flags(CLI::App& command, SchedulerOptions& scheduler, int64_t& kv_memory,
                            std::string& served_name);

/// What `stamp serve` was asked for.
struct ServeFlags {
  EngineOptions engine{};
  SchedulerOptions scheduler{};
  HttpServerOptions http{};
  std::vector<std::string> keys{};
  std::string key_file{}, cors_origin{}, served_name{}, log_format = "text", config{};
  std::string session_dir{};  // the prefix cache is kept there between runs; empty: it is not kept
  int64_t kv_memory = 0;      // bytes; 0: see ServedModel
  bool no_prefix_cache = false;

  void add(CLI::App& command);
  /// Reads the file of --config, whose fields are flags' names and hold where neither the command line nor
  /// the environment says otherwise. Throws InputError for an unknown field or a value of the wrong form.
  void read_config(CLI::App& command);
  /// Throws InputError for what does not fit together.
  void validate() const;

  ApiOptions api() const;
  ServerLog::Format format() const;
  /// In session_dir; empty if there is none.
  std::filesystem::path prefix_file() const;
};

}  // namespace stamp

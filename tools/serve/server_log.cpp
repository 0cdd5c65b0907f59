#include "tools/serve/server_log.h"

#include <fmt/format.h>
#include <spdlog/async.h>
#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include "tools/serve/responses.h"

namespace stamp {
namespace {

constexpr size_t kQueuedLines = 8192;

}  // namespace

struct ServerLog::Sinks {
  // spdlog shares these by its own design.
  std::shared_ptr<spdlog::details::thread_pool> thread =
      std::make_shared<spdlog::details::thread_pool>(kQueuedLines, 1);
  std::shared_ptr<spdlog::async_logger> logger =
      std::make_shared<spdlog::async_logger>("serve", std::make_shared<spdlog::sinks::stderr_sink_mt>(),
                                             thread, spdlog::async_overflow_policy::overrun_oldest);
  /// The thread writes what is queued and ends before the logger does.
  ~Sinks() { thread.reset(); }
};

ServerLog::ServerLog(Format format) : format_(format), sinks_(std::make_unique<Sinks>()) {
  sinks_->logger->set_pattern(format == Format::kJson ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})"
                                                      : "%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  sinks_->logger->flush_on(spdlog::level::info);
}

ServerLog::~ServerLog() = default;
void ServerLog::close() { sinks_.reset(); }

void ServerLog::write(Level level, const std::string& message, const nlohmann::ordered_json& fields) {
  std::string line;
  if (format_ == Format::kJson) {
    nlohmann::ordered_json object = {{"message", message}};
    object.update(fields);
    line = to_text(object);
    line = line.substr(1, line.size() - 2);  // the pattern has the braces
  } else {
    line = message;
    for (const auto& [name, value] : fields.items()) line += fmt::format(" {}={}", name, to_text(value));
  }
  const auto spdlog_level = level == Level::kInfo      ? spdlog::level::info
                            : level == Level::kWarning ? spdlog::level::warn
                                                       : spdlog::level::err;
  sinks_->logger->log(spdlog_level, "{}", line);
}

}  // namespace stamp

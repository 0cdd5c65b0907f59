#pragma once
#include <memory>
#include <string>

#include "models/nlohmann.h"

namespace spdlog {
class logger;
}

namespace stamp {

/// A server's log on stderr, a line an event: "time level message name=value ..." or a JSON object. Lines are
/// written by a thread of their own; if nobody reads them, the oldest are dropped rather than the server
/// held.
class ServerLog {
 public:
  enum class Format { kText, kJson };
  enum class Level { kInfo, kWarning, kError };
  explicit ServerLog(Format format);
  ~ServerLog();
  /// Writes what is left. Nothing may be written after.
  void close();

  /// `fields` is an object of strings and numbers.
  void write(Level level, const std::string& message,
             const nlohmann::ordered_json& fields = nlohmann::ordered_json::object());

 private:
  Format format_;
  struct Sinks;
  std::unique_ptr<Sinks> sinks_;
};

}  // namespace stamp

#pragma once
#include <memory>
#include <string>

#include "engine/scheduler.h"

namespace stamp {

/// What a server counts, in Prometheus' form. Used on the server's thread alone.
class Metrics {
 public:
  Metrics();
  ~Metrics();

  void count_request(const std::string& path, int status, double seconds);
  void first_token(double seconds);
  void next_token(double seconds);
  void client_left();

  /// The text format. `stats` is null while there is no scheduler.
  std::string text(const Scheduler::Stats* stats, int64_t connections);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace stamp

#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "models/nlohmann.h"

namespace stamp {

/// A progress bar with the time left, on stderr. Nothing shows before two seconds have passed; on a terminal
/// one line is redrawn, elsewhere a plain line appears every ten seconds. Gone when the object is.
class Progress {
 public:
  explicit Progress(std::string label) : label_(std::move(label)) {}
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `note` is shown behind the bar. `share` is that of the work which is done, where the later steps take
  /// longer.
  void update(int64_t done, int64_t total, std::string_view note = {}, std::optional<double> share = {});
  void clear();

 private:
  using Clock = std::chrono::steady_clock;
  std::string label_;
  Clock::time_point start_ = Clock::now(), last_{};
  bool drawn_ = false;
};

/// "12 s", "3:07", "1:02:03"
std::string format_duration(double seconds);

/// True after Ctrl-C, until cleared. Installing makes the first Ctrl-C set it; a second one while it is set
/// ends the program as usual.
std::atomic<bool>& interrupted();
void install_interrupt_handler();

/// Writes text to stdout at once. Throws Error if stdout is closed or full.
void print(std::string_view text);

/// Everything on stdin, or of a file. Throws InputError naming the file.
std::string read_stdin();
std::string read_text(const std::string& file);

/// Writes `file`, whole or not at all, unless it is a device or a pipe. A link stays one. Throws Error.
void write_text(const std::string& file, std::string_view text);
/// The same with one object. Nothing if `file` is empty.
void write_json(const std::string& file, const nlohmann::ordered_json& object);

int64_t peak_rss_bytes();
bool stdin_is_terminal();
bool stderr_is_terminal();

}  // namespace stamp

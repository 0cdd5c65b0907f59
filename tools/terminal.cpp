#include "tools/terminal.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "kernels/error.h"
#include "models/file.h"

namespace stamp {
namespace {

int terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

void on_interrupt(int) {
  if (interrupted().exchange(true)) {
    signal(SIGINT, SIG_DFL);
    raise(SIGINT);
  }
}

}  // namespace

std::string format_duration(double seconds) {
  const int64_t s = int64_t(std::max(0.0, seconds) + 0.5);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

void Progress::update(int64_t done, int64_t total, std::string_view note, std::optional<double> share) {
  const auto now = Clock::now();
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const double since_last =
      last_ == Clock::time_point{} ? 1e9 : std::chrono::duration<double>(now - last_).count();
  if (elapsed < 2.0 || total <= 0 || since_last < (stderr_is_terminal() ? 0.1 : 10.0)) return;
  last_ = now;
  const double fraction = share.value_or(double(done) / double(total));
  const std::string left = done > 0 ? format_duration(elapsed / fraction - elapsed) + " left" : "";
  if (!stderr_is_terminal()) {
    fmt::print(stderr, "{}: {}/{}, {}{}{}\n", label_, done, total, left, note.empty() ? "" : ", ", note);
    return;
  }
  const std::string tail = fmt::format(" {:3.0f} %  {}  {}", 100 * fraction, left, note);
  const int room = terminal_width() - int(label_.size() + tail.size()) - 4;
  const int width = std::clamp(room, 0, 40), filled = int(fraction * width);
  fmt::print(stderr, "\r\033[K{} [{}{}]{}", label_, std::string(size_t(filled), '#'),
             std::string(size_t(width - filled), '.'),
             tail.substr(0, size_t(std::max(0, terminal_width() - int(label_.size()) - width - 4))));
  std::fflush(stderr);
  drawn_ = true;
}

void Progress::clear() {
  if (drawn_) fmt::print(stderr, "\r\033[K");
  drawn_ = false;
}

std::atomic<bool>& interrupted() {
  static std::atomic<bool> flag{false};
  return flag;
}

void install_interrupt_handler() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);  // no SA_RESTART: a read that waits for a line must end
}

void print(std::string_view text) {
  // Not through stdio: after an interrupt nobody knows how much of its buffer was written.
  while (!text.empty()) {
    const ssize_t n = write(STDOUT_FILENO, text.data(), text.size());
    if (n >= 0) text.remove_prefix(size_t(n));
    else if (errno != EINTR) throw Error(std::string("cannot write to stdout: ") + std::strerror(errno));
  }
}

std::string read_stdin() {
  std::string text;
  char buffer[65536];
  while (true) {
    const ssize_t n = read(STDIN_FILENO, buffer, sizeof(buffer));
    if (n > 0) text.append(buffer, size_t(n));
    else if (n == 0 || errno == EBADF) return text;  // closed counts as empty
    else if (errno == EINTR && !interrupted()) continue;
    else throw Error(std::string("cannot read stdin: ") + std::strerror(errno));
  }
}

std::string read_text(const std::string& file) {
  if (std::filesystem::is_directory(file)) throw InputError(file + ": is a directory, not a text file");
  std::ifstream in(file, std::ios::binary);
  if (!in) throw InputError(file + ": cannot be read: " + std::strerror(errno));
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

namespace {

/// The file that a new one can take the place of; empty if it is to be written as it is: a pipe, a device
/// (and what /dev/stdout has become), a link to nothing.
std::filesystem::path replaceable(const std::filesystem::path& file) {
  namespace fs = std::filesystem;
  const std::string full = fs::absolute(file).lexically_normal().string();
  if (full.starts_with("/dev/") || full.starts_with("/proc/")) return {};
  if (!is_present(file)) return file;
  std::error_code error;
  return fs::is_regular_file(file, error) ? fs::canonical(file, error) : fs::path();
}

}  // namespace

void write_text(const std::string& file, std::string_view text) {
  const auto target = replaceable(file);
  const std::string next = target.empty() ? file : target.string() + ".new";
  // As it is: behind what the program has printed there.
  std::ofstream out(next, std::ios::binary | (target.empty() ? std::ios::app : std::ios::trunc));
  out << text;
  out.close();
  std::error_code error;
  if (out && !target.empty()) std::filesystem::rename(next, target, error);
  if (!out || error) throw Error(file + ": cannot be written");
}

void write_json(const std::string& file, const nlohmann::ordered_json& object) {
  if (file.empty()) return;
  write_text(file, object.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n');
}

int64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t(usage.ru_maxrss) * 1024;
}

bool stdin_is_terminal() { return isatty(STDIN_FILENO) != 0; }
bool stderr_is_terminal() { return isatty(STDERR_FILENO) != 0; }

}  // namespace stamp

#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "models/nlohmann.h"

namespace stamp::jinja {

struct Ast;

/// Bounds on one rendering, so that no template can hang the program or exhaust its memory.
struct Limits {
  int64_t work = 50'000'000;  // expressions and statements evaluated, elements and 16-byte pieces moved
  int64_t memory = int64_t{256} << 20;  // bytes of values made
  int64_t output = int64_t{64} << 20;   // bytes of text
};

/// A parsed Jinja template. Rendering equals jinja2 3.1's ImmutableSandboxedEnvironment as transformers sets
/// it up: trim_blocks, lstrip_blocks, loop controls, {% generation %}, its own tojson, raise_exception and
/// strftime_now; no autoescape. Not supported, by name: other templates (include, import, extends, block),
/// autoescape, numbers that do not fit 64 bits, and what Python prints with an address in it.
class Template {
 public:
  /// Never throws for what is wrong with the template: render() does. `name` begins the messages.
  Template(std::string source, std::string name);
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;
  ~Template();

  /// Renders with the fields of `variables`, an object. `now` is what strftime_now() sees. Throws InputError
  /// "<name>: line <n>: ..." for an error in the template or one that it raises.
  std::string render(const nlohmann::ordered_json& variables, std::chrono::system_clock::time_point now,
                     const Limits& limits = {}) const;

  const std::string& source() const { return *source_; }

 private:
  std::unique_ptr<const std::string> source_;
  std::string name_;
  std::unique_ptr<const Ast> ast_;  // null if it could not be parsed
  std::string error_;               // and then why
};

}  // namespace stamp::jinja

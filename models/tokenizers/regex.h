#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace stamp {

/// A regular expression of a tokenizer.json (Oniguruma's dialect) on PCRE2 with its JIT compiler and Unicode
/// properties. Matching is const and thread-safe.
class Regex {
 public:
  /// Throws InputError "<file>: ..." if the pattern does not compile.
  Regex(const std::string& pattern, const std::string& file);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  /// Calls visit(begin, end) for each match, left to right, none overlapping. `text` must be valid UTF-8.
  /// Throws Error if the engine gives up on a pathological pattern.
  void for_each_match(std::string_view text, const std::function<void(size_t, size_t)>& visit) const;

  /// A pattern that matches `text` literally.
  static std::string quote(std::string_view text);

 private:
  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace stamp

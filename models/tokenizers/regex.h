#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "models/tokenizers/unicode_versions.h"

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
  /// An empty match right behind the match before does not count. Throws Error if the engine gives up on a
  /// pathological pattern.
  template <class Visit>
  void for_each_match(std::string_view text, Visit&& visit) const {
    std::string buffer;
    text = familiar_text(text, buffer);
    size_t begin = 0, end = 0, last_end = std::string_view::npos;
    for (size_t at = 0; at <= text.size() && find(text, at, begin, end);) {
      if (begin == end && end == last_end) {
        do ++at;
        while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80);
      } else {
        visit(begin, end);
        at = last_end = end;
      }
    }
  }

 private:
  /// The first match that begins at `at` or later.
  bool find(std::string_view text, size_t at, size_t& begin, size_t& end) const;

  struct Code;
  std::unique_ptr<Code> code_;
};

}  // namespace stamp

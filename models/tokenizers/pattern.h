#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "models/json.h"
#include "models/tokenizers/regex.h"

namespace stamp {

/// The "pattern" of Replace and Split: {"String": text} or {"Regex": expression}.
class Pattern {
 public:
  /// Reads the field "pattern" of `fields`.
  explicit Pattern(const JsonFields& fields);

  /// Calls visit(begin, end) for each match, left to right, none overlapping; an empty text has none.
  template <class Visit>
  void for_each_match(std::string_view text, Visit&& visit) const {
    if (text.empty()) return;
    if (regex_) return regex_->for_each_match(text, visit);
    for (size_t at = text.find(literal_); at != std::string_view::npos;
         at = text.find(literal_, at + literal_.size()))
      visit(at, at + literal_.size());
  }

  /// `text` with `content` in place of every match. Throws InputError if that is longer than `limit`.
  std::string replace(std::string_view text, std::string_view content, size_t limit) const;

 private:
  std::string literal_;
  std::optional<Regex> regex_;  // used where there is one
};

}  // namespace stamp

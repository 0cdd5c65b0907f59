#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace stamp {

/// Finds stop strings in text that arrives in pieces. Of several that overlap, the one that is complete first
/// ends the text, so that the result does not depend on the pieces. Text that could still turn out to begin a
/// stop string is held back until it is certain.
class StopMatcher {
 public:
  /// Throws InputError on an empty stop string.
  explicit StopMatcher(std::vector<std::string> stops);

  /// Adds a piece and returns the text now certain to come before any stop string. After a match, everything
  /// from the stop string on is dropped and stopped() holds.
  std::string push(std::string_view piece);
  /// The text held back, when no more pieces will come.
  std::string finish();

  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace stamp

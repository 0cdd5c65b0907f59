#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stamp {

/// A part of the text on its way to the model: already normalised, still to be merged.
struct Piece {
  std::string text;
  bool at_start = false;  // begins where the whole text begins
};

/// What becomes of the matches of a splitting pattern, as in `tokenizers`.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// A range of the text, and whether the pattern matched it.
struct Span {
  size_t begin = 0, end = 0;
  bool match = false;
};

/// Appends the pieces of `piece`, whose text `spans` cover in order, that `behavior` makes. Empty ones are dropped.
void split_piece(const Piece& piece, const std::vector<Span>& spans, SplitBehavior behavior, std::vector<Piece>& out);

/// Spans of the characters for which `matches` holds, each by itself, and of the text between them.
std::vector<Span> spans_of_characters(std::string_view text, const std::function<bool(char32_t)>& matches);

}  // namespace stamp

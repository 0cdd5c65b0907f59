#include "models/tokenizers/pieces.h"

#include <algorithm>

#include "models/utf8.h"

namespace stamp {

void split_piece(const Piece& piece, const std::vector<Span>& spans, SplitBehavior behavior, std::vector<Piece>& out) {
  std::vector<std::pair<size_t, size_t>> ranges;
  bool previous = false;  // did the span before match?
  const auto visit = [&](const Span& span, bool join) {
    if (join && !ranges.empty()) {
      ranges.back().first = std::min(ranges.back().first, span.begin);
      ranges.back().second = std::max(ranges.back().second, span.end);
    } else {
      ranges.emplace_back(span.begin, span.end);
    }
    previous = span.match;
  };
  switch (behavior) {
    case SplitBehavior::kRemoved:
      for (const Span& span : spans)
        if (!span.match) visit(span, false);
      break;
    case SplitBehavior::kIsolated:
      for (const Span& span : spans) visit(span, false);
      break;
    case SplitBehavior::kContiguous:
      for (const Span& span : spans) visit(span, span.match == previous);
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Span& span : spans) visit(span, span.match && !previous);
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto span = spans.rbegin(); span != spans.rend(); ++span) visit(*span, span->match && !previous);
      std::reverse(ranges.begin(), ranges.end());
      break;
  }
  for (const auto& [begin, end] : ranges)
    if (end > begin) out.push_back({piece.text.substr(begin, end - begin), piece.at_start && begin == 0});
}

std::vector<Span> spans_of_characters(std::string_view text, const std::function<bool(char32_t)>& matches) {
  std::vector<Span> spans;
  size_t rest = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    if (!matches(next_code_point(text, at))) continue;
    if (rest < begin) spans.push_back({rest, begin, false});
    spans.push_back({begin, at, true});
    rest = at;
  }
  if (rest < text.size()) spans.push_back({rest, text.size(), false});
  return spans;
}

}  // namespace stamp

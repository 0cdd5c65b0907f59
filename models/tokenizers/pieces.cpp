#include "models/tokenizers/pieces.h"

#include "kernels/error.h"

namespace stamp {

void check_length(size_t size, size_t limit) {
  if (size > limit)
    throw InputError("the tokenizer's normaliser or pre-tokeniser makes the text absurdly long");
}

void split_piece(const Piece& piece, const std::vector<Span>& spans, SplitBehavior behavior,
                 std::vector<Piece>& out) {
  const size_t first = out.size();
  const auto add = [&](const Span& span) {
    out.push_back(
        {piece.begin + span.begin, piece.begin + span.end, kNoToken, piece.at_start && span.begin == 0});
  };
  const auto join = [&](const Span& span) {
    if (out.size() == first) return add(span);
    Piece& last = out.back();
    last.begin = std::min(last.begin, piece.begin + span.begin);
    last.end = std::max(last.end, piece.begin + span.end);
    last.at_start = piece.at_start && last.begin == piece.begin;
  };
  bool previous = false;  // did the span before match?
  switch (behavior) {
    case SplitBehavior::kRemoved:
      for (const Span& span : spans)
        if (!span.match) add(span);
      break;
    case SplitBehavior::kIsolated:
      for (const Span& span : spans) add(span);
      break;
    case SplitBehavior::kContiguous:
      for (const Span& span : spans) {
        span.match == previous ? join(span) : add(span);
        previous = span.match;
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Span& span : spans) {
        span.match && !previous ? join(span) : add(span);
        previous = span.match;
      }
      break;
    case SplitBehavior::kMergedWithNext:  // the same, from the right
      for (auto span = spans.rbegin(); span != spans.rend(); ++span) {
        span->match && !previous ? join(*span) : add(*span);
        previous = span->match;
      }
      std::reverse(out.begin() + std::ptrdiff_t(first), out.end());
      break;
  }
  out.erase(std::remove_if(out.begin() + std::ptrdiff_t(first), out.end(),
                           [](const Piece& p) { return p.begin == p.end; }),
            out.end());
}

}  // namespace stamp

#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace stamp {

inline constexpr int32_t kNoToken = -1;

/// How long a text may become on its way: no sensible component makes it more than a few times longer, while
/// a few hostile ones in a row would fill the memory.
inline size_t length_limit(std::string_view text) { return 64 * text.size() + (size_t{1} << 16); }
/// Throws InputError if `size` is above `limit`.
void check_length(size_t size, size_t limit);

/// A part of the text on its way to the model: a range of Pieces::text that is still to be merged, or an
/// added token.
struct Piece {
  size_t begin = 0, end = 0;
  int32_t token = kNoToken;  // the added token found here
  bool at_start = false;     // begins where the whole text begins
};

/// The text cut into pieces, in order. Normalisers and pre-tokenisers rewrite it piece by piece.
struct Pieces {
  std::string text;
  std::vector<Piece> list;
  size_t limit = 0;  // of the text's length

  std::string_view text_of(const Piece& piece) const {
    return std::string_view(text).substr(piece.begin, piece.end - piece.begin);
  }
};

/// What becomes of the matches of a splitting pattern, as in `tokenizers`.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// A range of a piece's text, and whether the pattern matched it.
struct Span {
  size_t begin = 0, end = 0;
  bool match = false;
};

/// Appends the parts of `piece`, whose text `spans` cover in order, that `behavior` makes. Empty ones are
/// dropped. Spans count from the piece's begin.
void split_piece(const Piece& piece, const std::vector<Span>& spans, SplitBehavior behavior,
                 std::vector<Piece>& out);

/// Splits every piece but the added tokens. find_spans(text, spans) appends the spans that cover a piece's
/// text.
template <class FindSpans>
void split_pieces(Pieces& pieces, SplitBehavior behavior, FindSpans&& find_spans) {
  std::vector<Piece> out;
  out.reserve(pieces.list.size());
  std::vector<Span> spans;
  for (const Piece& piece : pieces.list) {
    if (piece.token != kNoToken) {
      out.push_back(piece);
      continue;
    }
    spans.clear();
    find_spans(pieces.text_of(piece), spans);
    split_piece(piece, spans, behavior, out);
  }
  pieces.list = std::move(out);
}

/// Gives every piece but the added tokens a new text. rewrite(text, at_start, out) appends it to `out`.
template <class Rewrite>
void rewrite_pieces(Pieces& pieces, Rewrite&& rewrite) {
  std::string out;
  out.reserve(pieces.text.size() + pieces.text.size() / 4);
  for (Piece& piece : pieces.list) {
    const size_t begin = out.size();
    if (piece.token == kNoToken) rewrite(pieces.text_of(piece), piece.at_start, out);
    check_length(out.size(), pieces.limit);
    piece.begin = begin;
    piece.end = out.size();
  }
  pieces.text = std::move(out);
}

/// Drops the pieces that have no text, as `tokenizers` does after each split.
inline void drop_empty_pieces(Pieces& pieces) {
  std::erase_if(pieces.list, [](const Piece& p) { return p.token == kNoToken && p.begin == p.end; });
}

/// Completes `spans` of a text: the matches, each with the text before it, and at the end the rest.
class SpanWriter {
 public:
  SpanWriter(std::vector<Span>& spans, bool invert = false) : spans_(spans), invert_(invert) {}
  void match(size_t begin, size_t end) {
    if (rest_ != begin) spans_.push_back({rest_, begin, invert_});
    spans_.push_back({begin, end, !invert_});
    rest_ = end;
  }
  void finish(size_t size) {
    if (rest_ != size || size == 0) spans_.push_back({rest_, size, size != 0 && invert_});
  }

 private:
  std::vector<Span>& spans_;
  bool invert_;
  size_t rest_ = 0;
};

}  // namespace stamp

#include "models/tokenizers/pre_tokenizers.h"

#include "models/tokenizers/byte_level.h"
#include "models/tokenizers/components.h"
#include "models/tokenizers/metaspace.h"
#include "models/tokenizers/pattern.h"
#include "models/tokenizers/unicode.h"
#include "models/utf8.h"

namespace stamp {
namespace {

/// Splits at the characters for which `matches` holds, each a match of its own.
template <class Matches>
void split_at_characters(Pieces& pieces, SplitBehavior behavior, Matches&& matches) {
  split_pieces(pieces, behavior, [&](std::string_view text, std::vector<Span>& spans) {
    SpanWriter writer(spans);
    for (size_t at = 0; at < text.size();) {
      const size_t begin = at;
      if (matches(next_code_point(text, at))) writer.match(begin, at);
    }
    writer.finish(text.size());
  });
}

/// Splits at the matches of a Pattern or Regex.
template <class AnyPattern>
void split_at_matches(Pieces& pieces, SplitBehavior behavior, bool invert, const AnyPattern& pattern) {
  split_pieces(pieces, behavior, [&](std::string_view text, std::vector<Span>& spans) {
    SpanWriter writer(spans, invert);
    pattern.for_each_match(text, [&](size_t begin, size_t end) { writer.match(begin, end); });
    writer.finish(text.size());
  });
}

SplitBehavior parse_behavior(const JsonFields& fields, const std::string& name) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  fields.fail(
      "behavior",
      "is " + name + "; supported are Removed, Isolated, MergedWithPrevious, MergedWithNext and Contiguous");
}

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(const JsonFields& fields)
      : steps_(parse_sequence<PreTokenizer>(fields, "pretokenizers")) {}
  void apply(Pieces& pieces) const override {
    for (const auto& step : steps_) step->apply(pieces);
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

class ByteLevel : public PreTokenizer {
 public:
  explicit ByteLevel(const JsonFields& fields)
      : add_prefix_space_(required_boolean(fields, "add_prefix_space")),
        use_regex_(fields.boolean("use_regex").value_or(true)) {}

  void apply(Pieces& pieces) const override {
    if (add_prefix_space_)
      rewrite_pieces(pieces, [](std::string_view text, bool, std::string& out) {
        if (!text.starts_with(' ') && !text.empty()) out += ' ';
        out += text;
      });
    if (use_regex_) split_at_matches(pieces, SplitBehavior::kIsolated, false, gpt2_words());
    rewrite_pieces(pieces,
                   [](std::string_view text, bool, std::string& out) { append_byte_level(text, out); });
  }

 private:
  /// Contractions, letters, numbers and others, each with a space before it, and white space.
  static const Regex& gpt2_words() {
    static const Regex words(R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
                             "ByteLevel");
    return words;
  }

  bool add_prefix_space_, use_regex_;
};

class Digits : public PreTokenizer {
 public:
  explicit Digits(const JsonFields& fields)
      : behavior_(required_boolean(fields, "individual_digits") ? SplitBehavior::kIsolated
                                                                : SplitBehavior::kContiguous) {}
  void apply(Pieces& pieces) const override { split_at_characters(pieces, behavior_, is_numeric); }

 private:
  SplitBehavior behavior_;
};

class Split : public PreTokenizer {
 public:
  explicit Split(const JsonFields& fields)
      : pattern_(fields),
        behavior_(parse_behavior(fields, required_string(fields, "behavior"))),
        invert_(required_boolean(fields, "invert")) {}
  void apply(Pieces& pieces) const override { split_at_matches(pieces, behavior_, invert_, pattern_); }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

class MetaspaceSplit : public PreTokenizer {
 public:
  explicit MetaspaceSplit(const JsonFields& fields) : metaspace_(fields) {}

  void apply(Pieces& pieces) const override {
    rewrite_pieces(pieces, [this](std::string_view text, bool at_start, std::string& out) {
      if (text.empty()) return;
      const bool prepend = metaspace_.prepend == Metaspace::Prepend::kAlways ||
                           (metaspace_.prepend == Metaspace::Prepend::kFirst && at_start);
      if (prepend && text[0] != ' ' && !text.starts_with(metaspace_.mark)) out += metaspace_.mark;
      for (const char c : text) c == ' ' ? out += metaspace_.mark : out += c;
    });
    if (!metaspace_.split) return;
    split_pieces(pieces, SplitBehavior::kMergedWithNext,
                 [this](std::string_view text, std::vector<Span>& spans) {
                   SpanWriter writer(spans);
                   const std::string& mark = metaspace_.mark;
                   for (size_t at = text.find(mark); at != text.npos; at = text.find(mark, at + mark.size()))
                     writer.match(at, at + mark.size());
                   writer.finish(text.size());
                 });
  }

 private:
  Metaspace metaspace_;
};

class Whitespace : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    // Runs of word characters and runs of other visible ones.
    split_pieces(pieces, SplitBehavior::kIsolated, [](std::string_view text, std::vector<Span>& spans) {
      enum Kind { kSpace, kWord, kOther };
      const auto kind_of = [](char32_t c) {
        return is_word(c) ? kWord : is_white_space(c) ? kSpace : kOther;
      };
      for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        const Kind kind = kind_of(next_code_point(text, at));
        for (size_t next = at; next < text.size() && kind_of(next_code_point(text, next)) == kind;) at = next;
        if (kind != kSpace) spans.push_back({begin, at, true});
      }
    });
  }
};

class WhitespaceSplit : public PreTokenizer {
 public:
  void apply(Pieces& pieces) const override {
    split_at_characters(pieces, SplitBehavior::kRemoved, is_white_space);
  }
};

}  // namespace

std::unique_ptr<PreTokenizer> PreTokenizer::parse(const JsonFields& fields) {
  const std::string type = required_string(fields, "type");
  if (type == "Sequence") return std::make_unique<Sequence>(fields);
  if (type == "ByteLevel") return std::make_unique<ByteLevel>(fields);
  if (type == "Digits") return std::make_unique<Digits>(fields);
  if (type == "Split") return std::make_unique<Split>(fields);
  if (type == "Metaspace") return std::make_unique<MetaspaceSplit>(fields);
  if (type == "Whitespace") return std::make_unique<Whitespace>();
  if (type == "WhitespaceSplit") return std::make_unique<WhitespaceSplit>();
  fields.fail("type",
              "is " + type +
                  "; supported pre-tokenisers are Sequence, ByteLevel, Digits, Split, Metaspace, Whitespace "
                  "and WhitespaceSplit");
}

}  // namespace stamp

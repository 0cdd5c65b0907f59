#include "models/tokenizers/decoders.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "models/tokenizers/byte_level.h"
#include "models/tokenizers/components.h"
#include "models/tokenizers/metaspace.h"
#include "models/tokenizers/pattern.h"
#include "models/utf8.h"

namespace stamp {
namespace {

using StreamPtr = std::unique_ptr<TokenStream>;

/// For steps that need a token whole.
class WholeTokens : public TokenStream {
 public:
  using TokenStream::TokenStream;
  void push(std::string_view part, bool first, bool last) final {
    if (first && last) return token(part);
    token_ += part;
    if (!last) return;
    token(token_);
    token_.clear();
  }

 protected:
  virtual void token(std::string_view token) = 0;

 private:
  std::string token_;
};

/// For steps that make one token of all: it ends with the stream.
class OneToken : public WholeTokens {
 public:
  using WholeTokens::WholeTokens;

 protected:
  void emit(std::string_view part, bool last) {
    next_->push(part, std::exchange(first_, false), last);
    if (last) next_->finish();
  }

 private:
  bool first_ = true;
};

class SpacesStream : public TokenStream {
 public:
  using TokenStream::TokenStream;
  void push(std::string_view part, bool first, bool last) override {
    if (first && std::exchange(started_, true)) next_->push(" ", true, true);
    next_->push(part, first, last);
  }

 private:
  bool started_ = false;
};

class ByteLevelStream : public OneToken {
 public:
  using OneToken::OneToken;
  void token(std::string_view token) override {
    append_byte_level_decoded(token, bytes_);
    const size_t complete = incomplete_tail(bytes_);
    emit(to_valid_utf8(std::string_view(bytes_).substr(0, complete)), false);
    bytes_.erase(0, complete);
  }
  void finish() override { emit(to_valid_utf8(bytes_), true); }

 private:
  std::string bytes_;  // of a character that is not complete
};

class FuseStream : public TokenStream {
 public:
  using TokenStream::TokenStream;
  void push(std::string_view part, bool, bool) override {
    next_->push(part, std::exchange(first_, false), false);
  }
  void finish() override {
    next_->push("", first_, true);
    next_->finish();
  }

 private:
  bool first_ = true;
};

/// The value of a token <0xAB>, in either case; -1 if it is none.
int byte_of(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  const int high = digit(token[3]), low = digit(token[4]);
  if (token[3] == '+' && low >= 0) return low;  // Rust's from_str_radix takes a sign
  return high < 0 || low < 0 ? -1 : 16 * high + low;
}

class ByteFallbackStream : public WholeTokens {
 public:
  using WholeTokens::WholeTokens;
  void token(std::string_view token) override {
    if (const int byte = byte_of(token); byte >= 0) {
      bytes_ += char(byte);
    } else {
      flush();
      next_->push(token, true, true);
    }
  }
  void finish() override {
    flush();
    next_->finish();
  }

 private:
  /// A run of bytes is text if it is valid as a whole; if not, every byte of it becomes a replacement
  /// character.
  void flush() {
    if (bytes_.empty()) return;
    if (is_valid_utf8(bytes_)) {
      next_->push(bytes_, true, true);
    } else {
      for (size_t i = 0; i < bytes_.size(); ++i) next_->push(kReplacementCharacter, true, true);
    }
    bytes_.clear();
  }

  std::string bytes_;
};

class MetaspaceStream : public TokenStream {
 public:
  MetaspaceStream(StreamPtr next, const Metaspace& metaspace)
      : TokenStream(std::move(next)),
        mark_(metaspace.mark),
        drop_(metaspace.prepend != Metaspace::Prepend::kNever) {}

  void push(std::string_view part, bool first, bool last) override {
    std::string text;
    for (size_t at = 0; at < part.size();) {
      if (part.substr(at).starts_with(mark_)) {
        if (!drop_) text += ' ';
        at += mark_.size();
      } else {
        text += part[at++];
      }
    }
    if (last) drop_ = false;  // only the first token's marks are dropped, all of them
    next_->push(text, first, last);
  }

 private:
  const std::string& mark_;
  bool drop_;
};

class StripStream : public TokenStream {
 public:
  StripStream(StreamPtr next, const std::string& content, int64_t start, int64_t stop)
      : TokenStream(std::move(next)), content_(content), start_(start), stop_(stop) {}

  void push(std::string_view part, bool first, bool last) override {
    if (first) {
      may_strip_ = start_;
      held_ = 0;
    }
    std::string text;
    for (size_t at = 0; at < part.size();) {
      const size_t begin = at;
      next_code_point(part, at);
      const bool content = part.substr(begin, at - begin) == content_;
      if (content && may_strip_ > 0) {
        --may_strip_;
      } else if (content && held_ < stop_) {
        ++held_;  // these may be the token's last
      } else {
        may_strip_ = 0;
        if (content) {
          text += content_;
        } else {
          for (; held_ > 0; --held_) text += content_;
          text += part.substr(begin, at - begin);
        }
      }
    }
    next_->push(text, first, last);
  }

 private:
  const std::string& content_;
  int64_t start_, stop_;
  int64_t may_strip_ = 0, held_ = 0;
};

class ReplaceStream : public WholeTokens {
 public:
  ReplaceStream(StreamPtr next, const Pattern& pattern, const std::string& content)
      : WholeTokens(std::move(next)), pattern_(pattern), content_(content) {}
  void token(std::string_view token) override {
    next_->push(pattern_.replace(token, content_, kMaxBytes), true, true);
  }

 private:
  static constexpr size_t kMaxBytes = size_t{64} << 20;
  const Pattern& pattern_;
  const std::string& content_;
};

/// A decoder without fields.
template <class Stream>
class Plain : public Decoder {
 public:
  StreamPtr open(StreamPtr next) const override { return std::make_unique<Stream>(std::move(next)); }
};

class ByteLevel : public Plain<ByteLevelStream> {
 public:
  std::optional<std::string> bytes_of(std::string_view token) const override {
    std::string bytes;
    append_byte_level_decoded(token, bytes);
    return bytes;
  }
};

class ByteFallback : public Plain<ByteFallbackStream> {
 public:
  std::optional<std::string> bytes_of(std::string_view token) const override {
    const int byte = byte_of(token);  // an ASCII character is text to the steps that follow
    return byte < 0x80 ? std::nullopt : std::optional(std::string(1, char(byte)));
  }
};

class Sequence : public Decoder {
 public:
  explicit Sequence(const JsonFields& fields) : steps_(parse_sequence<Decoder>(fields, "decoders")) {}
  StreamPtr open(StreamPtr next) const override {
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) next = (*step)->open(std::move(next));
    return next;
  }
  std::optional<std::string> bytes_of(std::string_view token) const override {
    for (const auto& step : steps_)
      if (auto bytes = step->bytes_of(token)) return bytes;
    return std::nullopt;
  }

 private:
  std::vector<std::unique_ptr<Decoder>> steps_;
};

class MetaspaceDecoder : public Decoder {
 public:
  explicit MetaspaceDecoder(const JsonFields& fields) : metaspace_(fields) {}
  StreamPtr open(StreamPtr next) const override {
    return std::make_unique<MetaspaceStream>(std::move(next), metaspace_);
  }

 private:
  Metaspace metaspace_;
};

class Strip : public Decoder {
 public:
  explicit Strip(const JsonFields& fields)
      : start_(fields.required_integer("start", 0, INT32_MAX)),
        stop_(fields.required_integer("stop", 0, INT32_MAX)) {
    append_utf8(content_, required_character(fields, "content"));
  }
  StreamPtr open(StreamPtr next) const override {
    return std::make_unique<StripStream>(std::move(next), content_, start_, stop_);
  }

 private:
  std::string content_;
  int64_t start_, stop_;
};

class Replace : public Decoder {
 public:
  explicit Replace(const JsonFields& fields)
      : pattern_(fields), content_(required_string(fields, "content")) {}
  StreamPtr open(StreamPtr next) const override {
    return std::make_unique<ReplaceStream>(std::move(next), pattern_, content_);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

}  // namespace

std::optional<std::string> Decoder::bytes_of(std::string_view) const { return std::nullopt; }

std::unique_ptr<Decoder> Decoder::parse(const JsonFields& fields) {
  const std::string type = required_string(fields, "type");
  if (type == "Sequence") return std::make_unique<Sequence>(fields);
  if (type == "ByteLevel") return std::make_unique<ByteLevel>();
  if (type == "ByteFallback") return std::make_unique<ByteFallback>();
  if (type == "Fuse") return std::make_unique<Plain<FuseStream>>();
  if (type == "Metaspace") return std::make_unique<MetaspaceDecoder>(fields);
  if (type == "Strip") return std::make_unique<Strip>(fields);
  if (type == "Replace") return std::make_unique<Replace>(fields);
  fields.fail(
      "type",
      "is " + type +
          "; supported decoders are Sequence, ByteLevel, ByteFallback, Fuse, Metaspace, Strip and Replace");
}

std::unique_ptr<Decoder> Decoder::spaces() { return std::make_unique<Plain<SpacesStream>>(); }

}  // namespace stamp

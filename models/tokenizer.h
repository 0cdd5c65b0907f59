#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace stamp {

/// Text to token ids and back, equal to the Python packages `tokenizers` and `sentencepiece`. Thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Loads DIR/tokenizer.json, else DIR/tokenizer.model. Throws InputError naming the file.
  static std::unique_ptr<Tokenizer> load(const std::filesystem::path& directory);

  struct EncodeOptions {
    bool add_special = true;    // what the post-processor adds, such as BOS
    bool parse_special = true;  // special tokens written out in the text become their ids
  };
  /// Text is UTF-8; bytes that are not count as U+FFFD, one per maximal invalid part, as Python's
  /// bytes.decode("utf-8", "replace").
  virtual std::vector<int32_t> encode(std::string_view text, EncodeOptions options) const = 0;

  /// Ids outside the vocabulary are skipped.
  std::string decode(std::span<const int32_t> ids, bool skip_special) const;

  /// Decodes ids one at a time; see StreamDecoder. Must not outlive the tokenizer.
  class Stream {
   public:
    virtual ~Stream() = default;
    virtual std::string push(int32_t id) = 0;
    virtual std::string finish() = 0;
  };
  virtual std::unique_ptr<Stream> open_stream(bool skip_special) const = 0;

  virtual int64_t vocab_size() const = 0;  // 1 + the highest id, added tokens included
  virtual std::optional<int32_t> token_to_id(std::string_view token) const = 0;
  virtual std::string id_to_token(int32_t id) const = 0;  // empty if there is none
  virtual bool is_special(int32_t id) const = 0;
  /// The bytes that a token adds to a text without special tokens: behind others, or as its `first` one,
  /// where some tokenizers leave out a space. The text is valid UTF-8 as a whole; a token may end within a
  /// character. Empty for special and unknown tokens.
  virtual std::string token_bytes(int32_t id, bool first) const = 0;
};

/// The file that Tokenizer::load reads. Throws InputError if the directory has neither.
std::filesystem::path tokenizer_file(const std::filesystem::path& directory);

/// Decodes ids one at a time. push() returns the text that no later id can change, in whole characters; all
/// pieces and finish() together equal decode() of all ids.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : stream_(tokenizer.open_stream(skip_special)) {}
  std::string push(int32_t id) { return stream_->push(id); }
  std::string finish() { return stream_->finish(); }

 private:
  std::unique_ptr<Tokenizer::Stream> stream_;
};

}  // namespace stamp

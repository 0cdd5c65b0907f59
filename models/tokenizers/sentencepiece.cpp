#include "models/tokenizers/sentencepiece.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <set>
#include <utility>

#include "kernels/error.h"
#include "models/json.h"
#include "models/tokenizers/added_tokens.h"
#include "models/tokenizers/model_proto.h"
#include "models/tokenizers/tokenizer_config.h"
#include "models/utf8.h"

namespace stamp {
namespace {

using sentencepiece::SentencePieceProcessor;

constexpr std::string_view kSpace = "\xe2\x96\x81";  // U+2581 stands for a space

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string_view model, const std::filesystem::path& file);

  std::vector<int32_t> encode(std::string_view text, EncodeOptions options) const override;
  std::unique_ptr<Stream> open_stream(bool skip_special) const override;
  int64_t vocab_size() const override;
  std::optional<int32_t> token_to_id(std::string_view token) const override;
  std::string id_to_token(int32_t id) const override;
  bool is_special(int32_t id) const override;
  std::string token_bytes(int32_t id, bool first) const override;

 private:
  class DecodeStream;

  bool drops_first_space() const { return proto_.add_dummy_prefix || proto_.remove_extra_whitespaces; }
  static std::string with_spaces(std::string_view piece);

  const AddedToken* added(int32_t id) const {
    const auto it = added_.by_id().find(id);
    return it == added_.by_id().end() ? nullptr : &it->second;
  }
  bool is_piece(int32_t id) const { return id >= 0 && id < processor_.GetPieceSize(); }
  int32_t find_piece(std::string_view piece) const {
    const int32_t id = processor_.PieceToId({piece.data(), piece.size()});  // <unk> where it does not know
    return is_piece(id) && processor_.IdToPiece(id) == piece ? id : kNoToken;
  }

  ModelProto proto_;
  SentencePieceProcessor processor_;
  SentencePieceProcessor inner_;  // the same without a space before the text: for text behind an added token
  AddedTokens added_;
  std::optional<int32_t> bos_, eos_;  // what is put around the text
  bool prefix_first_ = true, prefix_others_ = false;
  std::set<std::string> named_;
};

void load_processor(SentencePieceProcessor& processor, std::string_view model,
                    const std::filesystem::path& file) {
  const auto status = processor.LoadFromSerializedProto({model.data(), model.size()});
  if (!status.ok())
    throw InputError(file.string() +
                     ": not a usable SentencePiece model: " + printable(status.error_message()));
}

SentencePieceTokenizer::SentencePieceTokenizer(std::string_view model, const std::filesystem::path& file)
    : proto_(ModelProto::parse(model, file.string())) {
  load_processor(processor_, model, file);
  // Of a field that is there twice the last counts: normalizer_spec { add_dummy_prefix: false }.
  load_processor(inner_, std::string(model) + std::string("\x1a\x02\x18\x00", 4), file);
  const auto piece_of = [this](int id) {
    return is_piece(id) ? std::optional(processor_.IdToPiece(id)) : std::nullopt;
  };
  TokenizerConfig config;
  config.bos = piece_of(processor_.bos_id());
  config.eos = piece_of(processor_.eos_id());
  config.unk = piece_of(processor_.unk_id());
  config.read(file.parent_path());
  prefix_first_ = config.add_prefix_space;
  prefix_others_ = config.legacy;
  int32_t next_id = processor_.GetPieceSize();
  for (const auto& [id, token] : config.added) next_id = std::max(next_id, id + 1);
  // The three named tokens are found in the text, too.
  const auto named = [&](const std::optional<std::string>& content) -> std::optional<int32_t> {
    if (!content) return std::nullopt;
    for (const auto& [id, token] : config.added)
      if (token.content == *content) return id;
    const int32_t piece = find_piece(*content);
    const int32_t id = piece != kNoToken ? piece : next_id++;
    config.added[id] = {.content = *content, .special = true};
    return id;
  };
  named(config.unk);
  const auto bos = named(config.bos), eos = named(config.eos);
  named_ = std::move(config.named);
  for (const auto& token : {config.bos, config.eos, config.unk})
    if (token) named_.insert(*token);
  if (config.add_bos) bos_ = bos;
  if (config.add_eos) eos_ = eos;
  added_ = AddedTokens(std::move(config.added), file.string());
}

std::vector<int32_t> SentencePieceTokenizer::encode(std::string_view text, EncodeOptions options) const {
  Pieces pieces;
  pieces.text = to_valid_utf8(text);
  if (!pieces.text.empty()) pieces.list.push_back({0, pieces.text.size(), kNoToken, true});
  added_.cut_raw(pieces, options.parse_special);
  std::vector<int32_t> ids;
  const auto encode_part = [&ids](const SentencePieceProcessor& processor, std::string_view part) {
    std::vector<int> part_ids;
    const auto status = processor.Encode({part.data(), part.size()}, &part_ids);
    if (!status.ok()) throw Error(std::string("SentencePiece: ") + status.error_message());
    ids.insert(ids.end(), part_ids.begin(), part_ids.end());
  };
  if (options.add_special && bos_) ids.push_back(*bos_);
  // LlamaTokenizer writes the space in front of the text before it looks for tokens, and takes it back only
  // if one with a name of its own follows.
  if (const int32_t first = pieces.list.empty() ? kNoToken : pieces.list.front().token;
      first != kNoToken && prefix_first_ && !prefix_others_ && !named_.contains(added(first)->content))
    encode_part(inner_, kSpace);
  for (const Piece& piece : pieces.list) {
    if (piece.token != kNoToken) {
      ids.push_back(piece.token);
      continue;
    }
    encode_part((piece.at_start ? prefix_first_ : prefix_others_) ? processor_ : inner_,
                pieces.text_of(piece));
  }
  if (options.add_special && eos_) ids.push_back(*eos_);
  return ids;
}

std::string SentencePieceTokenizer::with_spaces(std::string_view piece) {
  std::string text;
  for (size_t at = 0; at < piece.size();) {
    const bool space = piece.substr(at).starts_with(kSpace);
    text += space ? ' ' : piece[at];
    at += space ? kSpace.size() : 1;
  }
  return text;
}

std::string SentencePieceTokenizer::token_bytes(int32_t id, bool first) const {
  if (is_piece(id) && processor_.IsByte(id))
    return {char(std::stoi(processor_.IdToPiece(id).substr(3, 2), nullptr, 16))};
  if (is_special(id) || id == processor_.unk_id()) return "";
  if (const AddedToken* token = added(id)) return token->content;
  if (!is_piece(id)) return "";
  std::string text = with_spaces(processor_.IdToPiece(id));
  if (first && drops_first_space() && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

/// Decodes as the library does, but one id at a time.
class SentencePieceTokenizer::DecodeStream : public Tokenizer::Stream {
 public:
  DecodeStream(const SentencePieceTokenizer& tokenizer, bool skip_special)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  std::string push(int32_t id) override {
    const SentencePieceProcessor& processor = tokenizer_.processor_;
    std::string out;
    const AddedToken* added = tokenizer_.added(id);
    if (tokenizer_.is_piece(id) && processor.IsByte(id)) {
      bytes_ += tokenizer_.token_bytes(id, false);
      take_bytes(incomplete_tail(bytes_), out);
    } else if (added != nullptr && id != processor.unk_id()) {
      take_bytes(bytes_.size(), out);
      if (!added->special || !skip_special_) out += added->content;
    } else if (tokenizer_.is_piece(id)) {
      take_bytes(bytes_.size(), out);
      out += surface(id);
    }
    started_ = started_ || !out.empty() || !bytes_.empty();
    return out;
  }

  std::string finish() override {
    std::string out;
    take_bytes(bytes_.size(), out);
    return out;
  }

 private:
  std::string surface(int32_t id) {
    const SentencePieceProcessor& processor = tokenizer_.processor_;
    if (processor.IsControl(id)) return {};
    if (processor.IsUnknown(id)) return tokenizer_.proto_.unk_surface;
    std::string_view piece = processor.IdToPiece(id);
    // The space that encoding put before the text, or all that it would have removed there.
    if (!started_ && tokenizer_.drops_first_space() && piece.starts_with(kSpace)) {
      piece.remove_prefix(kSpace.size());
      started_ = !tokenizer_.proto_.remove_extra_whitespaces;
    }
    return with_spaces(piece);
  }

  /// Appends the text of the first `size` bytes. Each byte that is part of no character becomes U+FFFD.
  void take_bytes(size_t size, std::string& out) {
    const std::string bytes = bytes_.substr(0, size);
    for (size_t at = 0; at < bytes.size();) {
      const size_t length = utf8_length(static_cast<unsigned char>(bytes[at]));
      const std::string_view character = std::string_view(bytes).substr(at, length);
      const bool valid = character.size() == length && is_valid_utf8(character);
      out += valid ? character : kReplacementCharacter;
      at += valid ? length : 1;
    }
    bytes_.erase(0, size);
  }

  const SentencePieceTokenizer& tokenizer_;
  bool skip_special_;
  bool started_ = false;  // there is text already, or the space before it is dropped
  std::string bytes_;     // of a character that is not complete
};

std::unique_ptr<Tokenizer::Stream> SentencePieceTokenizer::open_stream(bool skip_special) const {
  return std::make_unique<DecodeStream>(*this, skip_special);
}

int64_t SentencePieceTokenizer::vocab_size() const {
  const int64_t pieces = processor_.GetPieceSize();
  return added_.by_id().empty() ? pieces : std::max(pieces, int64_t(added_.by_id().rbegin()->first) + 1);
}

std::optional<int32_t> SentencePieceTokenizer::token_to_id(std::string_view token) const {
  if (const int32_t id = added_.find(token); id != kNoToken) return id;
  const int32_t id = find_piece(token);
  return id == kNoToken ? std::nullopt : std::optional(id);
}

std::string SentencePieceTokenizer::id_to_token(int32_t id) const {
  if (const AddedToken* token = added(id)) return token->content;
  return is_piece(id) ? processor_.IdToPiece(id) : "";
}

bool SentencePieceTokenizer::is_special(int32_t id) const {
  const AddedToken* token = added(id);
  if (id == processor_.unk_id()) return false;  // it stands for text, and is decoded as such
  return token != nullptr ? token->special : is_piece(id) && processor_.IsControl(id);
}

}  // namespace

std::unique_ptr<Tokenizer> parse_sentencepiece(std::string_view model, const std::filesystem::path& file) {
  return std::make_unique<SentencePieceTokenizer>(model, file);
}

}  // namespace stamp

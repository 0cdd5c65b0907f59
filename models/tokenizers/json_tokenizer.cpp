#include "models/tokenizers/json_tokenizer.h"

#include <algorithm>
#include <mutex>

#include "kernels/error.h"
#include "models/json.h"
#include "models/tokenizers/added_tokens.h"
#include "models/tokenizers/bpe.h"
#include "models/tokenizers/components.h"
#include "models/tokenizers/decoders.h"
#include "models/tokenizers/normalizers.h"
#include "models/tokenizers/post_processor.h"
#include "models/tokenizers/pre_tokenizers.h"
#include "models/utf8.h"

namespace stamp {
namespace {

/// The last step of a decoder: gathers the text.
class TextSink : public TokenStream {
 public:
  explicit TextSink(std::string& text) : TokenStream(nullptr), text_(text) {}
  void push(std::string_view part, bool, bool) override { text_ += part; }
  void finish() override {}

 private:
  std::string& text_;
};

class JsonTokenizer : public Tokenizer {
 public:
  explicit JsonTokenizer(const JsonFields& fields);

  std::vector<int32_t> encode(std::string_view text, EncodeOptions options) const override;
  std::unique_ptr<Stream> open_stream(bool skip_special) const override;
  int64_t vocab_size() const override;
  std::optional<int32_t> token_to_id(std::string_view token) const override;
  std::string id_to_token(int32_t id) const override { return std::string(text_of(id)); }
  bool is_special(int32_t id) const override {
    return added_.has(id) && added_.is_special(added_.decoded(id));
  }
  std::string token_bytes(int32_t id, bool first) const override;

 private:
  class DecodeStream;

  bool has(int32_t id) const { return added_.has(id) || model_.vocabulary().has(id); }
  /// As the decoder sees it; empty for an id without a token.
  std::string_view text_of(int32_t id) const;
  Bpe::WorkspacePtr take_workspace() const;
  void give_back(Bpe::WorkspacePtr workspace) const;

  std::unique_ptr<Normalizer> normalizer_;  // null for none, as the next
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  Bpe model_;
  AddedTokens added_;
  PostProcessor post_processor_;
  std::unique_ptr<Decoder> decoder_;
  // Workspaces that no call uses now: at most as many as threads ever encoded at the same time.
  mutable std::mutex mutex_;
  mutable std::vector<Bpe::WorkspacePtr> workspaces_;
};

class JsonTokenizer::DecodeStream : public Tokenizer::Stream {
 public:
  DecodeStream(const JsonTokenizer& tokenizer, bool skip_special)
      : tokenizer_(tokenizer),
        skip_special_(skip_special),
        steps_(tokenizer.decoder_->open(std::make_unique<TextSink>(text_))) {}

  std::string push(int32_t id) override {
    if (tokenizer_.has(id) && !(skip_special_ && tokenizer_.is_special(id)))
      steps_->push(tokenizer_.text_of(id), true, true);
    return std::exchange(text_, {});
  }
  std::string finish() override {
    steps_->finish();
    return std::exchange(text_, {});
  }

 private:
  const JsonTokenizer& tokenizer_;
  bool skip_special_;
  std::string text_;
  std::unique_ptr<TokenStream> steps_;
};

JsonFields model_fields(const JsonFields& fields) {
  const nlohmann::json* model = fields.find("model");
  if (model == nullptr) fields.fail("model", "is missing");
  const JsonFields inner(*model, fields.file(), "model.");
  // Files of old versions name no type: they are told apart by their fields.
  if (const std::string type = inner.string("type").value_or(inner.has("merges") ? "BPE" : "none");
      type != "BPE")
    inner.fail("type", "is " + type + "; supported is BPE");
  return inner;
}

PostProcessor parse_post_processor(const JsonFields& fields) {
  const nlohmann::json* object = fields.find("post_processor");
  return object == nullptr ? PostProcessor()
                           : PostProcessor(JsonFields(*object, fields.file(), "post_processor."));
}

JsonTokenizer::JsonTokenizer(const JsonFields& fields)
    : normalizer_(parse_optional<Normalizer>(fields, "normalizer")),
      pre_tokenizer_(parse_optional<PreTokenizer>(fields, "pre_tokenizer")),
      model_(model_fields(fields)),
      added_(fields, model_, normalizer_.get()),
      post_processor_(parse_post_processor(fields)),
      decoder_(parse_optional<Decoder>(fields, "decoder")) {
  if (const auto version = fields.string("version"); version.value_or("1.0") != "1.0")
    fields.fail("version", "is " + *version + "; supported is 1.0");
  if (decoder_ == nullptr) decoder_ = Decoder::spaces();
  for (const int32_t id : post_processor_.own_ids())
    if (!has(id)) fields.fail("post_processor", "adds the id " + std::to_string(id) + ", which no token has");
  // "truncation" and "padding" say how a file was made; transformers switches both off unless a call asks for
  // them.
}

int64_t JsonTokenizer::vocab_size() const {
  const int32_t of_added = added_.by_id().empty() ? 0 : added_.by_id().rbegin()->first + 1;
  return std::max(model_.vocabulary().end(), of_added);
}

std::string_view JsonTokenizer::text_of(int32_t id) const {
  if (added_.has(id)) return added_.decoded(id);
  return model_.vocabulary().has(id) ? model_.vocabulary().text(id) : "";
}

Bpe::WorkspacePtr JsonTokenizer::take_workspace() const {
  const std::lock_guard lock(mutex_);
  if (workspaces_.empty()) return Bpe::make_workspace();
  Bpe::WorkspacePtr workspace = std::move(workspaces_.back());
  workspaces_.pop_back();
  return workspace;
}

void JsonTokenizer::give_back(Bpe::WorkspacePtr workspace) const {
  const std::lock_guard lock(mutex_);
  workspaces_.push_back(std::move(workspace));
}

std::vector<int32_t> JsonTokenizer::encode(std::string_view text, EncodeOptions options) const {
  Pieces pieces;
  pieces.text = to_valid_utf8(text);
  pieces.limit = length_limit(pieces.text);
  if (!pieces.text.empty()) pieces.list.push_back({0, pieces.text.size(), kNoToken, true});
  added_.cut_raw(pieces, options.parse_special);
  if (normalizer_ != nullptr) {
    rewrite_pieces(pieces, [this, &pieces](std::string_view piece, bool, std::string& out) {
      std::string normal(piece);
      normalizer_->normalize(normal, pieces.limit);
      out += normal;
    });
    drop_empty_pieces(pieces);
  }
  added_.cut_normalized(pieces, options.parse_special);
  if (pre_tokenizer_ != nullptr) pre_tokenizer_->apply(pieces);
  Bpe::WorkspacePtr workspace = take_workspace();
  std::vector<int32_t> ids;
  ids.reserve(pieces.list.size() + pieces.list.size() / 2);
  for (const Piece& piece : pieces.list) {
    if (piece.token != kNoToken) ids.push_back(piece.token);
    else model_.encode(pieces.text_of(piece), *workspace, ids);
  }
  give_back(std::move(workspace));
  return post_processor_.process(std::move(ids), options.add_special);
}

std::string JsonTokenizer::token_bytes(int32_t id, bool first) const {
  if (!has(id) || is_special(id)) return "";
  const std::string_view token = text_of(id);
  if (auto bytes = decoder_->bytes_of(token)) return *bytes;
  std::string text;
  const std::unique_ptr<TokenStream> steps = decoder_->open(std::make_unique<TextSink>(text));
  constexpr std::string_view kBefore = ".";
  if (!first) steps->push(kBefore, true, true);
  steps->push(token, true, true);
  steps->finish();
  return first ? text : text.substr(kBefore.size());
}

std::unique_ptr<Tokenizer::Stream> JsonTokenizer::open_stream(bool skip_special) const {
  return std::make_unique<DecodeStream>(*this, skip_special);
}

std::optional<int32_t> JsonTokenizer::token_to_id(std::string_view token) const {
  if (const int32_t id = added_.find(token); id != kNoToken) return id;
  return model_.token_to_id(token);
}

}  // namespace

std::unique_ptr<Tokenizer> parse_json_tokenizer(std::string_view text, const std::string& file) {
  const nlohmann::json object = parse_json(text, file);
  return std::make_unique<JsonTokenizer>(JsonFields(object, file));
}

}  // namespace stamp

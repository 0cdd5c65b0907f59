#include "models/tokenizer.h"

#include <cstdlib>

#include "kernels/error.h"
#include "models/tokenizers/json_tokenizer.h"
#include "models/tokenizers/sentencepiece.h"
#include "models/utf8.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

/// Every id is one of the vocabulary, and decoding in one go and in a stream agree, in whole characters.
void exercise(const stamp::Tokenizer& tokenizer, std::string_view text) {
  for (const bool special : {true, false}) {
    std::vector<int32_t> ids;
    try {
      ids = tokenizer.encode(text, {.add_special = special, .parse_special = special});
    } catch (const stamp::Error&) {  // no unknown token, or components that blow the text up
      return;
    }
    std::string all;
    stamp::StreamDecoder decoder(tokenizer, special);
    for (const int32_t id : ids) {
      require(id >= 0 && id < tokenizer.vocab_size());
      all += decoder.push(id);
      require(stamp::is_valid_utf8(all));
    }
    all += decoder.finish();
    require(stamp::is_valid_utf8(all) && all == tokenizer.decode(ids, special));
  }
}

}  // namespace

/// The bytes are read as a tokenizer.json and as a tokenizer.model. What is accepted can encode and decode
/// anything; everything else is an InputError.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const bool json : {true, false}) {
    std::unique_ptr<stamp::Tokenizer> tokenizer;
    try {
      tokenizer = json ? stamp::parse_json_tokenizer(text, "tokenizer.json")
                       : stamp::parse_sentencepiece(text, "no-such-directory/tokenizer.model");
    } catch (const stamp::InputError&) {
      continue;
    }
    exercise(*tokenizer, text.substr(0, 200));
    exercise(*tokenizer, " the  quick<s> brown é\u0301 日本\n\n\t12,345's 😀\xff</s> \u2581a");
  }
  return 0;
}

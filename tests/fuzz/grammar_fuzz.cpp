#include <algorithm>
#include <cstdlib>
#include <limits>

#include "engine/grammar/constrain.h"
#include "kernels/error.h"
#include "models/json.h"
#include "models/tokenizers/json_tokenizer.h"
#include "tests/tiny_model.h"

namespace {

const stamp::TokenVocabulary& vocabulary() {
  static const auto tokenizer =
      stamp::parse_json_tokenizer(stamp::tiny::tokenizer().dump(), "tokenizer.json");
  static const stamp::TokenVocabulary instance(*tokenizer, {stamp::TinyModel::kEos}, tokenizer->vocab_size());
  return instance;
}

/// Whatever is drawn, something can follow.
void draw(stamp::TokenConstraint& constraint, const uint8_t* data, size_t size) {
  std::vector<float> logits(static_cast<size_t>(vocabulary().size()));
  for (size_t i = 0; i < 40; ++i) {
    std::ranges::fill(logits, 0.0f);
    constraint.mask(logits);
    std::vector<int32_t> allowed;
    for (size_t id = 0; id < logits.size(); ++id)
      if (logits[id] == 0.0f) allowed.push_back(int32_t(id));
    if (allowed.empty()) std::abort();
    const int32_t token = allowed[(i + data[i % size]) % allowed.size()];
    constraint.advance(token);
    if (token == stamp::TinyModel::kEos) return;
  }
}

}  // namespace

/// The text is read as a regular expression and as a JSON schema. What is accepted can be generated without
/// ever getting stuck; everything else is an InputError.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 400) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    draw(*stamp::constrain_to_regex(vocabulary(), text), data, size);
  } catch (const stamp::InputError&) {
  }
  try {
    stamp::parse_json(text, "schema");  // as a server does: not nested without end
    draw(*stamp::constrain_to_json_schema(vocabulary(), nlohmann::ordered_json::parse(text)), data, size);
  } catch (const stamp::InputError&) {
  }
  return 0;
}

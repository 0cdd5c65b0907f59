#include "models/tokenizers/post_processor.h"

#include <string>
#include <utility>

#include "models/tokenizers/bpe.h"
#include "models/tokenizers/components.h"

namespace stamp {

void PostProcessor::read(const JsonFields& fields) {
  const std::string type = required_string(fields, "type");
  if (type == "Sequence") {
    for_each_object(fields, "processors", [this](const JsonFields& part) { read(part); });
  } else if (type == "TemplateProcessing") {
    if (std::exchange(has_template_, true)) fields.fail("type", "TemplateProcessing is there twice");
    read_template(fields);
  } else if (type != "ByteLevel") {
    fields.fail("type",
                "is " + type + "; supported post-processors are Sequence, TemplateProcessing and ByteLevel");
  }
}

void PostProcessor::read_template(const JsonFields& fields) {
  const nlohmann::json* tokens = fields.find("special_tokens");
  if (tokens == nullptr || !tokens->is_object()) fields.fail("special_tokens", "must be an object");
  for_each_object(fields, "single", [&](const JsonFields& piece) {
    const auto inner = [&](const char* name) {
      const nlohmann::json* value = piece.find(name);
      if (value == nullptr || piece.object().size() != 1)
        piece.fail(name, "must be the only field; a piece is a Sequence or a SpecialToken");
      return JsonFields(*value, piece.file(), piece.prefix() + name + ".");
    };
    if (piece.has("Sequence")) {
      const JsonFields sequence = inner("Sequence");
      if (const std::string id = required_string(sequence, "id"); id != "A")
        sequence.fail("id", "is " + id + "; a single text is A");
      for (const Part& part : parts_)
        if (part.text) sequence.fail("id", "is A a second time");
      parts_.push_back({.text = true, .ids = {}});
      return;
    }
    const JsonFields special = inner("SpecialToken");
    const std::string id = required_string(special, "id");
    const auto token = tokens->find(id);
    if (token == tokens->end()) special.fail("id", "is " + id + ", which special_tokens does not have");
    const JsonFields entry(*token, fields.file(), fields.prefix() + "special_tokens." + id + ".");
    if (!entry.has("ids")) entry.fail("ids", "is missing");
    parts_.push_back({.text = false, .ids = entry.ids("ids", Bpe::kMaxId)});
  });
}

std::vector<int32_t> PostProcessor::process(std::vector<int32_t> ids, bool add_special) const {
  if (!has_template_) return ids;
  std::vector<int32_t> out;
  out.reserve(ids.size() + 8);
  for (const Part& part : parts_) {
    const std::vector<int32_t>& source = part.text ? ids : part.ids;
    if (part.text || add_special) out.insert(out.end(), source.begin(), source.end());
  }
  return out;
}

}  // namespace stamp

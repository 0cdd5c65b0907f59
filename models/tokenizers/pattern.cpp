#include "models/tokenizers/pattern.h"

#include "models/tokenizers/pieces.h"

namespace stamp {

Pattern::Pattern(const JsonFields& fields) {
  const nlohmann::json* pattern = fields.find("pattern");
  if (pattern == nullptr) fields.fail("pattern", "is missing");
  if (!pattern->is_object() || pattern->size() != 1 || !pattern->begin()->is_string() ||
      (pattern->begin().key() != "String" && pattern->begin().key() != "Regex"))
    fields.fail("pattern", "must be {\"String\": text} or {\"Regex\": expression}");
  const auto& text = pattern->begin()->get_ref<const std::string&>();
  if (pattern->begin().key() == "Regex" ||
      text.empty())  // an empty literal matches everywhere, as a regex does
    regex_.emplace(text, fields.file());
  else literal_ = text;
}

std::string Pattern::replace(std::string_view text, std::string_view content, size_t limit) const {
  std::string out;
  out.reserve(text.size());
  size_t rest = 0;
  for_each_match(text, [&](size_t begin, size_t end) {
    out.append(text, rest, begin - rest).append(content);
    rest = end;
    check_length(out.size(), limit);
  });
  return out.append(text, rest, text.size() - rest);
}

}  // namespace stamp

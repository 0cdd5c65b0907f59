#include "models/tokenizers/components.h"

#include "models/utf8.h"

namespace stamp {

char32_t required_character(const JsonFields& fields, const char* name) {
  const std::string text = required_string(fields, name);
  size_t at = 0;
  const char32_t c = text.empty() ? 0 : next_code_point(text, at);
  if (at == 0 || at != text.size()) fields.fail(name, "must be one character");
  return c;
}

}  // namespace stamp

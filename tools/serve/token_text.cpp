#include "tools/serve/token_text.h"

#include <fmt/format.h>

#include "models/utf8.h"

namespace stamp {

std::string token_bytes(const Tokenizer& tokenizer, int32_t token) {
  return tokenizer.is_special(token) ? tokenizer.id_to_token(token) : tokenizer.token_bytes(token, false);
}

std::string token_text(const Tokenizer& tokenizer, int32_t token) {
  std::string bytes = token_bytes(tokenizer, token);
  if (is_valid_utf8(bytes)) return bytes;
  std::string text = "bytes:";
  for (const unsigned char byte : bytes) text += fmt::format("\\x{:02x}", byte);
  return text;
}

}  // namespace stamp

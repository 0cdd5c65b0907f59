#include "models/tokenizers/byte_level.h"

#include <array>
#include <cstdint>

#include "models/utf8.h"

namespace stamp {
namespace {

struct Alphabet {
  std::array<uint16_t, 256> character{};        // of each byte
  std::array<int16_t, 512> byte{};              // of each character; -1 if none
  std::array<std::array<char, 2>, 256> utf8{};  // the character's UTF-8
  std::array<uint8_t, 256> length{};            // its bytes

  Alphabet() {
    byte.fill(-1);
    uint16_t next = 256;
    for (unsigned b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b != 0xad);
      character[b] = printable ? uint16_t(b) : next++;
      byte[character[b]] = int16_t(b);
      std::string text;
      append_utf8(text, character[b]);
      length[b] = uint8_t(text.size());
      text.copy(utf8[b].data(), 2);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet instance;
  return instance;
}

}  // namespace

void append_byte_level(std::string_view bytes, std::string& out) {
  const Alphabet& a = alphabet();
  size_t at = out.size();
  out.resize(at + 2 * bytes.size());
  for (const char c : bytes) {
    const auto b = static_cast<unsigned char>(c);
    out[at] = a.utf8[b][0];
    out[at + 1] = a.utf8[b][1];  // overwritten by the next character where this one has a single byte
    at += a.length[b];
  }
  out.resize(at);
}

void append_byte_level_decoded(std::string_view token, std::string& out) {
  const Alphabet& a = alphabet();
  const size_t begin = out.size();
  for (size_t at = 0; at < token.size();) {
    const char32_t c = next_code_point(token, at);
    if (c >= a.byte.size() || a.byte[c] < 0) {
      out.resize(begin);
      out += token;
      return;
    }
    out += char(a.byte[c]);
  }
}

}  // namespace stamp

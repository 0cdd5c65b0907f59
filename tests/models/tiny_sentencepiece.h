#pragma once
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace stamp::tiny {

// A tokenizer.model written by hand: serialised sentencepiece.ModelProto.

inline std::string varint(uint64_t x) {
  std::string out;
  for (; x >= 0x80; x >>= 7) out += char(x | 0x80);
  return out += char(x);
}
inline std::string number_field(int field, uint64_t x) { return varint(uint64_t(field) << 3) + varint(x); }
inline std::string bytes_field(int field, std::string_view bytes) {
  return varint(uint64_t(field) << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}
inline std::string float_field(int field, float x) {
  std::string out = varint(uint64_t(field) << 3 | 5);
  const auto bits = std::bit_cast<uint32_t>(x);
  for (int i = 0; i < 4; ++i) out += char(bits >> (8 * i));
  return out;
}

enum PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };
inline std::string piece(std::string_view text, float score, PieceType type) {
  return bytes_field(1, bytes_field(1, text) + float_field(2, score) + number_field(3, type));
}

/// The pieces: <unk>, <s>, </s>, the 256 bytes, then these with falling scores.
inline const std::vector<std::string>& sentencepiece_words() {
  static const std::vector<std::string> words{"▁a", "ab", "▁ab", "▁▁", "▁", "a", "b",
                                              "c",  "d",  "é",   "<",  ">", "s", "/"};
  return words;
}
constexpr int32_t kFirstWord = 259;

inline std::string sentencepiece_pieces() {
  std::string out = piece("<unk>", 0, kUnknown) + piece("<s>", 0, kControl) + piece("</s>", 0, kControl);
  for (int b = 0; b < 256; ++b) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    out += piece(std::string("<0x") + kHex[size_t(b) >> 4] + kHex[size_t(b) & 15] + ">", 0, kByte);
  }
  float score = 0;
  for (const std::string& word : sentencepiece_words()) out += piece(word, --score, kNormal);
  return out;
}

/// As Llama's: BPE with byte fallback, a space in front, no other normalisation.
inline std::string sentencepiece_trainer() {
  return bytes_field(2, number_field(3, 2) + number_field(35, 1));
}
inline std::string sentencepiece_normalizer() {
  return bytes_field(
      3, bytes_field(1, "identity") + number_field(3, 1) + number_field(4, 0) + number_field(5, 1));
}
inline std::string sentencepiece_model() {
  return sentencepiece_pieces() + sentencepiece_trainer() + sentencepiece_normalizer();
}

}  // namespace stamp::tiny

#include "models/tokenizers/model_proto.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels/error.h"
#include "models/utf8.h"

namespace stamp {
namespace {

[[noreturn]] void fail(const std::string& file, const std::string& message) {
  throw InputError(file + ": not a usable SentencePiece model: " + message);
}

/// Protocol Buffers' wire format: fields of a number and a value.
class Reader {
 public:
  enum Wire { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  Reader(std::string_view bytes, const std::string& file) : rest_(bytes), file_(file) {}

  /// Goes to the next field. False at the end.
  bool next() {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    number = tag >> 3;
    if (number == 0 || number > 0x1fffffff) damaged();
    switch (wire = Wire(tag & 7)) {
      case kVarint:
        value = varint();
        break;
      case kFixed64:
        take(8);
        break;
      case kFixed32:
        take(4);
        break;
      case kBytes:
        take(varint());
        break;
      default:
        damaged();
    }
    return true;
  }

  std::string_view expect_bytes() const {
    if (wire != kBytes) damaged();
    return bytes;
  }
  uint64_t expect_varint() const {
    if (wire != kVarint) damaged();
    return value;
  }
  float expect_float() const {
    if (wire != kFixed32) damaged();
    return std::bit_cast<float>(read_u32(bytes, 0));
  }
  [[noreturn]] void damaged() const { fail(file_, "the file is damaged"); }

  static uint32_t read_u32(std::string_view bytes, size_t at) {
    uint32_t x = 0;
    for (size_t i = 4; i-- > 0;) x = x << 8 | static_cast<unsigned char>(bytes[at + i]);
    return x;
  }

  uint64_t number = 0, value = 0;
  Wire wire = kVarint;
  std::string_view bytes;

 private:
  uint64_t varint() {
    uint64_t x = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) damaged();
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      x |= uint64_t(byte & 0x7f) << shift;
      if (byte < 0x80) return x;
    }
    damaged();
  }
  void take(uint64_t size) {
    if (size > rest_.size()) damaged();
    bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
  }

  std::string_view rest_;
  const std::string& file_;
};

/// A double array (Darts) and the texts that its values point to: <bytes of the array><array><texts, each
/// ended by \0>.
void check_charsmap(std::string_view blob, const std::string& file) {
  if (blob.empty()) return;
  const auto bad = [&file] { fail(file, "the normalisation rules are damaged"); };
  if (blob.size() < 8) bad();
  const uint64_t trie_bytes = Reader::read_u32(blob, 0);
  if (trie_bytes % 4 != 0 || trie_bytes == 0 || trie_bytes >= blob.size() - 4 || blob.back() != '\0') bad();
  const std::string_view trie = blob.substr(4, trie_bytes);
  const uint64_t units = trie_bytes / 4, text_bytes = blob.size() - 4 - trie_bytes;
  for (uint64_t i = 0; i < units; ++i) {
    const uint32_t unit = Reader::read_u32(trie, 4 * i);
    if ((unit & 0x80000000) != 0) continue;  // a value, which is no node
    const uint64_t offset = uint64_t(unit >> 10) << ((unit & 0x200) >> 6);
    const uint64_t child = i ^ offset;  // of label 0; that of label c is at child ^ c
    if ((child | 0xff) >= units) bad();
    if ((unit & 0x100) != 0 && (Reader::read_u32(trie, 4 * child) & 0x7fffffff) >= text_bytes) bad();
  }
}

void read_pieces(std::string_view bytes, const std::string& file) {
  for (Reader piece(bytes, file); piece.next();) {
    if (piece.number == 1 && (piece.expect_bytes().empty() || !is_valid_utf8(piece.bytes)))
      fail(file, "a piece is not UTF-8");
    if (piece.number == 2 && !std::isfinite(piece.expect_float())) fail(file, "a score is not finite");
  }
}

}  // namespace

ModelProto ModelProto::parse(std::string_view bytes, const std::string& file) {
  ModelProto m;
  size_t pieces = 0;
  for (Reader field(bytes, file); field.next();) {
    if (field.number == 1) {
      read_pieces(field.expect_bytes(), file);
      ++pieces;
    } else if (field.number == 2) {
      for (Reader trainer(field.expect_bytes(), file); trainer.next();) {
        if (trainer.number == 3 && trainer.expect_varint() != 1 && trainer.value != 2)
          fail(file, "its type is neither unigram nor BPE");
        if (trainer.number == 24 && trainer.expect_varint() != 0)
          fail(file, "treat_whitespace_as_suffix is not supported");
        if (trainer.number == 44) m.unk_surface = to_valid_utf8(trainer.expect_bytes());
      }
    } else if (field.number == 3 || field.number == 5) {
      for (Reader normalizer(field.expect_bytes(), file); normalizer.next();) {
        if (normalizer.number == 2) {
          if (field.number == 5 && !normalizer.expect_bytes().empty())
            fail(file, "rules for decoding are not supported");
          check_charsmap(normalizer.expect_bytes(), file);
        }
        if (field.number == 3 && normalizer.number == 3) m.add_dummy_prefix = normalizer.expect_varint() != 0;
        if (field.number == 3 && normalizer.number == 4)
          m.remove_extra_whitespaces = normalizer.expect_varint() != 0;
      }
    }
  }
  if (pieces == 0) fail(file, "it has no pieces");
  return m;
}

}  // namespace stamp

#pragma once
#include <string>
#include <string_view>

namespace stamp {

/// What decoding needs to know of a SentencePiece model, and its library does not tell.
struct ModelProto {
  bool add_dummy_prefix = true, remove_extra_whitespaces = true;
  std::string unk_surface = " \xe2\x81\x87 ";

  /// Reads a serialised sentencepiece.ModelProto. The library trusts what is in it; here it is checked: the
  /// encoding, the kind of model, finite scores, and that the normaliser's trie stays within its bounds.
  /// Throws InputError naming the file.
  static ModelProto parse(std::string_view bytes, const std::string& file);
};

}  // namespace stamp

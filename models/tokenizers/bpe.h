#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/json.h"
#include "models/tokenizers/vocabulary.h"

namespace stamp {

/// Byte pair encoding as `tokenizers` does it. Immutable: encode() is const, and thread-safe with one
/// Workspace a thread.
class Bpe {
 public:
  /// `model` is the model object of a tokenizer.json. Throws InputError naming the file and the field.
  explicit Bpe(const JsonFields& model);

  /// What encode() reuses from call to call: the words it has seen lately, and its scratch.
  class Workspace;
  struct DeleteWorkspace {
    void operator()(Workspace* workspace) const;
  };
  using WorkspacePtr = std::unique_ptr<Workspace, DeleteWorkspace>;
  static WorkspacePtr make_workspace();

  /// Appends the ids of a piece, which is not empty. O(n log n) in its length.
  void encode(std::string_view piece, Workspace& workspace, std::vector<int32_t>& ids) const;

  std::optional<int32_t> token_to_id(std::string_view token) const;
  const Vocabulary& vocabulary() const { return vocabulary_; }

  static constexpr int32_t kMaxId = (1 << 22) - 1;

 private:
  static constexpr uint32_t kNoRank = UINT32_MAX;

  void read_vocabulary(const JsonFields& model);
  void read_merges(const JsonFields& model);
  void add_merge(int32_t left, int32_t right, int32_t id);
  uint32_t find_rank(int32_t left, int32_t right) const;
  void split_into_symbols(std::string_view piece, Workspace& workspace) const;
  void merge_symbols(Workspace& workspace) const;

  std::string file_;
  std::optional<std::string> unk_token_;
  int32_t unk_id_ = kNoToken;
  std::string prefix_, suffix_;  // of a symbol that continues a word, of a word's last symbol
  bool fuse_unk_ = false, byte_fallback_ = false, ignore_merges_ = false;
  Vocabulary vocabulary_;
  std::vector<int32_t> characters_;  // ids of the first characters of Unicode; kNoToken where there is none
  std::vector<int32_t> bytes_;       // ids of <0x00> to <0xFF>; kNoToken where missing
  // What two neighbours merge to. Open addressing: the pair at a slot, and its rank.
  std::vector<uint64_t> pairs_;
  std::vector<uint32_t> ranks_;
  std::vector<int32_t> merged_;  // [rank]: the id that a merge makes
};

}  // namespace stamp

#include "models/tokenizers/bpe.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <span>

#include "kernels/error.h"
#include "models/utf8.h"

namespace stamp {
namespace {

constexpr uint64_t kNoPair = UINT64_MAX;
constexpr uint32_t kEnd = UINT32_MAX;        // no neighbour
constexpr char32_t kDirectCharacters = 512;  // covers the byte-level alphabet

uint64_t pair_of(int32_t left, int32_t right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }

size_t first_slot(uint64_t pair, size_t slots) {
  pair *= 0x9e3779b97f4a7c15;  // 2^64 / golden ratio
  return (pair ^ pair >> 32) & (slots - 1);
}

/// A part of a word: a character at first.
struct Symbol {
  int32_t id;  // -1 once it is merged into the symbol before
  uint32_t previous, next;
};

/// The words encoded lately, and their ids.
class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 128;

  std::optional<std::span<const int32_t>> find(std::string_view word, size_t hash) const {
    for (size_t slot = hash;; ++slot) {
      const Entry& entry = entries_[slot & (entries_.size() - 1)];
      if (entry.word_bytes == 0) return std::nullopt;
      if (entry.hash == uint32_t(hash) &&
          std::string_view(words_).substr(entry.word, entry.word_bytes) == word)
        return std::span(ids_).subspan(entry.ids, entry.count);
    }
  }

  void insert(std::string_view word, size_t hash, std::span<const int32_t> ids) {
    if (used_ == kMaxWords) {
      used_ = 0;
      std::fill(entries_.begin(), entries_.end(), Entry{});
      words_.clear();
      ids_.clear();
    }
    if (2 * ++used_ > entries_.size()) grow();
    place({uint32_t(hash), uint32_t(words_.size()), uint32_t(word.size()), uint32_t(ids_.size()),
           uint32_t(ids.size())});
    words_ += word;
    ids_.insert(ids_.end(), ids.begin(), ids.end());
  }

 private:
  static constexpr size_t kMaxWords = 1 << 15;
  struct Entry {
    uint32_t hash = 0, word = 0, word_bytes = 0, ids = 0, count = 0;
  };
  void place(const Entry& entry) {
    size_t slot = entry.hash;
    while (entries_[slot & (entries_.size() - 1)].word_bytes != 0) ++slot;
    entries_[slot & (entries_.size() - 1)] = entry;
  }
  void grow() {
    std::vector<Entry> old(2 * entries_.size());
    old.swap(entries_);
    for (const Entry& entry : old)
      if (entry.word_bytes != 0) place(entry);
  }

  std::vector<Entry> entries_ = std::vector<Entry>(1024);  // open addressing, a power of two
  size_t used_ = 0;
  std::string words_;
  std::vector<int32_t> ids_;
};

}  // namespace

class Bpe::Workspace {
 public:
  WordCache cache;
  std::vector<Symbol> symbols;
  std::vector<uint64_t> queue;  // min-heap of rank << 32 | index of the left symbol

  /// Gives back what an unusually long word took.
  void shrink() {
    constexpr size_t kKept = 1 << 16;
    if (symbols.capacity() > kKept) symbols = {};
    if (queue.capacity() > kKept) queue = {};
  }
};

Bpe::WorkspacePtr Bpe::make_workspace() { return WorkspacePtr(new Workspace); }
void Bpe::DeleteWorkspace::operator()(Workspace* workspace) const { delete workspace; }

Bpe::Bpe(const JsonFields& model) : file_(model.file()) {
  if (model.number("dropout", 0, 1).value_or(0) != 0)
    model.fail("dropout", "above 0 makes ids random; it is not supported");
  unk_token_ = model.string("unk_token");
  prefix_ = model.string("continuing_subword_prefix").value_or("");
  suffix_ = model.string("end_of_word_suffix").value_or("");
  fuse_unk_ = model.boolean("fuse_unk").value_or(false);
  byte_fallback_ = model.boolean("byte_fallback").value_or(false);
  ignore_merges_ = model.boolean("ignore_merges").value_or(false);
  read_vocabulary(model);
  read_merges(model);
}

void Bpe::read_vocabulary(const JsonFields& model) {
  const nlohmann::json* vocab = model.find("vocab");
  if (vocab == nullptr) model.fail("vocab", "is missing");
  if (!vocab->is_object()) model.fail("vocab", "must be an object of tokens and their ids");
  vocabulary_ = Vocabulary(vocab->size());
  for (const auto& [token, id] : vocab->items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > uint64_t(kMaxId))
      model.fail("vocab", "gives \"" + token + "\" the id " + id.dump() +
                              "; ids are whole numbers from 0 to " + std::to_string(kMaxId));
    if (!vocabulary_.add(token, id.get<int32_t>()))
      model.fail("vocab", "gives the id " + id.dump() + " twice, to \"" + token + "\", too");
  }
  std::string token;
  for (char32_t c = 0; c < kDirectCharacters; ++c) {
    token.clear();
    append_utf8(token, c);
    characters_.push_back(vocabulary_.find(token));
  }
  constexpr std::string_view kHex = "0123456789ABCDEF";
  for (unsigned b = 0; b < 256; ++b)
    bytes_.push_back(vocabulary_.find(std::string("<0x") + kHex[b >> 4] + kHex[b & 15] + ">"));
  if (unk_token_) unk_id_ = vocabulary_.find(*unk_token_);
}

void Bpe::read_merges(const JsonFields& model) {
  const nlohmann::json* merges = model.find("merges");
  if (merges == nullptr) model.fail("merges", "is missing");
  if (!merges->is_array()) model.fail("merges", "must be an array");
  size_t slots = 16;
  while (slots < 2 * merges->size()) slots *= 2;
  pairs_.assign(slots, kNoPair);
  ranks_.assign(slots, kNoRank);
  merged_.reserve(merges->size());
  const bool pairs = !merges->empty() && merges->front().is_array();
  for (const nlohmann::json& merge : *merges) {
    const auto bad = [&] {
      model.fail("merges", "has " + merge.dump() + " at index " + std::to_string(merged_.size()) +
                               "; a merge is \"left right\" or [\"left\", \"right\"], all alike");
    };
    const auto add = [&](std::string_view left, std::string_view right) {
      const auto need = [&](std::string_view token) {
        const int32_t id = vocabulary_.find(token);
        if (id == kNoToken)
          model.fail("merges", "needs the token \"" + std::string(token) + "\" at index " +
                                   std::to_string(merged_.size()) + ", which is not in the vocabulary");
        return id;
      };
      const int32_t left_id = need(left), right_id = need(right);
      if (right.size() < prefix_.size()) bad();
      const int32_t id = need(std::string(left).append(right.substr(prefix_.size())));
      add_merge(left_id, right_id, id);
    };
    if (pairs) {
      if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) bad();
      add(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>());
    } else {
      if (!merge.is_string()) bad();
      const std::string_view text = merge.get_ref<const std::string&>();
      if (text.starts_with("#version")) continue;
      const size_t space = text.find(' ');
      if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) bad();
      add(text.substr(0, space), text.substr(space + 1));
    }
  }
}

void Bpe::add_merge(int32_t left, int32_t right, int32_t id) {
  const uint64_t pair = pair_of(left, right);
  size_t slot = first_slot(pair, pairs_.size());
  while (pairs_[slot] != kNoPair && pairs_[slot] != pair) slot = (slot + 1) & (pairs_.size() - 1);
  pairs_[slot] = pair;
  ranks_[slot] = uint32_t(merged_.size());  // of a pair that is there twice the last counts
  merged_.push_back(id);
}

std::optional<int32_t> Bpe::token_to_id(std::string_view token) const {
  const int32_t id = vocabulary_.find(token);
  return id == kNoToken ? std::nullopt : std::optional(id);
}

uint32_t Bpe::find_rank(int32_t left, int32_t right) const {
  const uint64_t pair = pair_of(left, right);
  for (size_t slot = first_slot(pair, pairs_.size());; slot = (slot + 1) & (pairs_.size() - 1)) {
    if (pairs_[slot] == pair) return ranks_[slot];
    if (pairs_[slot] == kNoPair) return kNoRank;
  }
}

void Bpe::encode(std::string_view piece, Workspace& workspace, std::vector<int32_t>& ids) const {
  const bool cached = piece.size() <= WordCache::kMaxWordBytes;
  const size_t hash = cached ? std::hash<std::string_view>{}(piece) : 0;
  if (cached) {
    if (const auto known = workspace.cache.find(piece, hash)) {
      ids.insert(ids.end(), known->begin(), known->end());
      return;
    }
  }
  const size_t begin = ids.size();
  if (const int32_t id = ignore_merges_ ? vocabulary_.find(piece) : kNoToken; id != kNoToken) {
    ids.push_back(id);
  } else {
    split_into_symbols(piece, workspace);
    merge_symbols(workspace);
    for (const Symbol& symbol : workspace.symbols)
      if (symbol.id != kNoToken) ids.push_back(symbol.id);
  }
  if (cached) workspace.cache.insert(piece, hash, std::span(ids).subspan(begin));
  else workspace.shrink();
}

void Bpe::split_into_symbols(std::string_view piece, Workspace& workspace) const {
  std::vector<Symbol>& symbols = workspace.symbols;
  symbols.clear();
  const auto add = [&symbols](int32_t id) {
    const auto index = uint32_t(symbols.size());
    symbols.push_back({id, index - 1, index + 1});  // the first has no previous: 0 - 1 is kEnd
  };
  bool unknown =
      false;  // one is waiting: `tokenizers` writes it before the next known character, not before bytes
  std::string decorated;
  for (size_t at = 0; at < piece.size();) {
    const size_t begin = at;
    const char32_t c = next_code_point(piece, at);
    std::string_view text = piece.substr(begin, at - begin);
    int32_t id = kNoToken;
    if (prefix_.empty() && suffix_.empty()) {
      id = c < kDirectCharacters ? characters_[c] : vocabulary_.find(text);
    } else {
      decorated = begin > 0 ? prefix_ : "";
      decorated += text;
      if (at == piece.size()) decorated += suffix_;
      text = decorated;
      id = vocabulary_.find(text);
    }
    if (id != kNoToken) {
      if (unknown) add(unk_id_);
      unknown = false;
      add(id);
    } else if (byte_fallback_ && std::all_of(text.begin(), text.end(), [this](char b) {
                 return bytes_[static_cast<unsigned char>(b)] != kNoToken;
               })) {
      for (const char b : text) add(bytes_[static_cast<unsigned char>(b)]);
    } else if (unk_token_) {
      if (unk_id_ == kNoToken)
        throw InputError(file_ + ": model.unk_token " + printable(*unk_token_) +
                         " is not in the vocabulary, and the text needs it");
      if (unknown && !fuse_unk_) add(unk_id_);
      unknown = true;
    }
  }
  if (unknown) add(unk_id_);
  if (symbols.size() >= kEnd) throw Error("a part of the text without a split is too long to be tokenized");
  if (!symbols.empty()) symbols.back().next = kEnd;
}

void Bpe::merge_symbols(Workspace& workspace) const {
  std::vector<Symbol>& symbols = workspace.symbols;
  std::vector<uint64_t>& queue = workspace.queue;
  const auto rank_at = [&](uint32_t left) {
    return find_rank(symbols[left].id, symbols[symbols[left].next].id);
  };
  queue.clear();
  for (uint32_t i = 0; i + 1 < symbols.size(); ++i)
    if (const uint32_t rank = rank_at(i); rank != kNoRank) queue.push_back(uint64_t(rank) << 32 | i);
  const std::greater<> later;
  std::make_heap(queue.begin(), queue.end(), later);
  const auto enqueue = [&](uint32_t left) {
    if (const uint32_t rank = rank_at(left); rank != kNoRank) {
      queue.push_back(uint64_t(rank) << 32 | left);
      std::push_heap(queue.begin(), queue.end(), later);
    }
  };
  while (!queue.empty()) {
    const uint64_t top = queue.front();
    std::pop_heap(queue.begin(), queue.end(), later);
    queue.pop_back();
    const auto left = uint32_t(top);
    Symbol& symbol = symbols[left];
    if (symbol.id == kNoToken || symbol.next == kEnd) continue;
    // The neighbours may have changed since: the entry counts if they still merge to the same token.
    const uint32_t rank = rank_at(left);
    if (rank == kNoRank || merged_[rank] != merged_[top >> 32]) continue;
    Symbol& right = symbols[symbol.next];
    symbol.id = merged_[rank];
    symbol.next = right.next;
    right.id = kNoToken;
    if (symbol.next != kEnd) symbols[symbol.next].previous = left;
    if (symbol.previous != kEnd) enqueue(symbol.previous);
    if (symbol.next != kEnd) enqueue(left);
  }
}

}  // namespace stamp

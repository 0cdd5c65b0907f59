#pragma once
#include <array>
#include <compare>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/grammar/dfa.h"
#include "engine/grammar/interner.h"
#include "engine/grammar/token_vocabulary.h"

namespace stamp::grammar {

/// Rules that call one another; the text is the first one's.
using Grammar = std::vector<Dfa>;

/// Calls within one another, at most: deeper texts are not accepted.
inline constexpr uint32_t kMaxDepth = 64;

/// A grammar as a pushdown automaton over bytes, made deterministic while it runs: a state is the set of all
/// places where the text so far may be. A place is a node and a frame; a frame is the set of places where a
/// rule may return to, shared by all that called the rule at the same point of the text, so that ambiguous
/// grammars do not multiply. A set has at most one place for each node and point of the text where its rule
/// began. From every state the text can be completed, by tokens of the vocabulary too.
///
/// States, their successors and the tokens that may follow are kept once they are known; what may follow
/// within a rule is kept apart from who called it, so that every string of a text has the same large part.
/// Thread-safe.
class Automaton {
 public:
  /// `vocabulary` must outlive this. Throws InputError, without a prefix, if no text can be generated, if a
  /// rule calls itself before any byte, or if too many rules may begin at the same place.
  /// Above `max_cache_bytes` what is known is forgotten, but for where the cursors are.
  Automaton(const Grammar& grammar, const TokenVocabulary& vocabulary,
            size_t max_cache_bytes = kUsualCacheBytes);
  static constexpr size_t kUsualCacheBytes = size_t{64} << 20;

  /// A position in a text, open until close().
  using Cursor = uint32_t;
  Cursor open();
  Cursor copy(Cursor cursor);
  void close(Cursor cursor);
  /// False, and the cursor stays where it is, if these bytes cannot follow.
  bool advance(Cursor cursor, std::string_view bytes);
  bool complete(Cursor cursor);
  /// Calls use(words) with a bit for each token, lowest first: whether it may follow, as the text's first
  /// token or not. End tokens are no part of it.
  template <class Use>
  void with_mask(Cursor cursor, bool first, Use&& use) {
    const std::lock_guard lock(mutex_);
    limit_cache();
    use(mask(cursors_[cursor], first));
  }

  /// Bytes of all that is kept.
  size_t cache_bytes();

 private:
  static constexpr uint32_t kDead = 0;  // the state without places
  static constexpr uint32_t kUnknown = UINT32_MAX;
  static constexpr uint32_t kRootFrame = 0;
  static constexpr uint32_t kNever = UINT32_MAX;
  static constexpr uint32_t kUnknownCaller = UINT32_MAX;  // in place of a frame's places
  // A state's first word.
  static constexpr uint32_t kMayEnd = 1, kMayReturn = 2;  // the text; to an unknown caller
  static constexpr size_t kMaxWidth = 128;                // rules that begin at the same place

  struct Node {
    uint32_t first_edge, first_call;  // up to the next node's
    uint32_t needs;                   // calls within one another until the rule's end, at the least
    bool accept;
  };
  struct Place {
    uint32_t node, frame;
    auto operator<=>(const Place&) const = default;
  };
  struct Called {
    uint32_t order, depth;  // the rule, by its number in order_; of the frame that called
    Place back;
    auto operator<=>(const Called&) const = default;
  };
  using Row = std::array<uint32_t, 256>;  // the states that follow a state
  using Mask = std::vector<uint64_t>;
  /// What may follow of places that share a frame, if nothing is known of the frame but its depth.
  struct LocalMask {
    Mask mask;                      // tokens within the rule
    std::vector<uint32_t> escapes;  // nodes of the trie at which the rule may return
  };

  /// Places of one step, each once.
  class PlaceSet {
   public:
    void clear() { ++stamp_, count_ = 0; }
    bool insert(Place place);

   private:
    struct Slot {
      uint64_t stamp = 0;
      Place place{};
    };
    std::vector<Slot> slots_ = std::vector<Slot>(64);
    uint64_t stamp_ = 1;
    size_t count_ = 0;
  };

  void flatten(const Grammar& grammar);
  void find_needs();
  void order_rules(const Grammar& grammar);
  void check_width(const Grammar& grammar) const;

  std::span<const Dfa::Edge> edges(uint32_t node) const {
    return std::span(edges_).subspan(nodes_[node].first_edge,
                                     nodes_[node + 1].first_edge - nodes_[node].first_edge);
  }
  std::span<const Dfa::Call> calls(uint32_t node) const {
    return std::span(calls_).subspan(nodes_[node].first_call,
                                     nodes_[node + 1].first_call - nodes_[node].first_call);
  }
  uint32_t depth(uint32_t frame) const { return frames_[frame][0]; }

  void begin_step();
  void add_place(Place place);
  uint32_t end_step();  // the state of all places added
  uint32_t step(uint32_t state, uint8_t byte);
  uint32_t next(uint32_t state, Row& row, uint8_t byte) {
    uint32_t& to = row[byte];
    return to != kUnknown ? to : to = step(state, byte);
  }
  Row& row(uint32_t state);
  std::span<const uint64_t> mask(uint32_t state, bool first);
  void add_returns(uint32_t frame);
  void add_local_masks(uint32_t state, Mask& mask);
  const LocalMask& local_mask(std::span<const Place> places);
  /// Adds the tokens of the subtree of `root` that may follow where `state` is at that node.
  void walk(uint32_t state, const TokenVocabulary::Trie& trie, uint32_t root, Mask& mask,
            std::vector<uint32_t>* escapes);
  void limit_cache();
  Place moved(Place place, const Interner& old_frames, std::vector<uint32_t>& new_frames);

  const TokenVocabulary& vocabulary_;
  size_t max_cache_bytes_;
  std::vector<Node> nodes_;  // and one for the end of the last one's edges and calls
  std::vector<Dfa::Edge> edges_;
  std::vector<Dfa::Call> calls_;
  std::vector<uint32_t> starts_;  // [rules]: first nodes
  std::vector<uint32_t> order_;   // [rules]: greater than those of all that may call it before any byte
  std::vector<uint32_t> by_order_;

  std::mutex mutex_;
  Interner states_;                               // a word, what may end here, then nodes and frames
  Interner frames_;                               // a word, the depth, then nodes and frames
  std::vector<uint32_t> cursors_, free_cursors_;  // states; the first cursor is the text's begin
  std::vector<std::unique_ptr<Row>> rows_;        // [states] or fewer, as the next two; made when asked for
  std::vector<std::unique_ptr<Mask>> masks_, first_masks_;
  std::vector<std::unique_ptr<LocalMask>> local_masks_;
  size_t cached_ = 0;  // bytes of these four
  // Scratch of a step and of walk().
  PlaceSet seen_;
  std::vector<Place> places_;
  std::vector<Called> called_;
  std::vector<uint32_t> words_;
  uint32_t ends_ = 0;
  std::vector<std::pair<uint32_t, Row*>> walked_;  // [depth]
};

}  // namespace stamp::grammar

#include "engine/grammar/automaton.h"

#include <algorithm>
#include <string>

#include "kernels/error.h"

namespace stamp::grammar {

Automaton::Automaton(const Grammar& grammar, const TokenVocabulary& vocabulary, size_t max_cache_bytes)
    : vocabulary_(vocabulary), max_cache_bytes_(max_cache_bytes) {
  flatten(grammar);
  find_needs();
  order_rules(grammar);
  check_width(grammar);
  frames_.intern({{0}});
  states_.intern({{0}});
  begin_step();
  add_place({starts_[0], kRootFrame});
  const uint32_t start = end_step();
  if (start == kDead) throw InputError("no text of tokens matches it");
  cursors_.push_back(start);
}

void Automaton::flatten(const Grammar& grammar) {
  uint32_t count = 0;
  for (const Dfa& rule : grammar) {
    starts_.push_back(count);
    count += uint32_t(std::max<size_t>(1, rule.states.size()));
  }
  for (size_t r = 0; r < grammar.size(); ++r) {
    const uint32_t start = starts_[r];
    if (grammar[r].states.empty())
      nodes_.push_back({uint32_t(edges_.size()), uint32_t(calls_.size()), kNever, false});
    for (const Dfa::State& state : grammar[r].states) {
      nodes_.push_back({uint32_t(edges_.size()), uint32_t(calls_.size()), kNever, state.accept});
      // Without bytes that no token stands for: then every text that is left is one of tokens.
      for (const Dfa::Edge& edge : state.edges)
        for (int low = edge.low; low <= edge.high; ++low) {
          if (!vocabulary_.has_byte(uint8_t(low))) continue;
          int high = low;
          while (high < edge.high && vocabulary_.has_byte(uint8_t(high + 1))) ++high;
          edges_.push_back({uint8_t(low), uint8_t(high), start + edge.target});
          low = high;
        }
      for (const Dfa::Call& call : state.calls) calls_.push_back({call.rule, start + call.target});
    }
  }
  nodes_.push_back({uint32_t(edges_.size()), uint32_t(calls_.size()), kNever, false});
}

/// Level by level, backwards from the ends of the rules.
void Automaton::find_needs() {
  struct Source {
    uint32_t node, rule;  // rule: kNever for an edge
  };
  const auto count = uint32_t(nodes_.size() - 1);
  std::vector<std::vector<Source>> sources(count);
  std::vector<std::vector<std::pair<uint32_t, uint32_t>>> callers(
      starts_.size());  // node, where it returns to
  for (uint32_t n = 0; n < count; ++n) {
    for (const Dfa::Edge& edge : edges(n)) sources[edge.target].push_back({n, kNever});
    for (const Dfa::Call& call : calls(n)) {
      sources[call.target].push_back({n, call.rule});
      callers[call.rule].emplace_back(n, call.target);
    }
  }
  std::vector<uint32_t> pending;
  const auto set = [&](uint32_t node, uint32_t level) {
    if (nodes_[node].needs != kNever) return;
    nodes_[node].needs = level;
    pending.push_back(node);
  };
  for (uint32_t level = 0; level <= kMaxDepth; ++level) {
    for (uint32_t n = 0; level == 0 && n < count; ++n)
      if (nodes_[n].accept) set(n, 0);
    for (size_t rule = 0; level > 0 && rule < starts_.size(); ++rule) {
      if (nodes_[starts_[rule]].needs != level - 1) continue;
      for (const auto& [node, back] : callers[rule])
        if (nodes_[back].needs != kNever) set(node, level);
    }
    if (pending.empty()) return;
    while (!pending.empty()) {
      const uint32_t node = pending.back();
      pending.pop_back();
      for (const Source& source : sources[node])
        if (source.rule == kNever || nodes_[starts_[source.rule]].needs < level) set(source.node, level);
    }
  }
}

void Automaton::order_rules(const Grammar& grammar) {
  // Kahn's algorithm on the calls from the rules' first nodes.
  std::vector<uint32_t> callers(grammar.size());
  const auto first_calls = [this](uint32_t rule) { return calls(starts_[rule]); };
  for (uint32_t rule = 0; rule < grammar.size(); ++rule)
    for (const Dfa::Call& call : first_calls(rule)) ++callers[call.rule];
  for (uint32_t rule = 0; rule < grammar.size(); ++rule)
    if (callers[rule] == 0) by_order_.push_back(rule);
  for (size_t i = 0; i < by_order_.size(); ++i)
    for (const Dfa::Call& call : first_calls(by_order_[i]))
      if (--callers[call.rule] == 0) by_order_.push_back(call.rule);
  if (by_order_.size() < grammar.size())
    throw InputError("a definition refers to itself without anything before the reference");
  order_.resize(grammar.size());
  for (uint32_t i = 0; i < by_order_.size(); ++i) order_[by_order_[i]] = i;
}

/// How many rules can begin at one point of the text.
void Automaton::check_width(const Grammar& grammar) const {
  std::vector<size_t> first(grammar.size(), 1);  // at the rule's own begin
  const auto width = [&first](const Dfa::State& state) {
    size_t count = state.edges.empty() ? 0 : 1;
    for (const Dfa::Call& call : state.calls) count = std::min(count + first[call.rule], kMaxWidth + 1);
    return count;
  };
  for (auto rule = by_order_.rbegin(); rule != by_order_.rend(); ++rule)
    if (!grammar[*rule].states.empty()) first[*rule] = width(grammar[*rule].states[0]);
  for (const Dfa& rule : grammar)
    for (const Dfa::State& state : rule.states)
      if (width(state) > kMaxWidth)
        throw InputError("has more than " + std::to_string(kMaxWidth) + " alternatives that begin alike");
}

bool Automaton::PlaceSet::insert(Place place) {
  if (2 * (count_ + 1) > slots_.size()) {
    std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
    count_ = 0;
    for (const Slot& slot : old)
      if (slot.stamp == stamp_) insert(slot.place);
  }
  const uint64_t hash = (uint64_t{place.node} << 32 | place.frame) * 0x9e3779b97f4a7c15u;
  for (size_t i = hash >> 32;; ++i) {
    Slot& slot = slots_[i & (slots_.size() - 1)];
    if (slot.stamp == stamp_ && slot.place == place) return false;
    if (slot.stamp == stamp_) continue;
    slot = {stamp_, place};
    ++count_;
    return true;
  }
}

void Automaton::begin_step() {
  seen_.clear();
  places_.clear();
  called_.clear();
  ends_ = 0;
}

void Automaton::add_place(Place place) {
  const Node& node = nodes_[place.node];
  if (node.needs == kNever || depth(place.frame) + node.needs > kMaxDepth || !seen_.insert(place)) return;
  if (!edges(place.node).empty()) places_.push_back(place);
  for (const Dfa::Call& call : calls(place.node))
    if (nodes_[call.target].needs != kNever && depth(place.frame) + nodes_[call.target].needs <= kMaxDepth)
      called_.push_back({order_[call.rule], depth(place.frame), {call.target, place.frame}});
  if (!node.accept) return;
  if (place.frame == kRootFrame) ends_ |= kMayEnd;
  else add_returns(place.frame);
}

void Automaton::add_returns(uint32_t frame) {
  if (frames_[frame][1] == kUnknownCaller) {
    ends_ |= kMayReturn;
    return;
  }
  const size_t words = frames_[frame].size();
  for (size_t i = 1; i < words; i += 2) {
    const auto places = frames_[frame];  // anew: adding one may move them
    add_place({places[i], places[i + 1]});
  }
}

uint32_t Automaton::end_step() {
  for (size_t begin = 0; begin < called_.size();) {
    // Whatever follows from one of these calls comes later in the order.
    std::sort(called_.begin() + long(begin), called_.end());
    const uint32_t order = called_[begin].order, depth = called_[begin].depth;
    words_.assign(1, depth + 1);
    for (; begin < called_.size() && called_[begin].order == order && called_[begin].depth == depth;
         ++begin) {
      if (words_.size() > 1 && called_[begin] == called_[begin - 1]) continue;
      words_.push_back(called_[begin].back.node);
      words_.push_back(called_[begin].back.frame);
    }
    add_place({starts_[by_order_[order]], frames_.intern(words_)});
  }
  std::sort(places_.begin(), places_.end());
  words_.assign(1, ends_);
  for (const Place& place : places_) {
    words_.push_back(place.node);
    words_.push_back(place.frame);
  }
  return states_.intern(words_);
}

uint32_t Automaton::step(uint32_t state, uint8_t byte) {
  begin_step();
  const size_t words = states_[state].size();
  for (size_t i = 1; i < words; i += 2) {
    const Place place{states_[state][i], states_[state][i + 1]};
    const auto from = edges(place.node);
    const auto edge = std::ranges::lower_bound(from, byte, {}, &Dfa::Edge::high);
    if (edge != from.end() && edge->low <= byte) add_place({edge->target, place.frame});
  }
  return end_step();
}

Automaton::Row& Automaton::row(uint32_t state) {
  if (state >= rows_.size()) rows_.resize(states_.size());
  if (rows_[state] == nullptr) {
    rows_[state] = std::make_unique<Row>();
    rows_[state]->fill(kUnknown);
    cached_ += sizeof(Row);
  }
  return *rows_[state];
}

void Automaton::walk(uint32_t state, const TokenVocabulary::Trie& trie, uint32_t root, Mask& mask,
                     std::vector<uint32_t>* escapes) {
  const auto nodes = trie.nodes();
  const auto tokens = trie.tokens();
  const uint32_t end = std::min(nodes[root].end, uint32_t(nodes.size() - 1)), above = nodes[root].depth;
  if (root + 1 == end) return;
  walked_.assign(1, {state, &row(state)});
  for (uint32_t i = root + 1; i < end;) {
    const auto& node = nodes[i];
    const uint32_t depth = node.depth - above;
    const auto [from, from_row] = walked_[depth - 1];
    const uint32_t to = next(from, *from_row, node.byte);
    if (to == kDead) {
      i = node.end;
      continue;
    }
    for (uint32_t t = node.first_token; t < nodes[i + 1].first_token; ++t)
      mask[size_t(tokens[t]) / 64] |= uint64_t{1} << (tokens[t] % 64);
    if (++i == node.end) continue;  // a leaf
    if (escapes != nullptr && (states_[to][0] & kMayReturn) != 0) escapes->push_back(i - 1);
    if (depth >= walked_.size()) walked_.resize(depth + 1);
    walked_[depth] = {to, &row(to)};
  }
}

const Automaton::LocalMask& Automaton::local_mask(std::span<const Place> places) {
  begin_step();
  places_.assign(places.begin(), places.end());
  if (places[0].frame != kRootFrame) {
    const uint32_t unknown = frames_.intern({{depth(places[0].frame), kUnknownCaller}});
    for (Place& place : places_) place.frame = unknown;
  }
  const uint32_t state = end_step();
  if (state >= local_masks_.size()) local_masks_.resize(states_.size());
  if (local_masks_[state] == nullptr) {
    auto local = std::make_unique<LocalMask>();
    local->mask.resize(size_t(vocabulary_.size() + 63) / 64);
    walk(state, vocabulary_.trie(false), 0, local->mask, &local->escapes);
    cached_ += sizeof(uint64_t) * local->mask.size() + sizeof(uint32_t) * local->escapes.size();
    if (state >= local_masks_.size()) local_masks_.resize(states_.size());
    local_masks_[state] = std::move(local);
  }
  return *local_masks_[state];
}

/// Frame by frame: what may follow within the rule, and from where it may return what may follow there.
void Automaton::add_local_masks(uint32_t state, Mask& mask) {
  std::vector<Place> places;
  for (size_t i = 1; i < states_[state].size(); i += 2)
    places.push_back({states_[state][i], states_[state][i + 1]});
  std::ranges::stable_sort(places, {}, &Place::frame);
  for (auto begin = places.begin(); begin != places.end();) {
    const uint32_t frame = begin->frame;
    const auto end = std::ranges::find_if(begin, places.end(), [frame](Place p) { return p.frame != frame; });
    const LocalMask& local = local_mask({begin, end});
    for (size_t w = 0; w < mask.size(); ++w) mask[w] |= local.mask[w];
    begin = end;
    if (local.escapes.empty()) continue;
    begin_step();
    add_returns(frame);
    const uint32_t back = end_step();
    for (const uint32_t node : local.escapes) walk(back, vocabulary_.trie(false), node, mask, nullptr);
  }
}

std::span<const uint64_t> Automaton::mask(uint32_t state, bool first) {
  const auto& trie = vocabulary_.trie(first);
  const bool usual = &trie == &vocabulary_.trie(false);
  auto& masks = usual ? masks_ : first_masks_;
  if (state >= masks.size()) masks.resize(states_.size());
  if (masks[state] == nullptr) {
    auto mask = std::make_unique<Mask>(size_t(vocabulary_.size() + 63) / 64);
    if (usual) add_local_masks(state, *mask);
    else walk(state, trie, 0, *mask, nullptr);
    cached_ += sizeof(uint64_t) * mask->size();
    masks[state] = std::move(mask);
  }
  return *masks[state];
}

size_t Automaton::cache_bytes() {
  const std::lock_guard lock(mutex_);
  return cached_ + states_.bytes() + frames_.bytes();
}

Automaton::Place Automaton::moved(Place place, const Interner& old_frames,
                                  std::vector<uint32_t>& new_frames) {
  uint32_t& frame = new_frames[place.frame];
  if (frame == kUnknown) {
    const auto old = old_frames[place.frame];
    std::vector<Place> places;
    for (size_t i = 1; i < old.size(); i += 2)
      places.push_back(moved({old[i], old[i + 1]}, old_frames, new_frames));
    std::sort(places.begin(), places.end());
    std::vector<uint32_t> words{old[0]};
    for (const Place& p : places) words.insert(words.end(), {p.node, p.frame});
    frame = frames_.intern(words);
  }
  return {place.node, frame};
}

void Automaton::limit_cache() {
  if (cached_ + states_.bytes() + frames_.bytes() <= max_cache_bytes_) return;
  rows_.clear();
  masks_.clear();
  first_masks_.clear();
  local_masks_.clear();
  cached_ = 0;
  const Interner states = std::exchange(states_, {}), frames = std::exchange(frames_, {});
  frames_.intern({{0}});
  states_.intern({{0}});
  std::vector<uint32_t> new_frames(frames.size(), kUnknown);
  new_frames[kRootFrame] = kRootFrame;
  for (uint32_t& cursor : cursors_) {
    const auto old = states[cursor];
    begin_step();
    ends_ = old[0];
    for (size_t i = 1; i < old.size(); i += 2)
      places_.push_back(moved({old[i], old[i + 1]}, frames, new_frames));
    cursor = end_step();
  }
}

Automaton::Cursor Automaton::open() { return copy(0); }

Automaton::Cursor Automaton::copy(Cursor cursor) {
  const std::lock_guard lock(mutex_);
  if (free_cursors_.empty()) {
    cursors_.push_back(cursors_[cursor]);
    return Cursor(cursors_.size() - 1);
  }
  const Cursor fresh = free_cursors_.back();
  free_cursors_.pop_back();
  cursors_[fresh] = cursors_[cursor];
  return fresh;
}

void Automaton::close(Cursor cursor) {
  const std::lock_guard lock(mutex_);
  cursors_[cursor] = kDead;
  free_cursors_.push_back(cursor);
}

bool Automaton::advance(Cursor cursor, std::string_view bytes) {
  const std::lock_guard lock(mutex_);
  limit_cache();
  uint32_t state = cursors_[cursor];
  for (const char c : bytes) {
    state = next(state, row(state), uint8_t(c));
    if (state == kDead) return false;
  }
  cursors_[cursor] = state;
  return true;
}

bool Automaton::complete(Cursor cursor) {
  const std::lock_guard lock(mutex_);
  return (states_[cursors_[cursor]][0] & kMayEnd) != 0;
}

}  // namespace stamp::grammar

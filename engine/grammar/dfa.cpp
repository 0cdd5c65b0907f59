#include "engine/grammar/dfa.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/grammar/interner.h"
#include "kernels/error.h"

namespace stamp::grammar {
namespace {

constexpr uint32_t kNowhere = UINT32_MAX;

const Dfa::Edge* find_edge(const Dfa::State& state, uint8_t byte) {
  for (const Dfa::Edge& edge : state.edges)
    if (edge.low <= byte && byte <= edge.high) return &edge;
  return nullptr;
}

/// The states that pass `keep`, renumbered in the order of a breadth-first walk from state 0.
Dfa renumber(const Dfa& dfa, const std::vector<bool>& keep) {
  std::vector<uint32_t> order, number(dfa.states.size(), kNowhere);
  const auto visit = [&](uint32_t state) {
    if (!keep[state] || number[state] != kNowhere) return;
    number[state] = uint32_t(order.size());
    order.push_back(state);
  };
  if (!dfa.states.empty()) visit(0);
  for (size_t i = 0; i < order.size(); ++i) {
    for (const auto& edge : dfa.states[order[i]].edges) visit(edge.target);
    for (const auto& call : dfa.states[order[i]].calls) visit(call.target);
  }
  Dfa result;
  for (const uint32_t old : order) {
    Dfa::State state{.accept = dfa.states[old].accept};
    for (Dfa::Edge edge : dfa.states[old].edges) {
      edge.target = number[edge.target];
      if (edge.target == kNowhere) continue;
      if (!state.edges.empty() && state.edges.back().target == edge.target &&
          state.edges.back().high + 1 == edge.low)
        state.edges.back().high = edge.high;
      else state.edges.push_back(edge);
    }
    for (const auto& call : dfa.states[old].calls)
      if (number[call.target] != kNowhere) state.calls.push_back({call.rule, number[call.target]});
    result.states.push_back(std::move(state));
  }
  return result;
}

/// Which states lead to an accepting one.
std::vector<bool> alive(const Dfa& dfa) {
  std::vector<std::vector<uint32_t>> sources(dfa.states.size());
  std::vector<uint32_t> pending;
  std::vector<bool> result(dfa.states.size());
  for (uint32_t s = 0; s < dfa.states.size(); ++s) {
    for (const auto& edge : dfa.states[s].edges) sources[edge.target].push_back(s);
    for (const auto& call : dfa.states[s].calls) sources[call.target].push_back(s);
    if (dfa.states[s].accept) pending.push_back(s), result[s] = true;
  }
  while (!pending.empty()) {
    const uint32_t target = pending.back();
    pending.pop_back();
    for (const uint32_t s : sources[target])
      if (!result[s]) pending.push_back(s), result[s] = true;
  }
  return result;
}

/// Hopcroft's partition refinement: the block of each state. Two states are in one block if the same inputs
/// lead from both to an accepting state.
class Partition {
 public:
  explicit Partition(const Dfa& dfa) : states_(dfa.states.size()) {
    collect_arcs(dfa);
    block_.assign(states_, 0);
    place_.resize(states_);
    members_.resize(states_);
    std::iota(members_.begin(), members_.end(), 0);
    const auto accepting = std::stable_partition(members_.begin(), members_.end(),
                                                 [&](uint32_t s) { return dfa.states[s].accept; });
    for (uint32_t i = 0; i < states_; ++i) place_[members_[i]] = i;
    blocks_.push_back({0, uint32_t(states_), 0});
    if (accepting != members_.begin() && accepting != members_.end())
      split_off(0, uint32_t(accepting - members_.begin()));
    // All states lead somewhere: one without an arc for an input differs from those that have one.
    for (uint32_t input = 0; input < inputs_; ++input) split_by(sources_of_input(input));
    pending_.clear();
    for (uint32_t b = 0; b < blocks_.size(); ++b) pending_.push_back(b);
    waits_.assign(blocks_.size(), true);
    while (!pending_.empty()) {
      const uint32_t splitter = pending_.back();
      pending_.pop_back();
      waits_[splitter] = false;
      refine(splitter);
    }
  }
  uint32_t block(uint32_t state) const { return block_[state]; }
  size_t size() const { return blocks_.size(); }

 private:
  struct Block {
    uint32_t begin, end, marked;  // members_[begin, begin + marked) are marked
  };
  struct Arc {
    uint32_t input, source, target;
  };

  void collect_arcs(const Dfa& dfa) {
    std::vector<bool> begins(257);
    for (const auto& state : dfa.states)
      for (const auto& edge : state.edges) begins[edge.low] = begins[size_t(edge.high) + 1] = true;
    std::vector<uint32_t> input_of(256);
    uint32_t input = 0;
    for (size_t byte = 0; byte < 256; ++byte) input_of[byte] = (input += byte > 0 && begins[byte]);
    std::vector<uint32_t> rules;
    for (const auto& state : dfa.states)
      for (const auto& call : state.calls) rules.push_back(call.rule);
    std::sort(rules.begin(), rules.end());
    rules.erase(std::unique(rules.begin(), rules.end()), rules.end());
    for (uint32_t s = 0; s < states_; ++s) {
      for (const auto& edge : dfa.states[s].edges)
        for (uint32_t i = input_of[edge.low]; i <= input_of[edge.high]; ++i)
          arcs_.push_back({i, s, edge.target});
      for (const auto& call : dfa.states[s].calls) {
        const auto at = std::lower_bound(rules.begin(), rules.end(), call.rule) - rules.begin();
        arcs_.push_back({input + 1 + uint32_t(at), s, call.target});
      }
    }
    inputs_ = input + 1 + uint32_t(rules.size());
    by_input_ = arcs_;
    std::stable_sort(by_input_.begin(), by_input_.end(),
                     [](const Arc& a, const Arc& b) { return a.input < b.input; });
    std::stable_sort(arcs_.begin(), arcs_.end(),
                     [](const Arc& a, const Arc& b) { return a.target < b.target; });
    first_arc_.assign(states_ + 1, 0);
    for (const Arc& arc : arcs_) ++first_arc_[arc.target + 1];
    std::partial_sum(first_arc_.begin(), first_arc_.end(), first_arc_.begin());
  }

  std::vector<uint32_t> sources_of_input(uint32_t input) const {
    const auto [begin, end] = std::equal_range(by_input_.begin(), by_input_.end(), Arc{input, 0, 0},
                                               [](const Arc& a, const Arc& b) { return a.input < b.input; });
    std::vector<uint32_t> sources;
    for (auto arc = begin; arc != end; ++arc) sources.push_back(arc->source);
    return sources;
  }

  /// The block's first `count` members become a new block.
  void split_off(uint32_t b, uint32_t count) {
    const auto fresh = uint32_t(blocks_.size());
    blocks_.push_back({blocks_[b].begin, blocks_[b].begin + count, 0});
    blocks_[b].begin += count;
    for (uint32_t i = blocks_[fresh].begin; i < blocks_[fresh].end; ++i) block_[members_[i]] = fresh;
  }

  void split_by(const std::vector<uint32_t>& sources) {
    std::vector<uint32_t> touched;
    for (const uint32_t s : sources) {
      Block& block = blocks_[block_[s]];
      if (place_[s] < block.begin + block.marked) continue;
      if (block.marked == 0) touched.push_back(block_[s]);
      const uint32_t other = members_[block.begin + block.marked];
      std::swap(members_[place_[s]], members_[block.begin + block.marked]);
      std::swap(place_[s], place_[other]);
      ++block.marked;
    }
    for (const uint32_t b : touched) {
      const uint32_t marked = std::exchange(blocks_[b].marked, 0);
      if (blocks_[b].begin + marked == blocks_[b].end) continue;
      split_off(b, marked);
      const auto fresh = uint32_t(blocks_.size() - 1);
      waits_.resize(blocks_.size());
      const auto size = [&](uint32_t block) { return blocks_[block].end - blocks_[block].begin; };
      const uint32_t splitter = waits_[b] || size(fresh) < size(b) ? fresh : b;
      pending_.push_back(splitter);
      waits_[splitter] = true;
    }
  }

  void refine(uint32_t splitter) {
    std::vector<std::pair<uint32_t, uint32_t>> into;  // input, source
    for (uint32_t i = blocks_[splitter].begin; i < blocks_[splitter].end; ++i) {
      const uint32_t target = members_[i];
      for (size_t a = first_arc_[target]; a < first_arc_[target + 1]; ++a)
        into.emplace_back(arcs_[a].input, arcs_[a].source);
    }
    std::sort(into.begin(), into.end());
    std::vector<uint32_t> sources;
    for (size_t i = 0; i < into.size(); ++i) {
      sources.push_back(into[i].second);
      if (i + 1 < into.size() && into[i + 1].first == into[i].first) continue;
      split_by(sources);
      sources.clear();
    }
  }

  size_t states_;
  uint32_t inputs_ = 0;
  std::vector<Arc> arcs_, by_input_;  // sorted by target, by input
  std::vector<size_t> first_arc_;     // [states + 1] into arcs_
  std::vector<uint32_t> block_, place_, members_;
  std::vector<Block> blocks_;
  std::vector<uint32_t> pending_;  // blocks that may split others
  std::vector<bool> waits_;        // is pending
};

/// Runs both; a pair of states accepts as `accepts` says. States of `b` may be kNowhere.
template <class Accepts>
Dfa product(const Dfa& a, const Dfa& b, bool b_may_end, Accepts&& accepts) {
  Dfa result;
  if (a.states.empty()) return result;
  Interner pairs;
  std::vector<uint32_t> start{0, b.states.empty() ? kNowhere : 0};
  if (start[1] == kNowhere && !b_may_end) return result;
  pairs.intern(start);
  for (uint32_t i = 0; i < pairs.size(); ++i) {
    if (pairs.size() > kMaxStates)
      throw InputError("needs more than " + std::to_string(kMaxStates) + " states: make it simpler");
    const uint32_t in_a = pairs[i][0], in_b = pairs[i][1];
    const Dfa::State& from = a.states[in_a];
    Dfa::State state;
    state.accept = accepts(from.accept, in_b != kNowhere && b.states[in_b].accept);
    for (const Dfa::Edge& edge : from.edges)
      for (int low = edge.low; low <= edge.high;) {
        int high = edge.high;
        uint32_t target = kNowhere;
        if (in_b != kNowhere) {
          for (const Dfa::Edge& other : b.states[in_b].edges) {
            if (other.high < low) continue;
            if (other.low > low) high = std::min<int>(high, other.low - 1);
            else high = std::min<int>(high, other.high), target = other.target;
            break;
          }
        }
        if (target != kNowhere || b_may_end)
          state.edges.push_back({uint8_t(low), uint8_t(high), pairs.intern({{edge.target, target}})});
        low = high + 1;
      }
    result.states.push_back(std::move(state));
  }
  return minimize(std::move(result));
}

}  // namespace

bool Dfa::matches(std::string_view bytes) const {
  if (states.empty()) return false;
  uint32_t state = 0;
  for (const char c : bytes) {
    const Edge* edge = find_edge(states[state], uint8_t(c));
    if (edge == nullptr) return false;
    state = edge->target;
  }
  return states[state].accept;
}

Dfa minimize(Dfa dfa) {
  dfa = renumber(dfa, alive(dfa));
  if (dfa.states.size() < 2) return dfa;
  const Partition partition(dfa);
  std::vector<uint32_t> first(partition.size(), kNowhere);  // the state that stands for the block
  for (uint32_t s = 0; s < dfa.states.size(); ++s)
    if (uint32_t& f = first[partition.block(s)]; f == kNowhere) f = s;
  const auto stand_in = [&](uint32_t state) { return first[partition.block(state)]; };
  for (auto& state : dfa.states) {
    for (auto& edge : state.edges) edge.target = stand_in(edge.target);
    for (auto& call : state.calls) call.target = stand_in(call.target);
  }
  return renumber(dfa, std::vector<bool>(dfa.states.size(), true));
}

Dfa intersect(const Dfa& a, const Dfa& b) {
  return product(a, b, false, [](bool in_a, bool in_b) { return in_a && in_b; });
}

Dfa subtract(const Dfa& a, const Dfa& b) {
  return product(a, b, true, [](bool in_a, bool in_b) { return in_a && !in_b; });
}

}  // namespace stamp::grammar

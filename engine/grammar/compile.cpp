// From an expression to its automaton: Thompson's construction, then subsets.
#include <algorithm>
#include <map>
#include <span>
#include <string>

#include "engine/grammar/expression.h"
#include "engine/grammar/interner.h"
#include "engine/grammar/spelling.h"
#include "kernels/error.h"

namespace stamp::grammar {
namespace {

constexpr size_t kMaxNodes = 400'000;

/// An automaton that may be in many nodes at once.
class Nfa {
 public:
  struct Node {
    std::vector<Dfa::Edge> edges{};
    std::vector<Dfa::Call> calls{};
    std::vector<uint32_t> skips{};  // reached without a byte
  };

  explicit Nfa(const Expression& expression) {
    const uint32_t begin = add_node();
    end_ = add_node();
    add(expression, begin, end_);
  }
  const Node& operator[](uint32_t node) const { return nodes_[node]; }
  size_t size() const { return nodes_.size(); }
  uint32_t end() const { return end_; }

 private:
  uint32_t add_node() {
    if (nodes_.size() >= kMaxNodes)
      throw InputError("needs more than " + std::to_string(kMaxNodes) + " nodes: make the counts smaller");
    nodes_.emplace_back();
    return uint32_t(nodes_.size() - 1);
  }
  void skip(uint32_t from, uint32_t to) { nodes_[from].skips.push_back(to); }

  void add(const Expression& e, uint32_t from, uint32_t to) {
    switch (e.kind) {
      case Expression::Kind::kCharacters:
        return add_characters(e, from, to);
      case Expression::Kind::kGraph: {
        // `from` may be the begin of something else, too: what leads back must not lead there.
        const bool loops = std::ranges::any_of(e.arcs, [](const auto& arc) { return arc.to == 0; });
        std::vector<uint32_t> nodes(e.nodes, from);
        if (loops) skip(from, nodes[0] = add_node());
        for (uint32_t i = 1; i < e.nodes; ++i) nodes[i] = add_node();
        for (const auto& arc : e.arcs) add(arc.label, nodes[arc.from], nodes[arc.to]);
        return skip(nodes.back(), to);
      }
      case Expression::Kind::kRepeat:
        return add_repeat(e, from, to);
      case Expression::Kind::kCall:
        nodes_[from].calls.push_back({e.rule, to});
        return;
      case Expression::Kind::kMachine:
        return add_machine(e.machine.front(), from, to);
    }
  }

  void add_characters(const Expression& e, uint32_t from, uint32_t to) {
    for (const ByteRanges& bytes : spell(e.characters, e.spelling)) {
      uint32_t at = from;
      for (size_t i = 0; i < bytes.size(); ++i) {
        const uint32_t next = i + 1 == bytes.size() ? to : add_node();
        for (const ByteRange& range : bytes[i]) nodes_[at].edges.push_back({range.low, range.high, next});
        at = next;
      }
    }
  }

  void add_repeat(const Expression& e, uint32_t from, uint32_t to) {
    const Expression& part = e.part.front();
    uint32_t at = from;
    const auto step = [&] {
      const uint32_t next = add_node();
      add(part, at, next);
      at = next;
    };
    for (uint32_t i = 0; i < e.least; ++i) step();
    if (e.most == Expression::kNoLimit) {
      const uint32_t loop = add_node();  // of its own, as in a graph
      skip(at, loop);
      const uint32_t back = add_node();
      add(part, loop, back);
      skip(back, loop);
      at = loop;
    } else {
      for (uint32_t i = e.least; i < e.most; ++i) {
        skip(at, to);
        step();
      }
    }
    skip(at, to);
  }

  void add_machine(const Dfa& dfa, uint32_t from, uint32_t to) {
    if (dfa.states.empty()) return;
    std::vector<uint32_t> nodes(dfa.states.size());
    for (uint32_t& node : nodes) node = add_node();
    skip(from, nodes[0]);
    for (size_t s = 0; s < nodes.size(); ++s) {
      for (Dfa::Edge edge : dfa.states[s].edges) {
        edge.target = nodes[edge.target];
        nodes_[nodes[s]].edges.push_back(edge);
      }
      if (dfa.states[s].accept) skip(nodes[s], to);
    }
  }

  std::vector<Node> nodes_;
  uint32_t end_ = 0;
};

/// The subset construction.
class Subsets {
 public:
  Subsets(const Nfa& nfa, Budget& budget) : nfa_(nfa), budget_(budget), seen_(nfa.size()) {
    find_classes();
    targets_.resize(class_begin_.size());
  }

  Dfa run() {
    Dfa dfa;
    intern({0});
    for (uint32_t s = 0; s < sets_.size(); ++s) {
      if (sets_.size() > kMaxStates)
        throw InputError("needs more than " + std::to_string(kMaxStates) + " states: make it simpler");
      dfa.states.push_back(expand(s));
    }
    return minimize(std::move(dfa));
  }

 private:
  /// Bytes that no edge tells apart are one class.
  void find_classes() {
    std::vector<bool> begins(257);
    begins[0] = true;
    for (uint32_t n = 0; n < nfa_.size(); ++n)
      for (const auto& edge : nfa_[n].edges) begins[edge.low] = begins[size_t(edge.high) + 1] = true;
    class_of_.resize(256);
    for (uint32_t byte = 0; byte < 256; ++byte) {
      if (begins[byte]) class_begin_.push_back(byte);
      class_of_[byte] = uint32_t(class_begin_.size() - 1);
    }
  }

  Dfa::State expand(uint32_t set) {
    Dfa::State state;
    const std::vector<uint32_t> nodes(sets_[set].begin(), sets_[set].end());
    std::map<uint32_t, std::vector<uint32_t>> calls;
    for (const uint32_t n : nodes) {
      state.accept = state.accept || n == nfa_.end();
      for (const auto& edge : nfa_[n].edges)
        for (uint32_t c = class_of_[edge.low]; c <= class_of_[edge.high]; ++c)
          targets_[c].push_back(edge.target);
      for (const auto& call : nfa_[n].calls) calls[call.rule].push_back(call.target);
    }
    for (size_t c = 0; c < targets_.size(); ++c) {
      if (targets_[c].empty()) continue;
      const uint32_t low = class_begin_[c],
                     high = c + 1 < class_begin_.size() ? class_begin_[c + 1] - 1 : 255;
      // Neighbours often lead to the same nodes.
      const bool repeats =
          c > 0 && !state.edges.empty() && state.edges.back().high + 1u == low && targets_[c] == last_;
      const uint32_t target = repeats ? state.edges.back().target : intern(targets_[c]);
      if (!repeats) last_ = targets_[c];
      if (!state.edges.empty() && state.edges.back().high + 1u == low && state.edges.back().target == target)
        state.edges.back().high = uint8_t(high);
      else state.edges.push_back({uint8_t(low), uint8_t(high), target});
      targets_[c].clear();
    }
    for (auto& [rule, targets] : calls) state.calls.push_back({rule, intern(targets)});
    return state;
  }

  /// The set of all that can be reached from `nodes` without a byte.
  uint32_t intern(const std::vector<uint32_t>& nodes) {
    std::vector<uint32_t> pending = nodes, reached;
    size_t work = 1;
    ++stamp_;
    const auto visit = [&](uint32_t n) {
      if (seen_[n] == stamp_) return false;
      seen_[n] = stamp_;
      return true;
    };
    std::erase_if(pending, [&](uint32_t n) { return !visit(n); });
    while (!pending.empty()) {
      const uint32_t n = pending.back();
      pending.pop_back();
      if (!nfa_[n].edges.empty() || !nfa_[n].calls.empty() || n == nfa_.end()) reached.push_back(n);
      work += 1 + nfa_[n].edges.size() + nfa_[n].skips.size();
      for (const uint32_t to : nfa_[n].skips)
        if (visit(to)) pending.push_back(to);
    }
    if (work > budget_.work)
      throw InputError("is too complex: make counts or the number of alternatives smaller");
    budget_.work -= work;
    std::sort(reached.begin(), reached.end());
    return sets_.intern(reached);
  }

  const Nfa& nfa_;
  Budget& budget_;
  Interner sets_;
  std::vector<uint32_t> class_begin_, class_of_;  // [classes], [256]
  std::vector<std::vector<uint32_t>> targets_;    // [classes]: scratch, as the next
  std::vector<uint32_t> last_;
  std::vector<uint32_t> seen_;  // [nodes]: the last closure that met it
  uint32_t stamp_ = 0;
};

}  // namespace

Dfa compile(const Expression& expression, Budget& budget) {
  const Nfa nfa(expression);
  Dfa dfa = Subsets(nfa, budget).run();
  if (dfa.states.size() > budget.states)
    throw InputError("is too large: make counts or the number of parts smaller");
  budget.states -= dfa.states.size();
  return dfa;
}

}  // namespace stamp::grammar

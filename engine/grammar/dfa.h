#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace stamp::grammar {

/// A deterministic automaton over bytes, which may call rules: then the text of the rule comes there. Every
/// state is reached from the first and leads to an accepting one; no two are equivalent.
struct Dfa {
  struct Edge {
    uint8_t low, high;  // bytes, both inside
    uint32_t target;
  };
  struct Call {
    uint32_t rule, target;
  };
  struct State {
    std::vector<Edge> edges{};  // in order, disjoint
    std::vector<Call> calls{};  // in order of rules
    bool accept = false;
  };
  std::vector<State> states{};  // the first is where it begins; without one nothing matches

  bool matches(std::string_view bytes) const;  // of one without calls
};

/// What is in both; what is in `a` but not in `b`. Neither may call. Throw InputError above kMaxStates.
Dfa intersect(const Dfa& a, const Dfa& b);
Dfa subtract(const Dfa& a, const Dfa& b);

/// Removes what cannot be reached or leads nowhere, and merges equivalent states.
Dfa minimize(Dfa dfa);

inline constexpr size_t kMaxStates = 20000;

}  // namespace stamp::grammar

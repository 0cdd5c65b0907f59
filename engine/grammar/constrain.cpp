#include "engine/grammar/constrain.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "engine/grammar/automaton.h"
#include "engine/grammar/json_schema.h"
#include "engine/grammar/regex.h"
#include "kernels/error.h"

namespace stamp {
namespace {

using grammar::Automaton;

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

class GrammarConstraint : public TokenConstraint {
 public:
  GrammarConstraint(std::shared_ptr<Automaton> automaton, const TokenVocabulary& vocabulary)
      : automaton_(std::move(automaton)), vocabulary_(vocabulary), cursor_(automaton_->open()) {}
  ~GrammarConstraint() override { automaton_->close(cursor_); }
  GrammarConstraint(const GrammarConstraint& other)
      : automaton_(other.automaton_),
        vocabulary_(other.vocabulary_),
        cursor_(automaton_->copy(other.cursor_)),
        started_(other.started_),
        ended_(other.ended_) {}
  GrammarConstraint& operator=(const GrammarConstraint&) = delete;

  void mask(std::span<float> logits) override {
    const auto end_tokens = vocabulary_.end_tokens();
    std::vector<float> ends;  // the masks of text do not have these
    if (ended_ || automaton_->complete(cursor_))
      for (const int32_t id : end_tokens) ends.push_back(logits[size_t(id)]);
    if (ended_) {
      std::ranges::fill(logits, kImpossible);
    } else {
      automaton_->with_mask(cursor_, !started_, [logits](std::span<const uint64_t> words) {
        for (size_t w = 0; w < words.size(); ++w)
          for (uint64_t out = ~words[w]; out != 0; out &= out - 1)
            if (const size_t id = 64 * w + size_t(std::countr_zero(out)); id < logits.size())
              logits[id] = kImpossible;
        if (64 * words.size() < logits.size())
          std::ranges::fill(logits.subspan(64 * words.size()), kImpossible);
      });
    }
    for (size_t i = 0; i < ends.size(); ++i) logits[size_t(end_tokens[i])] = ends[i];
  }

  void advance(int32_t token) override {
    if (std::ranges::count(vocabulary_.end_tokens(), token) > 0) {
      ended_ = true;
      return;
    }
    const bool known = token >= 0 && token < vocabulary_.size();
    const std::string_view bytes = known ? vocabulary_.bytes(token, !started_) : "";
    if (ended_ || bytes.empty() || !automaton_->advance(cursor_, bytes))
      throw Error("token " + std::to_string(token) + " is not allowed by the constraint");
    started_ = true;
  }

  std::unique_ptr<TokenConstraint> clone() const override {
    return std::make_unique<GrammarConstraint>(*this);
  }

 private:
  // Shared: the clones of one request end in any order, on any thread, and the last one is the last to need
  // it.
  std::shared_ptr<Automaton> automaton_;
  const TokenVocabulary& vocabulary_;
  Automaton::Cursor cursor_;
  bool started_ = false, ended_ = false;
};

}  // namespace

std::unique_ptr<TokenConstraint> constrain_to_grammar(const TokenVocabulary& vocabulary,
                                                      std::string_view what,
                                                      const std::function<grammar::Grammar()>& make) {
  if (vocabulary.end_tokens().empty())
    throw InputError(std::string(what) +
                     ": the model has no end-of-sequence token, so no constraint could end");
  try {
    return std::make_unique<GrammarConstraint>(std::make_shared<Automaton>(make(), vocabulary), vocabulary);
  } catch (const InputError& e) {
    throw InputError(std::string(what) + ": " + e.what());
  }
}

std::unique_ptr<TokenConstraint> constrain_to_regex(const TokenVocabulary& vocabulary,
                                                    std::string_view pattern) {
  return constrain_to_grammar(vocabulary, "regular expression", [&] {
    grammar::Budget budget;
    return grammar::Grammar{compile(grammar::parse_regex(pattern, grammar::RegexMatch::kWhole), budget)};
  });
}

std::unique_ptr<TokenConstraint> constrain_to_json_schema(const TokenVocabulary& vocabulary,
                                                          const nlohmann::ordered_json& schema) {
  return constrain_to_grammar(vocabulary, "JSON schema", [&] { return grammar::grammar_of_schema(schema); });
}

std::unique_ptr<TokenConstraint> constrain_to_json_object(const TokenVocabulary& vocabulary) {
  return constrain_to_json_schema(vocabulary, {{"type", "object"}});
}

}  // namespace stamp

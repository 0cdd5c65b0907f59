#include "engine/grammar/constrain.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <regex>
#include <set>
#include <thread>

#include "engine/grammar/json_schema.h"
#include "kernels/error.h"
#include "tests/models/tiny_sentencepiece.h"
#include "tests/tiny_model.h"

namespace stamp {
namespace {

using Json = nlohmann::ordered_json;

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

/// A vocabulary of a tokenizer.json or tokenizer.model.
struct Vocabulary {
  explicit Vocabulary(const char* file, std::string_view content, int32_t end) : end(end) {
    const TempDir directory;
    write_file(directory / file, content);
    tokenizer = Tokenizer::load(directory.path());
    tokens.emplace(*tokenizer, std::vector<int32_t>{end}, tokenizer->vocab_size());
  }
  operator const TokenVocabulary&() const { return *tokens; }

  int32_t end;
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<TokenVocabulary> tokens;
};

/// Bytes, and words that begin and end within one another.
const Vocabulary& words() {
  static const Vocabulary vocabulary = [] {
    Json json = tiny::tokenizer();
    int32_t id = TinyModel::kVocab;
    for (const char* word : {"ab", "abc", "bca", "cab", "aaaa", "bb", "ccb", "\"}", "\",", "\"a\":", "},{",
                             "]}", "]]}}", "1,\n"})
      json["added_tokens"].push_back({{"id", id++},
                                      {"content", word},
                                      {"single_word", false},
                                      {"lstrip", false},
                                      {"rstrip", false},
                                      {"normalized", false},
                                      {"special", false}});
    return Vocabulary("tokenizer.json", json.dump(), TinyModel::kEos);
  }();
  return vocabulary;
}

std::vector<int32_t> allowed(TokenConstraint& constraint, int64_t vocab) {
  std::vector<float> logits(static_cast<size_t>(vocab));
  constraint.mask(logits);
  std::vector<int32_t> ids;
  for (size_t id = 0; id < logits.size(); ++id)
    if (logits[id] != kImpossible) ids.push_back(int32_t(id));
  return ids;
}

/// All texts over {a, b, c} that match the expression, up to a length.
std::set<std::string> language(const std::string& pattern, size_t longest) {
  const std::regex regex(pattern);
  std::set<std::string> matching;
  std::vector<std::string> texts{""};
  for (size_t i = 0; i < texts.size(); ++i) {
    if (std::regex_match(texts[i], regex)) matching.insert(texts[i]);
    if (texts[i].size() < longest)
      for (const char c : {'a', 'b', 'c'}) texts.push_back(texts[i] + c);
  }
  return matching;
}

/// Follows every sequence of allowed tokens up to a length; each mask must be what the language says.
void expect_exact(TokenConstraint& constraint, const std::string& text, const std::set<std::string>& matching,
                  size_t longest) {
  if (text.size() > longest) return;
  const auto begins_a_match = [&](const std::string& prefix) {
    const auto next = matching.lower_bound(prefix);
    return next != matching.end() && next->starts_with(prefix);
  };
  const std::vector<int32_t> ids = allowed(constraint, words().tokens->size());
  for (int32_t id = 0; id < words().tokens->size(); ++id) {
    const bool may = std::ranges::binary_search(ids, id);
    if (id == words().end) {
      ASSERT_EQ(may, matching.contains(text)) << text;
      continue;
    }
    const std::string token = words().tokenizer->token_bytes(id, text.empty());
    if (text.size() + token.size() > longest) continue;  // the language is only known up to its longest text
    ASSERT_EQ(may, !token.empty() && begins_a_match(text + token)) << text << " + " << token;
    if (!may) continue;
    const auto next = constraint.clone();
    next->advance(id);
    expect_exact(*next, text + token, matching, longest);
  }
}

TEST(ConstrainToRegex, MasksExactlyTheTokensThatCannotBeCompleted) {
  for (const char* pattern : {"(a|a)*b", "(ab|abc)(ca|b)?", "a{2,4}b{0,2}", "(a*b?)*c", "[bc]+a|cab(cab)*",
                              "(a|ab)(c|bcb)(b*)", "((a?b){1,2}|c){2}", "(bb|ccb)+a?", "a?a?a?aaa", ""}) {
    SCOPED_TRACE(pattern);
    const auto constraint = constrain_to_regex(words(), pattern);
    // A prefix of at most 5 characters has a match of at most 9 here.
    std::set<std::string> matching = language(pattern, 9);
    expect_exact(*constraint, "", matching, 5);
  }
}

TEST(ConstrainToRegex, EndsWhereNothingCanFollow) {
  const auto constraint = constrain_to_regex(words(), "ab");
  constraint->advance('a');
  constraint->advance('b');
  EXPECT_THAT(allowed(*constraint, words().tokens->size()), testing::ElementsAre(words().end));
  constraint->advance(words().end);
  EXPECT_THAT(allowed(*constraint, words().tokens->size()), testing::ElementsAre(words().end));
  EXPECT_THROW(constraint->advance('a'), Error);
}

TEST(ConstrainToRegex, LeavesTheLogitsOfAllowedTokensAlone) {
  const auto constraint = constrain_to_regex(words(), "a*");
  std::vector<float> logits(static_cast<size_t>(words().tokens->size()) + 70);  // more than there are tokens
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = float(i);
  constraint->mask(logits);
  for (size_t i = 0; i < logits.size(); ++i) {
    const bool may = i == 'a' || int32_t(i) == words().end ||
                     (i < 300 && words().tokenizer->token_bytes(int32_t(i), false) == "aaaa");
    EXPECT_EQ(logits[i], may ? float(i) : kImpossible) << i;
  }
}

TEST(ConstrainToRegex, AClonesTextsAreItsOwnAlsoInAnotherThread) {
  const auto constraint = constrain_to_json_object(words());
  constraint->advance('{');
  std::vector<std::jthread> threads;
  std::vector<std::string> texts(4);
  for (size_t t = 0; t < texts.size(); ++t)
    threads.emplace_back([&, t, mine = std::shared_ptr(constraint->clone())] {
      std::mt19937 rng(uint32_t(t % 2));  // two pairs of equal ones
      texts[t] = "{";
      for (int i = 0; i < 60; ++i) {
        std::vector<int32_t> ids = allowed(*mine, words().tokens->size());
        std::erase(ids, words().end);
        if (ids.empty()) break;
        const int32_t id = ids[rng() % ids.size()];
        mine->advance(id);
        texts[t] += words().tokenizer->token_bytes(id, false);
      }
    });
  threads.clear();
  EXPECT_EQ(texts[0], texts[2]);
  EXPECT_EQ(texts[1], texts[3]);
  EXPECT_NE(texts[0], texts[1]);
  EXPECT_NO_THROW(constraint->advance('}'));  // still behind the {
}

/// Feeds the text byte by byte.
bool accepts(
    TokenConstraint& constraint, const Vocabulary& vocabulary, std::string_view text,
    const std::function<int32_t(unsigned char)>& id_of = [](unsigned char c) { return int32_t(c); }) {
  const auto mine = constraint.clone();
  for (const char c : text) {
    const int32_t id = id_of(static_cast<unsigned char>(c));
    if (!std::ranges::binary_search(allowed(*mine, vocabulary.tokens->size()), id)) return false;
    mine->advance(id);
  }
  return std::ranges::binary_search(allowed(*mine, vocabulary.tokens->size()), vocabulary.end);
}

TEST(ConstrainToJson, TextsNestUpToALimitAndCanAlwaysBeClosed) {
  const auto constraint = constrain_to_json_schema(words(), {{"type", "array"}});
  std::string open;
  const auto mine = constraint->clone();
  while (std::ranges::binary_search(allowed(*mine, words().tokens->size()), '[')) {
    mine->advance('[');
    ASSERT_LT((open += '[').size(), 100u);
  }
  EXPECT_GE(open.size(), 60u);
  EXPECT_TRUE(accepts(*constraint, words(), open + std::string(open.size(), ']')));
}

TEST(ConstrainToJson, AmbiguousRecursionDoesNotMultiply) {
  // At every level each of the three alternatives fits.
  Json node{{"type", "object"}, {"properties", {{"a", {{"$ref", "#/$defs/any"}}}}}};
  const Json schema{{"$ref", "#/$defs/any"},
                    {"$defs",
                     {{"any",
                       {{"anyOf",
                         {node,
                          {{"type", "object"},
                           {"properties", {{"a", {{"$ref", "#/$defs/any"}}}, {"b", {{"type", "null"}}}}}},
                          {{"type", "object"}}}}}}}}};
  const auto constraint = constrain_to_json_schema(words(), schema);
  std::string text;
  for (int i = 0; i < 25; ++i) text += "{\"a\":";
  EXPECT_TRUE(accepts(*constraint, words(), text + "{}" + std::string(25, '}')));
  EXPECT_FALSE(accepts(*constraint, words(), text + "{}" + std::string(24, '}')));
}

TEST(ConstrainToJson, MasksExactlyTheTokensThatCanBeTaken) {
  const Json list{{"$ref", "#/$defs/list"},
                  {"$defs",
                   {{"list",
                     {{"type", "array"},
                      {"items",
                       {{"anyOf",
                         {{{"$ref", "#/$defs/list"}},
                          {{"type", "string"}, {"maxLength", 3}},
                          {{"type", "integer"}}}}}}}}}}};
  const Json record{
      {"type", "object"},
      {"properties",
       {{"a", {{"type", "string"}}}, {"ab", {{"type", "array"}}}, {"b", {{"type", "object"}}}}}};
  for (const Json& schema : {list, record, Json{{"type", "object"}}}) {
    SCOPED_TRACE(schema.dump());
    for (uint32_t seed = 0; seed < 6; ++seed) {
      const auto constraint = constrain_to_json_schema(words(), schema);
      std::mt19937 rng(seed);
      for (int i = 0; i < 40; ++i) {
        const std::vector<int32_t> ids = allowed(*constraint, words().tokens->size());
        for (int32_t id = 0; id < words().tokens->size(); ++id) {
          if (id == words().end) continue;
          const auto next = constraint->clone();
          bool taken = true;
          try {
            next->advance(id);
          } catch (const Error&) {
            taken = false;
          }
          ASSERT_EQ(std::ranges::binary_search(ids, id), taken) << words().tokenizer->token_bytes(id, false);
        }
        // Words rather than bytes, so that texts nest and end.
        const size_t first =
            rng() % 3 == 0 ? 0 : size_t(std::ranges::lower_bound(ids, TinyModel::kVocab) - ids.begin());
        const size_t count = ids.size() - (first < ids.size() ? first : 0);
        const int32_t id = ids[ids.size() - 1 - rng() % count];
        if (id == words().end) break;
        constraint->advance(id);
      }
    }
  }
}

TEST(ConstrainToJson, TooManyAlternativesThatBeginAlikeAreRefused) {
  Json schema{{"anyOf", Json::array()}, {"$defs", Json::object()}};
  for (int i = 0; i < 200; ++i) {
    const std::string name = "d" + std::to_string(i);
    schema["anyOf"].push_back({{"$ref", "#/$defs/" + name}});
    schema["$defs"][name] = {{"type", "object"}, {"properties", {{name, {{"type", "integer"}}}}}};
  }
  EXPECT_THROW(constrain_to_json_schema(words(), schema), InputError);
  schema["anyOf"].erase(schema["anyOf"].begin() + 100, schema["anyOf"].end());
  EXPECT_TRUE(accepts(*constrain_to_json_schema(words(), schema), words(), "{\"d99\":7}"));
}

TEST(ConstrainToJson, WhiteSpaceEnds) {
  const auto constraint = constrain_to_json_object(words());
  EXPECT_TRUE(accepts(*constraint, words(), "{\n" + std::string(64, ' ') + "}"));
  EXPECT_FALSE(accepts(*constraint, words(), "{\n" + std::string(65, ' ') + "}"));
  EXPECT_FALSE(accepts(*constraint, words(), "{  }"));
  EXPECT_FALSE(accepts(*constraint, words(), "{}\n"));
}

TEST(Automaton, AllowsTheSameTokensHoweverLittleItKeeps) {
  const Json schema{
      {"$ref", "#/$defs/list"},
      {"$defs",
       {{"list",
         {{"type", "array"},
          {"items",
           {{"anyOf", {{{"$ref", "#/$defs/list"}}, {{"type", "object"}}, {{"type", "integer"}}}}}}}}}}};
  const grammar::Grammar rules = grammar::grammar_of_schema(schema);
  constexpr size_t kLittle = size_t{32} << 10;
  grammar::Automaton usual(rules, words()), frugal(rules, words(), kLittle);
  const auto mask = [](grammar::Automaton& automaton, grammar::Automaton::Cursor at) {
    std::vector<uint64_t> copy;
    automaton.with_mask(at, false,
                        [&](std::span<const uint64_t> words) { copy.assign(words.begin(), words.end()); });
    return copy;
  };
  const auto untouched = frugal.open();
  const auto begin = mask(frugal, untouched);
  std::mt19937 rng(5);
  for (int text = 0; text < 30; ++text) {
    const auto cursor = usual.open(), same = frugal.open();
    for (int i = 0; i < 60; ++i) {
      const auto bits = mask(usual, cursor);
      ASSERT_EQ(mask(frugal, same), bits) << text << ", " << i;
      std::vector<std::string_view> tokens;
      for (size_t id = 0; id < 64 * bits.size(); ++id)
        if ((bits[id / 64] >> (id % 64) & 1) != 0)
          tokens.push_back(words().tokens->bytes(int32_t(id), false));
      if (tokens.empty()) break;
      const std::string_view token = tokens[rng() % tokens.size()];
      ASSERT_TRUE(usual.advance(cursor, token));
      ASSERT_TRUE(frugal.advance(same, token));
      ASSERT_EQ(usual.complete(cursor), frugal.complete(same));
    }
    usual.close(cursor);
    frugal.close(same);
  }
  EXPECT_GT(usual.cache_bytes(), 4 * kLittle);
  EXPECT_LT(frugal.cache_bytes(), 3 * kLittle);
  EXPECT_EQ(mask(frugal, untouched), begin);
}

TEST(ConstrainWithSentencePiece, TheFirstTokensSpaceIsNoText) {
  const Vocabulary vocabulary("tokenizer.model", tiny::sentencepiece_model(), 2);
  const auto id = [&](const char* piece) { return *vocabulary.tokenizer->token_to_id(piece); };
  const auto constraint = constrain_to_regex(vocabulary, "(ab| ab)+é");
  const auto first = allowed(*constraint, vocabulary.tokens->size());
  EXPECT_THAT(first, testing::IsSupersetOf({id("▁ab"), id("ab"), id("▁a"), id("a"), id("▁▁"), id("<0x61>")}));
  EXPECT_THAT(first, testing::Not(testing::Contains(id("▁"))));  // as a first token it says nothing
  constraint->advance(id("▁ab"));
  EXPECT_THAT(allowed(*constraint, vocabulary.tokens->size()),
              testing::UnorderedElementsAre(id("▁ab"), id("▁a"), id("▁"), id("ab"), id("a"), id("é"),
                                            id("<0x20>"), id("<0x61>"), id("<0xC3>")));
  constraint->advance(id("<0xC3>"));
  EXPECT_THAT(allowed(*constraint, vocabulary.tokens->size()), testing::ElementsAre(id("<0xA9>")));
}

TEST(ConstrainToRegex, BytesWithoutATokenAreLeftOut) {
  Json json = tiny::tokenizer();
  json["model"]["vocab"].erase("b");
  const Vocabulary vocabulary("tokenizer.json", json.dump(), TinyModel::kEos);
  const auto constraint = constrain_to_regex(vocabulary, "ab|ac|[bc]b?");
  EXPECT_THAT(allowed(*constraint, vocabulary.tokens->size()), testing::ElementsAre('a', 'c'));
  constraint->advance('a');
  EXPECT_THAT(allowed(*constraint, vocabulary.tokens->size()), testing::ElementsAre('c'));
  EXPECT_THROW(constrain_to_regex(vocabulary, "ab"), InputError);
}

}  // namespace
}  // namespace stamp

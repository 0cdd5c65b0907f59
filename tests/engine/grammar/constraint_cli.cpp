// Lets tests/engine/grammar/constrain_parity.py ask constraints: one JSON request a line, one JSON answer a
// line.
// {"regex"|"schema": ...} opens one; {"accept": text} feeds a text's tokens; {"walk": seed, "tokens": n}
// draws a random text of allowed tokens.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <random>
#include <string>

#include "engine/grammar/constrain.h"
#include "kernels/error.h"

using Json = nlohmann::ordered_json;

namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

/// Whether the tokens are allowed one after the other and may end there; else how many are.
Json accept(stamp::TokenConstraint& constraint, const std::vector<int32_t>& tokens, int32_t end,
            size_t vocab) {
  std::vector<float> logits(vocab);
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::ranges::fill(logits, 0.0f);
    constraint.mask(logits);
    if (logits[size_t(tokens[i])] == kImpossible) return {{"accepted", false}, {"tokens", i}};
    constraint.advance(tokens[i]);
  }
  std::ranges::fill(logits, 0.0f);
  constraint.mask(logits);
  return {{"accepted", logits[size_t(end)] != kImpossible}, {"tokens", tokens.size()}};
}

/// A random text. Behind `most` tokens only what leads to the end soon is drawn: the shortest way is not
/// known, so short tokens that close something go first.
Json walk(stamp::TokenConstraint& constraint, const stamp::Tokenizer& tokenizer, int32_t end, size_t vocab,
          uint64_t seed, size_t most) {
  std::mt19937_64 rng(seed);
  std::vector<float> logits(vocab);
  std::vector<int32_t> tokens;
  double slowest = 0;
  while (tokens.size() < 4 * most) {
    std::ranges::fill(logits, 0.0f);
    const auto begin = std::chrono::steady_clock::now();
    constraint.mask(logits);
    slowest =
        std::max(slowest, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    std::vector<int32_t> allowed;
    for (size_t id = 0; id < vocab; ++id)
      if (logits[id] != kImpossible && int32_t(id) != end) allowed.push_back(int32_t(id));
    if (logits[size_t(end)] != kImpossible && (allowed.empty() || tokens.size() >= most || rng() % 4 == 0)) {
      return {{"text", tokenizer.decode(tokens, true)}, {"tokens", tokens.size()}, {"slowest", slowest}};
    }
    if (allowed.empty()) return {{"stuck", tokenizer.decode(tokens, true)}};
    int32_t token = allowed[rng() % allowed.size()];
    // Closing what is open, or anything short: random tokens alone would fill strings for ever.
    for (const char* closer : {"}", "]", "\"", "\"}", "\"]", "."})
      if (const auto id = tokenizer.token_to_id(closer);
          id && logits[size_t(*id)] != kImpossible && (tokens.size() >= most || rng() % 8 == 0)) {
        token = *id;
        break;
      }
    tokens.push_back(token);
    constraint.advance(token);
  }
  return {{"unfinished", tokenizer.decode(tokens, true)}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const auto tokenizer = stamp::Tokenizer::load(argv[1]);
  const auto end = tokenizer->token_to_id(argv[2]);
  if (!end) return 2;
  const auto vocab = size_t(tokenizer->vocab_size());
  const stamp::TokenVocabulary vocabulary(*tokenizer, {*end}, int64_t(vocab));
  std::unique_ptr<stamp::TokenConstraint> constraint;
  for (std::string line; std::getline(std::cin, line);) {
    const Json request = Json::parse(line);
    Json answer;
    try {
      if (request.contains("regex")) {
        constraint = constrain_to_regex(vocabulary, request["regex"].get<std::string>());
        answer["ok"] = true;
      } else if (request.contains("schema")) {
        constraint = constrain_to_json_schema(vocabulary, request["schema"]);
        answer["ok"] = true;
      } else if (request.contains("accept")) {
        const auto tokens = tokenizer->encode(request["accept"].get<std::string>(),
                                              {.add_special = false, .parse_special = false});
        answer = accept(*constraint->clone(), tokens, *end, vocab);
      } else {
        answer = walk(*constraint->clone(), *tokenizer, *end, vocab, request["walk"], request["tokens"]);
      }
    } catch (const stamp::InputError& e) {
      answer["error"] = e.what();
    }
    std::cout << answer.dump(-1, ' ', false, Json::error_handler_t::replace) << std::endl;
  }
}

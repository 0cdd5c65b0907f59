// Time of constraints with a real vocabulary: STAMP_SMOLLM2_DIR=DIR constraint_bench
#include <benchmark/benchmark.h>

#include <cstdlib>

#include "engine/grammar/constrain.h"
#include "kernels/error.h"

namespace {

using Json = nlohmann::ordered_json;

const stamp::Tokenizer& tokenizer() {
  static const auto instance = [] {
    const char* directory = std::getenv("STAMP_SMOLLM2_DIR");
    if (directory == nullptr) throw stamp::InputError("STAMP_SMOLLM2_DIR is not set");
    return stamp::Tokenizer::load(directory);
  }();
  return *instance;
}
const stamp::TokenVocabulary& vocabulary() {
  static const stamp::TokenVocabulary instance(tokenizer(), {2}, tokenizer().vocab_size());
  return instance;
}

Json schema() {
  return {{"type", "object"},
          {"properties",
           {{"name", {{"type", "string"}}},
            {"city", {{"type", "string"}, {"maxLength", 40}}},
            {"age", {{"type", "integer"}, {"minimum", 0}, {"maximum", 150}}},
            {"tags", {{"type", "array"}, {"items", {{"type", "string"}}}}}}},
          {"required", {"name", "city", "age", "tags"}}};
}

std::unique_ptr<stamp::TokenConstraint> behind(std::string_view text) {
  auto constraint = stamp::constrain_to_json_schema(vocabulary(), schema());
  for (const int32_t token : tokenizer().encode(text, {.add_special = false, .parse_special = false}))
    constraint->advance(token);
  return constraint;
}

void BM_Vocabulary(benchmark::State& state) {
  for (auto _ : state) stamp::TokenVocabulary(tokenizer(), {2}, tokenizer().vocab_size());
}
void BM_CompileSchema(benchmark::State& state) {
  for (auto _ : state) stamp::constrain_to_json_schema(vocabulary(), schema());
}
/// In a string: most tokens may follow.
void BM_FirstMask(benchmark::State& state) {
  std::vector<float> logits(static_cast<size_t>(vocabulary().size()));
  for (auto _ : state) {
    state.PauseTiming();
    const auto constraint = behind("{\"name\": \"Bo");
    state.ResumeTiming();
    constraint->mask(logits);
  }
}
void BM_KnownMask(benchmark::State& state) {
  std::vector<float> logits(static_cast<size_t>(vocabulary().size()));
  const auto constraint = behind("{\"name\": \"Bo");
  for (auto _ : state) constraint->mask(logits);
}
/// A whole text, with a mask before each token.
void BM_Text(benchmark::State& state) {
  std::vector<float> logits(static_cast<size_t>(vocabulary().size()));
  const std::string text =
      R"({"name": "Ada Lovelace", "city": "London", "age": 36, "tags": ["mathematics", "engines"]})";
  const auto tokens = tokenizer().encode(text, {.add_special = false, .parse_special = false});
  const auto fresh = stamp::constrain_to_json_schema(vocabulary(), schema());
  for (auto _ : state) {
    const auto constraint = fresh->clone();
    for (const int32_t token : tokens) {
      constraint->mask(logits);
      constraint->advance(token);
    }
  }
  state.counters["tokens"] = double(tokens.size());
}

BENCHMARK(BM_Vocabulary)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_CompileSchema)->Unit(benchmark::kMicrosecond);
BENCHMARK(BM_FirstMask)->Unit(benchmark::kMicrosecond)->Iterations(50);
BENCHMARK(BM_KnownMask)->Unit(benchmark::kMicrosecond);
BENCHMARK(BM_Text)->Unit(benchmark::kMicrosecond);

}  // namespace

#include "models/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <random>
#include <thread>

#include "kernels/error.h"
#include "models/utf8.h"
#include "tests/models/malformed_tokenizer.h"
#include "tests/tiny_model.h"

namespace stamp {
namespace {

using testing::ElementsAre;
using Json = nlohmann::ordered_json;

/// A tokenizer.json of bytes as tokens; see tests/tiny_model.h. `change` makes it the one under test.
std::unique_ptr<Tokenizer> load(const std::function<void(Json&)>& change) {
  Json json = tiny::tokenizer();
  change(json);
  const TempDir directory;
  write_file(directory / "tokenizer.json", json.dump());
  return Tokenizer::load(directory.path());
}

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text, bool parse_special = true) {
  return tokenizer.encode(text, {.add_special = false, .parse_special = parse_special});
}

Json added_token(std::string content, Json fields = Json::object()) {
  Json token{{"id", 0},         {"content", std::move(content)}, {"single_word", false}, {"lstrip", false},
             {"rstrip", false}, {"normalized", false},           {"special", false}};
  token.merge_patch(fields);
  return token;
}

/// Merges that double runs of 'a' up to 16 of them, and no splitting before.
void double_runs(Json& json) {
  int id = 261;
  for (std::string run = "a"; run.size() < 16; run += run) {
    json["model"]["merges"].push_back(run + " " + run);
    json["model"]["vocab"][run + run] = id++;
  }
  json["pre_tokenizer"]["use_regex"] = false;
}

/// Llama 2's: spaces are ▁, what is no token becomes bytes.
void byte_fallback(Json& json) {
  Json vocab;
  int id = 0;
  constexpr std::string_view kHex = "0123456789ABCDEF";
  for (int b = 0; b < 256; ++b)
    vocab[std::string("<0x") + kHex[size_t(b) >> 4] + kHex[size_t(b) & 15] + ">"] = id++;
  for (const char* token : {"▁", "a", "b", "▁a", "é"}) vocab[token] = id++;
  json["added_tokens"] = Json::array();
  json["post_processor"] = nullptr;
  json["normalizer"] =
      Json::parse(R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})");
  json["pre_tokenizer"] = nullptr;
  json["decoder"] = Json::parse(R"({"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
      {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})");
  json["model"]["vocab"] = vocab;
  json["model"]["merges"] = {"▁ a"};
  json["model"]["byte_fallback"] = true;
}

std::vector<std::string> stream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                                bool skip_special) {
  StreamDecoder decoder(tokenizer, skip_special);
  std::vector<std::string> pieces;
  for (const int32_t id : ids) pieces.push_back(decoder.push(id));
  pieces.push_back(decoder.finish());
  return pieces;
}

/// Any ids: the pieces are whole characters, and together they are what decode() says.
void expect_streams(const Tokenizer& tokenizer) {
  std::mt19937 rng(20260101);
  for (int i = 0; i < 2000; ++i) {
    std::vector<int32_t> ids(rng() % 12);
    for (int32_t& id : ids) id = int32_t(rng() % uint64_t(tokenizer.vocab_size() + 2)) - 1;
    const bool skip_special = rng() % 2 == 0;
    std::string all;
    for (const std::string& piece : stream(tokenizer, ids, skip_special)) {
      ASSERT_TRUE(is_valid_utf8(piece));
      all += piece;
    }
    ASSERT_EQ(all, tokenizer.decode(ids, skip_special)) << testing::PrintToString(ids);
  }
}

TEST(StreamDecoder, HoldsACharacterBackUntilItIsWhole) {
  const auto tokenizer = load([](Json&) {});
  const std::string text = "aé😀";
  EXPECT_THAT(stream(*tokenizer, encode(*tokenizer, text), true),
              ElementsAre("a", "", "é", "", "", "", "😀", ""));
  // Bytes that become no character are U+FFFD as soon as that is certain.
  EXPECT_THAT(stream(*tokenizer, {0xf0, 0x9f, 'a', 0xe2, 0x82}, true),
              ElementsAre("", "", "\ufffda", "", "", "\ufffd"));
  expect_streams(*tokenizer);
}

TEST(StreamDecoder, HoldsARunOfByteTokensBackUntilItEnds) {
  const auto tokenizer = load(byte_fallback);
  const int32_t space = 256, a = 257;
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{space, 0xe4, 0xbd, 0xa0, a}, true), "你a");
  EXPECT_THAT(stream(*tokenizer, {space, 0xe4, 0xbd, 0xa0, a, space}, true),
              ElementsAre("", "", "", "", "你a", " ", ""));
  // A run that is not text as a whole is U+FFFD throughout, so nothing of it may be shown before its end.
  EXPECT_THAT(stream(*tokenizer, {a, 0x41, 0xff}, true), ElementsAre("a", "", "", "\ufffd\ufffd"));
  expect_streams(*tokenizer);
}

TEST(StreamDecoder, KnowsTheFirstTokenAndTheLastOfEveryDecoder) {
  for (
      const char* decoder : {
          R"(null)",
          R"({"type": "Fuse"})",
          R"({"type": "Metaspace", "replacement": "a", "prepend_scheme": "always"})",
          R"({"type": "Metaspace", "replacement": "a", "prepend_scheme": "never"})",
          R"({"type": "Sequence", "decoders": [{"type": "ByteLevel"}, {"type": "Strip", "content": "a", "start": 2, "stop": 3}]})",
          R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Replace", "pattern": {"String": "ab"}, "content": "c"}]})",
          R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteLevel"}]})",
      }) {
    SCOPED_TRACE(decoder);
    const auto tokenizer = load([&](Json& json) {
      Json vocab;
      int id = 0;
      for (const char* token : {"a", "b", "aa", "aab", "ba", "Ã", "©", "ð", "Ł", "é", "日"})
        vocab[token] = id++;
      json["model"]["vocab"] = vocab;
      json["added_tokens"] = Json::array({added_token("<s>", {{"special", true}})});
      json["post_processor"] = nullptr;
      json["decoder"] = Json::parse(decoder);
    });
    expect_streams(*tokenizer);
  }
}

TEST(Tokenizer, TimeIsLinearInLength) {
  const auto processor_seconds = [] {  // of this thread: others may use the machine, too
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
  };
  const auto seconds = [&](const Tokenizer& tokenizer, const std::string& text) {
    double best = 1e9;
    for (int i = 0; i < 3; ++i) {
      const double start = processor_seconds();
      EXPECT_FALSE(encode(tokenizer, text).empty());
      best = std::min(best, processor_seconds() - start);
    }
    return best;
  };
  const auto repeat = [](std::string_view part, size_t bytes) {
    std::string text;
    while (text.size() < bytes) text += part;
    return text;
  };
  const auto check = [&](const char* what, const std::function<void(Json&)>& change, std::string_view part) {
    const auto tokenizer = load(change);
    // Midway between 16, and what caches that hold one text alone add, and the 256 of a square.
    const double one = seconds(*tokenizer, repeat(part, 62'500)),
                 sixteen = seconds(*tokenizer, repeat(part, 1'000'000));
    EXPECT_LT(sixteen, 64 * one + 0.02) << what << ": " << one << " s, 16 times the text " << sixteen << " s";
  };
  check("one word", double_runs, "a");
  check(
      "white space before tokens",
      [](Json& json) {
        json["added_tokens"].push_back(added_token("<x>", {{"lstrip", true}, {"rstrip", true}}));
      },
      "      <x>");
  check(
      "white space as tokens",
      [](Json& json) {
        json["added_tokens"].push_back(added_token("\n", {{"lstrip", true}, {"rstrip", true}}));
      },
      "\n");
  check(
      "nothing but white space",
      [](Json& json) {
        json["added_tokens"].push_back(added_token("<x>", {{"lstrip", true}}));
      },
      " \t");
  check(
      "marks out of order",
      [](Json& json) {
        json["normalizer"] = {{"type", "NFC"}};
      },
      "\u0301\u0323");
  check("byte fallback", byte_fallback, "ü ");
}

TEST(Tokenizer, EncodesOnSeveralThreadsAtOnce) {
  const auto tokenizer = load(double_runs);
  std::vector<std::string> texts;
  for (size_t i = 0; i < 64; ++i) texts.push_back(std::string(i * 7, 'a') + "b" + std::string(i, 'a'));
  std::vector<std::vector<int32_t>> expected;
  for (const std::string& text : texts) expected.push_back(encode(*tokenizer, text));
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int& count : wrong)
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round)
        for (size_t i = 0; i < texts.size(); ++i)
          count += encode(*tokenizer, texts[i]) != expected[i] ? 1 : 0;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(wrong, ElementsAre(0, 0, 0, 0));
}

TEST(Tokenizer, MergesByRankThenFromTheLeft) {
  const auto tokenizer = load([](Json& json) {
    json["model"]["merges"] = {"b c", "a b", "bc d", "a bc"};
    for (int id = 261; const char* token : {"bc", "ab", "bcd", "abc"}) json["model"]["vocab"][token] = id++;
  });
  EXPECT_THAT(encode(*tokenizer, "abcd"), ElementsAre('a', 263));
  EXPECT_THAT(encode(*tokenizer, "abc"), ElementsAre(264));
  EXPECT_THAT(encode(*tokenizer, "abab"), ElementsAre(262, 262));
  EXPECT_THAT(encode(*tokenizer, "bbcc"), ElementsAre('b', 261, 'c'));
}

TEST(Tokenizer, IgnoreMergesTakesAWholeWordAsItIs) {
  const auto change = [](bool ignore) {
    return [ignore](Json& json) {
      json["model"]["vocab"]["xyz"] = 261;
      json["model"]["ignore_merges"] = ignore;
    };
  };
  EXPECT_THAT(encode(*load(change(true)), "xyz"), ElementsAre(261));
  EXPECT_THAT(encode(*load(change(false)), "xyz"), ElementsAre('x', 'y', 'z'));
}

TEST(Tokenizer, AddedTokensTakeSpacesAndRespectWords) {
  const auto tokenizer = load([](Json& json) {
    json["added_tokens"] = {added_token("<l>", {{"lstrip", true}}), added_token("<r>", {{"rstrip", true}}),
                            added_token("word", {{"single_word", true}}), added_token("<ab"),
                            added_token("<ab>c")};
  });
  const auto id = [&](const char* token) { return tokenizer->token_to_id(token).value(); };
  EXPECT_THAT(encode(*tokenizer, "a \t<l> b"), ElementsAre('a', id("<l>"), ' ', 'b'));
  EXPECT_THAT(encode(*tokenizer, "a <r> \n\u3000b"), ElementsAre('a', ' ', id("<r>"), 'b'));
  EXPECT_THAT(encode(*tokenizer, "<r>  <l>"), ElementsAre(id("<r>"), id("<l>")));
  EXPECT_THAT(encode(*tokenizer, "word-word"), ElementsAre(id("word"), '-', id("word")));
  EXPECT_THAT(encode(*tokenizer, "words"), ElementsAre('w', 'o', 'r', 'd', 's'));
  EXPECT_THAT(encode(*tokenizer, "éword"), ElementsAre(0xc3, 0xa9, 'w', 'o', 'r', 'd'));
  EXPECT_THAT(encode(*tokenizer, "<ab>c<ab>"), ElementsAre(id("<ab>c"), id("<ab"), '>'));  // the longest
}

TEST(Tokenizer, SpecialTokensInTheTextAreTextUnlessAskedFor) {
  const auto tokenizer = load([](Json& json) { json["added_tokens"].push_back(added_token("<tool>")); });
  EXPECT_THAT(encode(*tokenizer, "<s>a"), ElementsAre(TinyModel::kBos, 'a'));
  EXPECT_THAT(encode(*tokenizer, "<s>a", false), ElementsAre('<', 's', '>', 'a'));
  EXPECT_THAT(encode(*tokenizer, "<tool>", false),
              ElementsAre(tokenizer->token_to_id("<tool>").value()));  // not special
  EXPECT_THAT(tokenizer->encode("a", {}), ElementsAre(TinyModel::kBos, 'a'));
  EXPECT_TRUE(tokenizer->is_special(TinyModel::kBos));
  EXPECT_FALSE(tokenizer->is_special('a'));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{TinyModel::kBos, 'a'}, true), "a");
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{TinyModel::kBos, 'a', 99999, -1}, false), "<s>a");
}

TEST(Tokenizer, BytesThatAreNoTextCountAsReplacementCharacters) {
  const auto tokenizer = load([](Json&) {});
  EXPECT_EQ(encode(*tokenizer, "a\xf0\x9f\x98z\xff"), encode(*tokenizer, "a\ufffdz\ufffd"));
}

TEST(Tokenizer, AnUnknownCharacterNeedsItsTokenOnlyWhenItComes) {
  const auto tokenizer = load([](Json& json) {
    json["model"]["unk_token"] = "<nothing>";
    json["pre_tokenizer"] = nullptr;
  });
  EXPECT_THAT(encode(*tokenizer, "ab"), ElementsAre('a', 'b'));
  EXPECT_THROW(encode(*tokenizer, "日"), InputError);
}

TEST(Tokenizer, ComponentsThatBlowTheTextUpAreStopped) {
  const auto tokenizer = load([](Json& json) {
    Json steps = Json::array();
    for (int i = 0; i < 40; ++i)
      steps.push_back({{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aaaaaaaa"}});
    json["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
  });
  EXPECT_THROW(encode(*tokenizer, "a"), InputError);
}

TEST(Tokenizer, TheFileIsTheJsonIfThereAreBoth) {
  const TempDir directory;
  EXPECT_THROW(tokenizer_file(directory.path()), InputError);
  write_file(directory / "tokenizer.model", tiny::sentencepiece_model());
  EXPECT_EQ(tokenizer_file(directory.path()), directory / "tokenizer.model");
  write_file(directory / "tokenizer.json", tiny::tokenizer().dump());
  EXPECT_EQ(tokenizer_file(directory.path()), directory / "tokenizer.json");
}

// Expected ids are those of transformers 4.53.3, LlamaTokenizer (the slow one) on the same files.
constexpr const char* kAdded = R"("added_tokens_decoder": {"273": {"content": "<pad>", "special": true},
    "274": {"content": "<sep>", "lstrip": true, "rstrip": true}})";

std::unique_ptr<Tokenizer> load_model(const std::string& config) {
  const TempDir directory;
  write_file(directory / "tokenizer.model", tiny::sentencepiece_model());
  if (!config.empty()) write_file(directory / "tokenizer_config.json", config);
  return Tokenizer::load(directory.path());
}

TEST(SentencePiece, EncodesAsLlamaTokenizer) {
  const std::string added = kAdded;
  const auto check = [](const std::string& config,
                        const std::vector<std::pair<const char*, std::vector<int32_t>>>& texts) {
    SCOPED_TRACE(config);
    const auto tokenizer = load_model(config);
    for (const auto& [text, ids] : texts) EXPECT_EQ(encode(*tokenizer, text), ids) << text;
  };
  check("", {{"ab", {261}},
             {"<s>ab", {1, 260}},
             {"<s> ab", {1, 261}},
             {"", {}},
             {" ", {262}},
             {"<unk>a", {0, 264}}});
  check("{" + added + R"(, "legacy": false})", {{"ab</s>ab </s> ab", {261, 2, 260, 263, 2, 261}},
                                                {"  ab", {262, 261}},
                                                {"a<pad>b", {259, 273, 265}},
                                                {"x <sep> y", {263, 123, 274, 124}},
                                                {"<pad> <sep> <pad>", {263, 273, 274, 273}}});
  check("{" + added + R"(, "legacy": true})",
        {{"<s>ab", {1, 261}}, {"a <pad> b", {259, 263, 273, 262, 265}}});
  check("{" + added + R"(, "add_prefix_space": false})",
        {{"ab", {260}}, {"a <pad> b", {264, 263, 273, 263, 265}}});
}

TEST(SentencePiece, PutsBosAndEosAroundTheText) {
  EXPECT_THAT(load_model("")->encode("ab", {}), ElementsAre(1, 261));
  EXPECT_THAT(load_model(R"({"add_bos_token": false, "add_eos_token": true})")->encode("ab", {}),
              ElementsAre(261, 2));
  EXPECT_THAT(load_model(R"({"bos_token": {"content": "</s>"}})")->encode("", {}), ElementsAre(2));
}

TEST(SentencePiece, DecodesAsTheLibrary) {
  const auto tokenizer = load_model("");
  EXPECT_EQ(tokenizer->vocab_size(), tiny::kFirstWord + int64_t(tiny::sentencepiece_words().size()));
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{1, 261, 259, 2}, true), "ab a");
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{261, 0, 264}, true), "ab \u2047 a");
  EXPECT_EQ(tokenizer->decode(std::vector<int32_t>{1, 261}, false), "<s> ab");
  EXPECT_THAT(stream(*tokenizer, {261, 3 + 0xc3, 3 + 0xa9, 3 + 0xe2, 3 + 0x82, 264}, true),
              ElementsAre("ab", "", "é", "", "", "\ufffd\ufffda", ""));
  EXPECT_FALSE(tokenizer->is_special(0));
  EXPECT_TRUE(tokenizer->is_special(1));
  expect_streams(*tokenizer);
}

/// Bytes of tokens in a row are the decoded text, for texts and for what no text encodes to.
void expect_bytes(const Tokenizer& tokenizer, uint32_t seed) {
  std::mt19937 rng(seed);
  for (int i = 0; i < 300; ++i) {
    std::vector<int32_t> ids;
    for (size_t n = rng() % 6; ids.size() <= n;)
      ids.push_back(int32_t(rng() % size_t(tokenizer.vocab_size())));
    if (i % 2 == 0) ids = encode(tokenizer, " ab a\u00e9\u65e5 \U0001F600cd  b", false);
    std::string text;
    bool first = true;
    for (const int32_t id : ids) {
      text += tokenizer.token_bytes(id, first);
      first = first && tokenizer.token_bytes(id, false).empty();
    }
    if (!is_valid_utf8(text)) continue;
    EXPECT_EQ(text, tokenizer.decode(ids, true)) << testing::PrintToString(ids);
  }
  EXPECT_EQ(tokenizer.token_bytes(-1, true), "");
  EXPECT_EQ(tokenizer.token_bytes(int32_t(tokenizer.vocab_size()), false), "");
}

TEST(TokenBytes, AreTheDecodedText) {
  expect_bytes(*load([](Json&) {}), 1);
  const auto with_added = load([](Json& json) {
    json["added_tokens"].push_back(added_token("<call>"));
    json["added_tokens"].back()["id"] = 258;
  });
  EXPECT_EQ(with_added->token_bytes(*with_added->token_to_id("<call>"), false), "<call>");
  EXPECT_EQ(with_added->token_bytes('a', true), "a");
  EXPECT_EQ(with_added->token_bytes(0xe9, true), "\xe9");
  const auto pieces = load_model("");
  expect_bytes(*pieces, 2);
  EXPECT_EQ(pieces->token_bytes(1, false), "");  // <s>
  EXPECT_EQ(pieces->token_bytes(261, false), " ab");
  EXPECT_EQ(pieces->token_bytes(261, true), "ab");
  EXPECT_EQ(pieces->token_bytes(262, true), " ");  // two spaces
  EXPECT_EQ(pieces->token_bytes(3 + 0xc3, true), "\xc3");
}

TEST(TokenBytes, OfLlamasTokenizerJsonLeaveOutTheFirstSpace) {
  const auto tokenizer = load([](Json& json) {
    for (const char* word : {"\u2581ab", "\u2581", "<0xC3>", "<0xA9>", "<0x20>"})
      json["model"]["vocab"][word] = json["model"]["vocab"].size() + 2;
    json["decoder"] = {{"type", "Sequence"},
                       {"decoders",
                        {{{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
                         {{"type", "ByteFallback"}},
                         {{"type", "Fuse"}},
                         {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}};
  });
  const auto bytes = [&](const char* token, bool first) {
    return tokenizer->token_bytes(*tokenizer->token_to_id(token), first);
  };
  EXPECT_EQ(bytes("\u2581ab", true), "ab");
  EXPECT_EQ(bytes("\u2581ab", false), " ab");
  EXPECT_EQ(bytes("\u2581", true), "");
  EXPECT_EQ(bytes("<0x20>", true), "");
  EXPECT_EQ(bytes("<0x20>", false), " ");
  EXPECT_EQ(bytes("<0xC3>", true) + bytes("<0xA9>", false), "\u00e9");
}

class MalformedTokenizer : public testing::TestWithParam<malformed::Case> {};

TEST_P(MalformedTokenizer, IsRefusedWithATellingMessage) {
  const malformed::Case& c = GetParam();
  const TempDir directory;
  write_file(directory / "tokenizer.json", tiny::tokenizer().dump());
  c.damage(directory.path());
  try {
    Tokenizer::load(directory.path());
    FAIL() << "was accepted";
  } catch (const InputError& e) {
    const std::string message = e.what();
    EXPECT_THAT(message, testing::StartsWith((directory / c.file).string() + ": "));
    EXPECT_THAT(message, testing::HasSubstr(c.word));
    EXPECT_TRUE(std::none_of(message.begin(), message.end(), [](unsigned char x) { return x < 0x20; }))
        << message;
  }
}

std::string case_name(const testing::TestParamInfo<malformed::Case>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(Json, MalformedTokenizer, testing::ValuesIn(malformed::tokenizer_json_cases()),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Model, MalformedTokenizer, testing::ValuesIn(malformed::tokenizer_model_cases()),
                         case_name);

}  // namespace
}  // namespace stamp

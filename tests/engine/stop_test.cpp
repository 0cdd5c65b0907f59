#include "engine/stop.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "kernels/error.h"

namespace stamp {
namespace {

struct Outcome {
  std::string text;
  bool stopped = false;
  bool operator==(const Outcome&) const = default;
};

Outcome match(std::vector<std::string> stops, const std::vector<std::string>& pieces) {
  StopMatcher matcher(std::move(stops));
  Outcome outcome;
  for (const std::string& piece : pieces) outcome.text += matcher.push(piece);
  outcome.stopped = matcher.stopped();
  outcome.text += matcher.finish();
  return outcome;
}

/// The definition, letter by letter: the text ends where the first stop string to be complete begins.
Outcome definition(const std::vector<std::string>& stops, const std::string& text) {
  for (size_t end = 1; end <= text.size(); ++end) {
    size_t longest = 0;
    for (const std::string& stop : stops)
      if (text.substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
    if (longest > 0) return {text.substr(0, end - longest), true};
  }
  return {text, false};
}

TEST(StopMatcher, FindsAStopStringThatSpansPieces) {
  EXPECT_EQ(match({"\n\nUser:"}, {"An answer.\n", "\nUs", "er", ": more"}), (Outcome{"An answer.", true}));
  EXPECT_EQ(match({"\n\nUser:"}, {"An answer.\n", "\nUs", "ed"}), (Outcome{"An answer.\n\nUsed", false}));
  EXPECT_EQ(match({"é", "日本"}, {"caf", "é"}), (Outcome{"caf", true}));
  EXPECT_EQ(match({"日本"}, {"日", "曜日", "日", "本"}), (Outcome{"日曜日", true}));
  EXPECT_EQ(match({}, {"a", "b"}), (Outcome{"ab", false}));
  EXPECT_EQ(match({"x"}, {"x"}), (Outcome{"", true}));
}

TEST(StopMatcher, HoldsBackNoMoreThanWhatMayBeginAStopString) {
  StopMatcher matcher({"aab", "zz"});
  EXPECT_EQ(matcher.push("xyz"), "xy");
  EXPECT_EQ(matcher.push("a"), "z");
  EXPECT_EQ(matcher.push("a"), "");
  EXPECT_EQ(matcher.push("a"), "a");
  EXPECT_EQ(matcher.push("c"), "aac");
  EXPECT_EQ(matcher.finish(), "");
  EXPECT_EQ(matcher.push("za"), "z");
  EXPECT_EQ(matcher.finish(), "a");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcher, SaysNothingAfterAMatch) {
  StopMatcher matcher({"end"});
  EXPECT_EQ(matcher.push("the end of"), "the ");
  EXPECT_TRUE(matcher.stopped());
  EXPECT_EQ(matcher.push("all"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, TheStopStringCompleteFirstEndsTheText) {
  EXPECT_EQ(match({"abcd", "c"}, {"abcd"}), (Outcome{"ab", true}));
  EXPECT_EQ(match({"abcd", "c"}, {"abc", "d"}), (Outcome{"ab", true}));
  EXPECT_EQ(match({"c", "bc"}, {"abc"}), (Outcome{"a", true}));  // the longest of those that end together
}

/// Two letters and short strings make every overlap there is; each text is cut in every way.
TEST(StopMatcher, IsItsDefinitionHoweverTheTextIsCut) {
  std::mt19937 rng(1);
  const auto word = [&](size_t least, size_t most) {
    std::string text;
    for (size_t n = least + rng() % (most - least + 1); n > 0; --n) text += char('a' + rng() % 2);
    return text;
  };
  int stopped = 0;
  for (int round = 0; round < 400; ++round) {
    std::vector<std::string> stops;
    for (size_t n = 1 + rng() % 3; n > 0; --n) stops.push_back(word(2, 5));
    const std::string text = word(0, 9);
    const Outcome truth = definition(stops, text);
    stopped += truth.stopped ? 1 : 0;
    for (unsigned cuts = 0; cuts < (1u << (text.empty() ? 0 : text.size() - 1)); ++cuts) {
      std::vector<std::string> pieces{""};
      for (size_t i = 0; i < text.size(); ++i) {
        pieces.back() += text[i];
        if (cuts >> i & 1) pieces.emplace_back();
      }
      ASSERT_EQ(match(stops, pieces), truth) << text << " cut by " << cuts;
    }
  }
  EXPECT_GT(stopped, 100);
  EXPECT_LT(stopped, 350);
}

TEST(StopMatcher, RefusesAnEmptyStopString) { EXPECT_THROW(StopMatcher({"x", ""}), InputError); }

}  // namespace
}  // namespace stamp

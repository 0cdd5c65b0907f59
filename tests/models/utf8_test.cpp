#include "models/utf8.h"

#include <gtest/gtest.h>

#include <iterator>
#include <random>
#include <vector>

namespace stamp {
namespace {

using namespace std::string_literals;

TEST(Utf8, EveryMaximalPartThatIsNoCharacterIsOneReplacement) {
  // The examples of Unicode 15, tables 3-8 to 3-11.
  EXPECT_EQ(to_valid_utf8("\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41"),
            "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdA");
  EXPECT_EQ(to_valid_utf8("\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41"),
            "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdA");
  EXPECT_EQ(to_valid_utf8("\xf4\x91\x92\x93\xff\x41\x80\xbf\x42"),
            "\ufffd\ufffd\ufffd\ufffd\ufffdA\ufffd\ufffdB");
  EXPECT_EQ(to_valid_utf8("\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41"), "\ufffd\ufffd\ufffd\ufffdA");
  EXPECT_EQ(to_valid_utf8("a\0é\U0010ffff"s), "a\0é\U0010ffff"s);
}

TEST(Utf8, EveryCodePointComesBack) {
  std::string text;
  std::vector<char32_t> expected;
  for (char32_t c = 0; c <= 0x10ffff; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    append_utf8(text, c);
    expected.push_back(c);
  }
  EXPECT_TRUE(is_valid_utf8(text));
  std::vector<char32_t> seen;
  for (size_t at = 0; at < text.size();) seen.push_back(next_code_point(text, at));
  EXPECT_EQ(seen, expected);
}

TEST(Utf8, AnIncompleteTailMayBecomeACharacterAndNothingElseMay) {
  for (const char* whole : {"a", "é", "日", "😀"}) {
    const std::string text = whole;
    EXPECT_EQ(incomplete_tail("x" + text), 1 + text.size());
    for (size_t bytes = 1; bytes < text.size(); ++bytes)
      EXPECT_EQ(incomplete_tail("x" + text.substr(0, bytes)), 1u);
  }
  for (const char* broken :
       {"\x80", "\xc0", "\xf5", "\xe0\x80", "\xed\xa0", "\xf4\x90", "\xf0\x80", "\xff\xbf"})
    EXPECT_EQ(incomplete_tail(broken), std::string_view(broken).size());
}

TEST(Utf8, TextInPartsCutAtTailsIsTheTextInOne) {
  std::mt19937 rng(20260101);
  constexpr unsigned char kBytes[] = {0x41, 0x80, 0xbf, 0xc2, 0xe0, 0xa0, 0xed,
                                      0x9f, 0xef, 0xf0, 0x90, 0xf4, 0x8f, 0xff};
  for (int i = 0; i < 20000; ++i) {
    std::string bytes, tail, text;
    for (size_t size = rng() % 10; size > 0; --size) {
      const char byte = char(kBytes[rng() % std::size(kBytes)]);
      bytes += byte;
      tail += byte;
      const size_t complete = incomplete_tail(tail);
      text += to_valid_utf8(std::string_view(tail).substr(0, complete));
      tail.erase(0, complete);
    }
    ASSERT_EQ(text + to_valid_utf8(tail), to_valid_utf8(bytes));
  }
}

TEST(Utf8, WhiteSpaceIsFoundFromBothSides) {
  const std::string text = "a \u3000\u00a0b\u200b ";
  EXPECT_EQ(skip_white_space(text, 1), text.find('b'));
  EXPECT_EQ(skip_white_space(text, 0), 0u);
  EXPECT_EQ(trim_end(text, text.find('b')), 1u);
  EXPECT_EQ(trim_end(text, text.size()), text.size() - 1);  // U+200B is no white space
  EXPECT_EQ(trim_end(" \t", 2), 0u);
  EXPECT_EQ(previous_character(text, text.find('b')), text.find("\u00a0"));
}

}  // namespace
}  // namespace stamp

#include "tools/serve/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "models/json.h"

namespace stamp {
namespace {

TEST(ChatPage, IsTheFileAsItIs) {
  EXPECT_EQ(chat_page(),
            read_file(std::filesystem::path(STAMP_SOURCE_DIR) / "tools/serve/page.html", 1 << 20));
}

TEST(ChatPage, LoadsNothingFromElsewhereAndNeedsNoInlineAttributes) {
  const std::string page(chat_page());
  EXPECT_FALSE(std::regex_search(page, std::regex(R"((src|href)="(?!#|data:))")));
  EXPECT_FALSE(std::regex_search(page, std::regex(R"(<[^>]*\s(style|on[a-z]+)=)")));
  EXPECT_FALSE(std::regex_search(
      page, std::regex(R"(innerHTML|insertAdjacentHTML|outerHTML|document\.write|eval\()")));
}

TEST(ChatPage, ItsPolicyNamesItsOwnStyleAndScriptOnly) {
  const std::string page(chat_page()), policy = content_security_policy();
  for (const std::string element : {"<style>", "</style>", "<script>", "</script>"}) {
    const size_t at = page.find(element);  // once: its hash is that of all there is
    ASSERT_NE(at, std::string::npos);
    EXPECT_EQ(page.find(element, at + 1), std::string::npos) << element;
  }
  EXPECT_THAT(policy, testing::MatchesRegex(
                          "default-src 'none'; script-src 'sha256-[A-Za-z0-9+/]+=*'; style-src "
                          "'sha256-[A-Za-z0-9+/]+=*'; connect-src 'self'; .*frame-ancestors 'none'"));
}

}  // namespace
}  // namespace stamp

#include "models/tokenizers/vocabulary.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace stamp {
namespace {

/// Texts of a few letters, so that many begin alike, in an order that is not that of their ids.
TEST(Vocabulary, FindsEveryTokenByTextAndById) {
  std::mt19937 rng(20261127);
  for (const size_t count : {size_t{0}, size_t{1}, size_t{2}, size_t{100}, size_t{5000}}) {
    std::map<std::string, int32_t> ids;
    std::map<int32_t, std::string> texts;
    Vocabulary vocabulary(count);
    while (ids.size() < count) {
      std::string text(rng() % 12, 'a');
      for (char& c : text) c = "ab\0"[rng() % 3];
      const auto id = int32_t(rng() % (3 * count));
      if (ids.contains(text)) continue;
      ASSERT_EQ(vocabulary.add(text, id), !texts.contains(id));
      if (texts.emplace(id, text).second) ids[text] = id;
    }
    EXPECT_EQ(vocabulary.size(), count);
    EXPECT_EQ(vocabulary.end(), texts.empty() ? 0 : texts.rbegin()->first + 1);
    for (int32_t id = -1; id <= vocabulary.end(); ++id) {
      ASSERT_EQ(vocabulary.has(id), texts.contains(id)) << id;
      if (texts.contains(id)) {
        ASSERT_EQ(vocabulary.text(id), texts[id]);
      }
    }
    for (int i = 0; i < 1000; ++i) {
      std::string text(rng() % 12, 'a');
      for (char& c : text) c = "ab\0"[rng() % 3];
      ASSERT_EQ(vocabulary.find(text), ids.contains(text) ? ids[text] : kNoToken) << text;
    }
    for (const auto& [text, id] : ids) ASSERT_EQ(vocabulary.find(text), id) << text;
  }
  EXPECT_EQ(Vocabulary().find(""), kNoToken);
}

}  // namespace
}  // namespace stamp

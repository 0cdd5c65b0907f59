#include "models/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/temp_dir.h"

namespace stamp {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const InputError& e) {
    return e.what();
  }
  return "no InputError";
}

TEST(Json, ValuesComeOutAsNlohmannReadsThem) {
  for (const char* text :
       {"null", "true", "-0", "12345678901234567890", "-9223372036854775808", "1e-3", "\"\"", "[]", "{}",
        R"({"a": [1, 2.5, {"b": null}], "c": {"d": [[], [false]]}, "": "empty key"})",
        R"(["\u00e9\ud83d\ude00\n\"\\\/", "é😀", "\u0000"])", " \t\r\n [ 1 , 2 ] \n"}) {
    EXPECT_EQ(parse_json(text, "f"), json::parse(text)) << text;
  }
}

TEST(Json, SixtyFourLevelsAreTheLimit) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + "1" + std::string(depth, ']'); };
  EXPECT_NO_THROW(parse_json(nested(64), "f"));
  EXPECT_THROW(parse_json(nested(65), "f"), InputError);
  std::string objects = "1";
  for (int i = 0; i < 64; ++i) objects = "{\"k\": " + objects + "}";
  EXPECT_NO_THROW(parse_json(objects, "f"));
  EXPECT_THROW(parse_json("[" + objects + "]", "f"), InputError);
  // Depth is not length: siblings do not count.
  std::string wide = "[";
  for (int i = 0; i < 1000; ++i) wide += "[[1]],";
  EXPECT_NO_THROW(parse_json(wide + "1]", "f"));
}

TEST(Json, TheSameKeyMayAppearInDifferentObjects) {
  EXPECT_NO_THROW(parse_json(R"({"a": {"a": [{"a": 1}, {"a": 2}]}})", "f"));
  EXPECT_THAT(message_of([] { parse_json(R"({"a": 1, "b": {"c": 1, "c": 2}})", "dir/x.json"); }),
              testing::StrEq("dir/x.json: duplicate key \"c\""));
}

TEST(Json, ErrorsNameTheFileAndThePlace) {
  EXPECT_EQ(message_of([] { parse_json("[1, 2, x]", "dir/x.json"); }),
            "dir/x.json: not valid JSON near byte 8");
}

TEST(Json, FilesHaveALimit) {
  const TempDir dir;
  const auto file = dir / "x.json";
  write_file(file, "[1, 2, 3]");
  EXPECT_EQ(read_json_file(file, 9), json({1, 2, 3}));
  EXPECT_THAT(message_of([&] { read_json_file(file, 8); }),
              HasSubstr(file.string() + ": has 9 bytes, more than the limit of 8"));
  EXPECT_EQ(read_file(file, 9), "[1, 2, 3]");
  const std::string bytes("\0\xff\r\n", 4);
  write_file(file, bytes);
  EXPECT_EQ(read_file(file, 100), bytes);
}

TEST(Json, FieldsAreReadByTypeAndRange) {
  const json object = json::parse(
      R"({"n": 5, "x": 2.5, "whole": 3.0, "b": true, "s": "text", "none": null, "one": 7, "many": [1, 2],
                                      "negative": -3})");
  const JsonFields fields(object, "f.json", "part.");
  EXPECT_EQ(fields.integer("n", 5, 5), 5);
  EXPECT_EQ(fields.integer("negative", -3, 0), -3);
  EXPECT_EQ(fields.integer("absent", 0, 1), std::nullopt);
  EXPECT_EQ(fields.integer("none", 0, 1), std::nullopt);
  EXPECT_EQ(fields.number("n", 0, 10), 5.0);
  EXPECT_EQ(fields.number("x", 2.5, 2.5), 2.5);
  EXPECT_EQ(fields.boolean("b"), true);
  EXPECT_EQ(fields.string("s"), "text");
  EXPECT_EQ(fields.boolean("none"), std::nullopt);
  EXPECT_FALSE(fields.has("none"));
  EXPECT_TRUE(fields.has("s"));
  EXPECT_THAT(fields.ids("one", 10), ElementsAre(7));
  EXPECT_THAT(fields.ids("many", 2), ElementsAre(1, 2));
  EXPECT_TRUE(fields.ids("absent", 2).empty());

  const auto error = [&](const std::function<void()>& read) { return message_of(read); };
  EXPECT_EQ(error([&] { fields.integer("n", 6, 9); }), "f.json: part.n is 5, must be between 6 and 9");
  EXPECT_EQ(error([&] { fields.integer("whole", 0, 9); }), "f.json: part.whole must be a whole number");
  EXPECT_EQ(error([&] { fields.integer("b", 0, 9); }), "f.json: part.b must be a whole number");
  EXPECT_EQ(error([&] { fields.required_integer("none", 0, 9); }), "f.json: part.none is missing");
  EXPECT_EQ(error([&] { fields.required_number("absent", 0, 9); }), "f.json: part.absent is missing");
  EXPECT_EQ(error([&] { fields.number("x", 0, 2); }), "f.json: part.x is 2.5, out of range");
  EXPECT_EQ(error([&] { fields.number("s", 0, 2); }), "f.json: part.s must be a number");
  EXPECT_EQ(error([&] { fields.boolean("n"); }), "f.json: part.n must be true or false");
  EXPECT_EQ(error([&] { fields.string("n"); }), "f.json: part.n must be a string");
  EXPECT_EQ(error([&] { fields.ids("many", 1); }), "f.json: part.many must be token ids between 0 and 1");
  EXPECT_EQ(error([&] { fields.ids("negative", 9); }),
            "f.json: part.negative must be token ids between 0 and 9");
  EXPECT_EQ(error([] { JsonFields(json::array(), "f.json"); }), "f.json: the file is not a JSON object");
  EXPECT_EQ(error([] { JsonFields(json(1), "f.json", "part."); }), "f.json: part is not a JSON object");
}

TEST(Json, MessagesStayOnOneLineAndHarmless) {
  EXPECT_EQ(printable("tab\t, line\n, escape\x1b, delete\x7f, é, \"quoted\""),
            "tab\\u0009, line\\u000a, escape\\u001b, delete\\u007f, é, \"quoted\"");
}

}  // namespace
}  // namespace stamp

#include "models/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/temp_dir.h"

namespace stamp {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;
using Json = nlohmann::ordered_json;

ChatTemplate::Inputs one_user(const char* text = "hi") {
  ChatTemplate::Inputs inputs;
  inputs.messages.push_back({{"role", "user"}, {"content", text}});
  return inputs;
}

std::string render(const TempDir& dir, const ChatTemplate::Inputs& inputs = one_user()) {
  const auto loaded = ChatTemplate::load(dir.path());
  return loaded ? loaded->render(inputs) : "no template";
}

std::string error_of(const TempDir& dir, const ChatTemplate::Inputs& inputs = one_user()) {
  try {
    return "rendered: " + render(dir, inputs);
  } catch (const InputError& e) {
    return e.what();
  }
}

void write_config(const TempDir& dir, const Json& config) {
  write_file(dir / "tokenizer_config.json", config.dump());
}

TEST(ChatTemplate, AModelMayHaveNone) {
  const TempDir dir;
  EXPECT_FALSE(ChatTemplate::load(dir.path()));
  write_config(dir, {{"bos_token", "<s>"}, {"chat_template", nullptr}});
  EXPECT_FALSE(ChatTemplate::load(dir.path()));
}

TEST(ChatTemplate, FromTokenizerConfig) {
  const TempDir dir;
  write_config(dir, {{"chat_template",
                      "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if "
                      "add_generation_prompt %}<assistant>{% endif %}"}});
  EXPECT_EQ(render(dir), "<user>hi<assistant>");
  auto inputs = one_user();
  inputs.add_generation_prompt = false;
  EXPECT_EQ(render(dir, inputs), "<user>hi");
}

TEST(ChatTemplate, NamedTemplatesAreChosenByTools) {
  const TempDir dir;
  const Json named = {{{"name", "default"}, {"template", "plain"}},
                      {{"name", "tool_use"}, {"template", "tools: {{ tools|length }}"}}};
  write_config(dir, {{"chat_template", named}});
  auto inputs = one_user();
  EXPECT_EQ(render(dir, inputs), "plain");
  inputs.tools = Json::array({{{"type", "function"}}});
  EXPECT_EQ(render(dir, inputs), "tools: 1");
  inputs.tools = Json::array();  // an empty list counts as tools, as in transformers
  EXPECT_EQ(render(dir, inputs), "tools: 0");
  write_config(dir, {{"chat_template", Json::array({{{"name", "rag"}, {"template", "x"}}})}});
  EXPECT_THAT(error_of(dir), EndsWith("has several templates but none named \"default\""));
}

TEST(ChatTemplate, FilesComeBeforeTheConfiguration) {
  const TempDir dir;
  write_file(dir / "chat_template.json", R"({"chat_template": "processor"})");
  EXPECT_EQ(render(dir), "processor");
  write_config(dir, {{"chat_template", "configuration"}});
  EXPECT_EQ(render(dir), "configuration");
  write_file(dir / "chat_template.jinja", "file\n");
  EXPECT_EQ(render(dir), "file");
  std::filesystem::create_directory(dir / "chat_templates");
  write_file(dir.path() / "chat_templates" / "tool_use.jinja", "tools");
  auto inputs = one_user();
  EXPECT_EQ(render(dir, inputs), "file");
  inputs.tools = Json::array();
  EXPECT_EQ(render(dir, inputs), "tools");
}

TEST(ChatTemplate, SpecialTokens) {
  const TempDir dir;
  const char* echo =
      "{{ bos_token }}|{{ eos_token }}|{{ pad_token is defined }}|{{ unk_token }}|{{ image_token }}";
  write_config(dir, {{"chat_template", echo},
                     {"bos_token", "<s>"},
                     {"eos_token", {{"__type", "AddedToken"}, {"content", "</s>"}}},
                     {"pad_token", nullptr},
                     {"image_token", "<img>"},
                     {"add_bos_token", true}});
  EXPECT_EQ(render(dir), "<s>|</s>|False||<img>");
  // The older file is read, and wins, unless the configuration lists its tokens.
  write_file(dir / "special_tokens_map.json",
             R"({"bos_token": "<other>", "unk_token": {"content": "<unk>", "lstrip": false}})");
  EXPECT_EQ(render(dir), "<other>|</s>|False|<unk>|<img>");
  write_config(dir, {{"chat_template", echo},
                     {"bos_token", "<s>"},
                     {"added_tokens_decoder", Json::object({{"0", {{"content", "<s>"}}}})}});
  EXPECT_EQ(render(dir), "<s>||False||");
}

TEST(ChatTemplate, ExtraVariablesWin) {
  const TempDir dir;
  write_config(dir, {{"bos_token", "<s>"},
                     {"chat_template", "{{ bos_token }}{{ enable_thinking }}{{ documents }}{{ tools }}"}});
  EXPECT_EQ(render(dir), "<s>NoneNone");
  auto inputs = one_user();
  inputs.extra = {
      {"bos_token", "B"}, {"enable_thinking", false}, {"documents", Json::array({{{"text", "t"}}})}};
  EXPECT_EQ(render(dir, inputs), "BFalse[{'text': 't'}]None");
}

TEST(ChatTemplate, MessagesAreAsTransformersPreparesThem) {
  const TempDir dir;
  write_config(dir, {{"chat_template", "{{ messages|tojson }}"}});
  ChatTemplate::Inputs inputs;
  inputs.messages = Json::parse(
      R"([{"role": "user", "content": null, "name": "n"}, {"role": "assistant", "reasoning": "r", "content": "c"}])");
  EXPECT_EQ(
      render(dir, inputs),
      R"([{"role": "user", "name": "n"}, {"thinking": "r", "role": "assistant", "reasoning": "r", "content": "c", "reasoning_content": "r"}])");
}

TEST(ChatTemplate, TheClockCanBeGiven) {
  const TempDir dir;
  setenv("TZ", "UTC", 1);
  tzset();
  write_config(dir, {{"chat_template", "{{ strftime_now('%d %b %Y') }}"}});
  auto inputs = one_user();
  inputs.now = std::chrono::system_clock::time_point(std::chrono::hours(24 * 365));
  EXPECT_EQ(render(dir, inputs), "01 Jan 1971");
  inputs.now.reset();
  EXPECT_THAT(render(dir, inputs), HasSubstr(" 20"));
}

TEST(ChatTemplate, ErrorsOfTheTemplateComeWhenItIsUsed) {
  const TempDir dir;
  write_config(dir, {{"chat_template", "line\n{% if %}"}});
  const auto loaded = ChatTemplate::load(dir.path());
  ASSERT_TRUE(loaded);
  EXPECT_EQ(error_of(dir),
            (dir / "tokenizer_config.json").string() +
                ": chat_template: line 2: Expected an expression, got 'end of statement block'");
  write_config(dir, {{"chat_template", "{{ raise_exception('No system message, please') }}"}});
  EXPECT_THAT(error_of(dir),
              EndsWith("tokenizer_config.json: chat_template: line 1: No system message, please"));
  write_file(dir / "chat_template.jinja", "\n\n{{ x.y }}");
  EXPECT_EQ(error_of(dir), (dir / "chat_template.jinja").string() + ": line 3: 'x' is undefined");
}

TEST(ChatTemplate, MessagesAreChecked) {
  const TempDir dir;
  write_config(dir, {{"chat_template", "x"}});
  ChatTemplate::Inputs inputs;
  EXPECT_EQ(error_of(dir, inputs), "messages: must be a list of at least one message");
  inputs.messages = Json::array({"hi"});
  EXPECT_EQ(error_of(dir, inputs), "messages: each message must be an object");
  inputs.messages = "hi";
  EXPECT_EQ(error_of(dir, inputs), "messages: must be a list of at least one message");
  inputs = one_user();
  inputs.extra = {{"n", uint64_t{1} << 63}};
  EXPECT_THAT(error_of(dir, inputs), EndsWith("line 1: the number 9223372036854775808 does not fit 64 bits"));
}

TEST(ChatTemplate, MalformedFilesAreNamed) {
  struct Case {
    const char *file, *text, *error;
  };
  const Case cases[] = {
      {"tokenizer_config.json", "{", ": not valid JSON near byte 2"},
      {"tokenizer_config.json", "[]", ": the file is not a JSON object"},
      {"tokenizer_config.json", R"({"chat_template": 5})",
       ": chat_template must be a string or a list of {name, template}"},
      {"tokenizer_config.json", R"({"chat_template": ["x"]})",
       ": chat_template has an entry that is not {name, template} with two strings"},
      {"tokenizer_config.json", R"({"chat_template": [{"name": "default"}]})",
       ": chat_template has an entry that is not {name, template} with two strings"},
      {"tokenizer_config.json", R"({"bos_token": 5})",
       ": bos_token must be a string or an object with a string \"content\""},
      {"tokenizer_config.json", R"({"eos_token": {"content": 1}})",
       ": eos_token must be a string or an object with a string \"content\""},
      {"special_tokens_map.json", R"({"pad_token": []})",
       ": pad_token must be a string or an object with a string \"content\""},
      {"special_tokens_map.json", "null", ": the file is not a JSON object"},
      {"chat_template.json", R"({"chat_template": {}})",
       ": chat_template must be a string or a list of {name, template}"},
  };
  for (const Case& c : cases) {
    const TempDir dir;
    write_file(dir / c.file, c.text);
    EXPECT_EQ(error_of(dir), (dir / c.file).string() + c.error) << c.text;
  }
  const TempDir dir;
  write_file(dir / "chat_template.jinja", std::string((4 << 20) + 1, 'x'));
  EXPECT_EQ(error_of(dir),
            (dir / "chat_template.jinja").string() + ": has 4194305 bytes, more than the limit of 4194304");
}

}  // namespace
}  // namespace stamp

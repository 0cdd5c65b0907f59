#include "tools/serve/answers.h"

namespace stamp {
namespace {

using Json = nlohmann::ordered_json;

class ChatAnswer : public Answer {
 public:
  ChatAnswer(const Prepared& prepared, const ServedModel& model, const std::string& id)
      : Answer(prepared, model, id) {
    if (!prepared.tool_form) return;
    for (size_t i = 0; i < prepared.sequences(); ++i)
      parsers_.emplace_back(*prepared.tool_form, prepared.tool_names, prepared.sampling.seed + i);
  }

 protected:
  void add_chunks(size_t sequence, const GenerateEvent& event, Choice& choice,
                  std::vector<Json>& chunks) override {
    const auto add = [&](Json delta, Json logprobs, const char* finish) {
      chunks.push_back(chat_delta(int64_t(sequence), std::move(delta), std::move(logprobs), finish));
    };
    if (!choice.started) add({{"role", "assistant"}, {"content", ""}}, nullptr, nullptr);
    const size_t before = made(sequence);
    ToolCallParser::Piece piece = read(sequence, event.text, event.finish.has_value());
    Json logprobs = logprobs_of(event.logprobs);
    if (!piece.content.empty() || (!logprobs.is_null() && !event.tokens.empty()))
      add({{"content", std::move(piece.content)}}, std::move(logprobs), nullptr);
    Json calls = calls_of(piece, before);
    for (Json& call : calls) add({{"tool_calls", Json::array({std::move(call)})}}, nullptr, nullptr);
    if (choice.finish != nullptr) add(Json::object(), nullptr, finish_of(sequence, choice));
  }

  Json choice_object(size_t sequence, int64_t index, Choice& choice) override {
    ToolCallParser::Piece piece = read(sequence, choice.text, true);
    Json message = {{"role", "assistant"}, {"content", std::move(piece.content)}, {"refusal", nullptr}};
    Json calls = calls_of(piece, 0);
    for (Json& call : calls) call.erase("index");
    if (!calls.empty()) {
      if (message["content"] == "") message["content"] = nullptr;
      message["tool_calls"] = std::move(calls);
    }
    return chat_choice(index, std::move(message), logprobs_of(choice.logprobs), finish_of(sequence, choice));
  }

  Json object(Json choices, bool chunk) const override {
    return chat_object(head_, chunk, std::move(choices));
  }

 private:
  /// Takes the calls out of the text, where the model may make any.
  ToolCallParser::Piece read(size_t sequence, const std::string& text, bool last) {
    if (parsers_.empty()) return {.content = text};
    ToolCallParser::Piece piece = parsers_[sequence].push(text);
    if (!last) return piece;
    ToolCallParser::Piece rest = parsers_[sequence].finish();
    piece.content += rest.content;
    for (ToolCall& call : rest.calls) piece.calls.push_back(std::move(call));
    return piece;
  }

  size_t made(size_t sequence) const { return parsers_.empty() ? 0 : parsers_[sequence].calls(); }

  /// `index`: calls of the choice before these.
  Json calls_of(ToolCallParser::Piece& piece, size_t index) const {
    Json calls = Json::array();
    for (ToolCall& call : piece.calls) {
      if (index > 0 && !prepared_.parallel_tool_calls) break;
      calls.push_back(
          {{"index", index++},
           {"id", std::move(call.id)},
           {"type", "function"},
           {"function", {{"name", std::move(call.name)}, {"arguments", std::move(call.arguments)}}}});
    }
    return calls;
  }

  const char* finish_of(size_t sequence, const Choice& choice) const {
    return made(sequence) > 0 && std::string_view(choice.finish) == "stop" ? "tool_calls" : choice.finish;
  }

  Json logprobs_of(const std::vector<TokenLogprob>& logprobs) const {
    return prepared_.params.top_logprobs < 0 ? Json() : chat_logprobs(logprobs, model_.tokenizer());
  }

  std::vector<ToolCallParser> parsers_;  // of each sequence; empty: no calls
};

}  // namespace

std::unique_ptr<Answer> chat_answer(const Prepared& prepared, const ServedModel& model,
                                    const std::string& id) {
  return std::make_unique<ChatAnswer>(prepared, model, "chatcmpl-" + id);
}

}  // namespace stamp

#include "tools/serve/answers.h"

namespace stamp {
namespace {

using Json = nlohmann::ordered_json;

class ChatAnswer : public Answer {
 public:
  using Answer::Answer;

 protected:
  void add_chunks(size_t sequence, const GenerateEvent& event, Choice& choice,
                  std::vector<Json>& chunks) override {
    const auto index = int64_t(sequence);
    if (!choice.started)
      chunks.push_back(chat_delta(index, {{"role", "assistant"}, {"content", ""}}, nullptr, nullptr));
    Json logprobs = logprobs_of(event.logprobs);
    if (!event.text.empty() || (!logprobs.is_null() && !event.tokens.empty()))
      chunks.push_back(chat_delta(index, {{"content", event.text}}, std::move(logprobs), nullptr));
    if (choice.finish != nullptr) chunks.push_back(chat_delta(index, Json::object(), nullptr, choice.finish));
  }

  Json choice_object(size_t, int64_t index, Choice& choice) override {
    Json message = {{"role", "assistant"}, {"content", choice.text}, {"refusal", nullptr}};
    return chat_choice(index, std::move(message), logprobs_of(choice.logprobs), choice.finish);
  }

  Json object(Json choices, bool chunk) const override {
    return chat_object(head_, chunk, std::move(choices));
  }

 private:
  Json logprobs_of(const std::vector<TokenLogprob>& logprobs) const {
    return prepared_.params.top_logprobs < 0 ? Json() : chat_logprobs(logprobs, model_.tokenizer());
  }
};

}  // namespace

std::unique_ptr<Answer> chat_answer(const Prepared& prepared, const ServedModel& model,
                                    const std::string& id) {
  return std::make_unique<ChatAnswer>(prepared, model, "chatcmpl-" + id);
}

}  // namespace stamp

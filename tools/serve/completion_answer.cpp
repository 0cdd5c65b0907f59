#include <optional>

#include "tools/serve/answers.h"

namespace stamp {
namespace {

using Json = nlohmann::ordered_json;

class CompletionAnswer : public Answer {
 public:
  CompletionAnswer(const Prepared& prepared, const ServedModel& model, const std::string& id)
      : Answer(prepared, model, id),
        lists_(prepared.sequences(), CompletionLogprobs(model.tokenizer(), prepared.params.top_logprobs)) {}

 protected:
  void add_chunks(size_t sequence, const GenerateEvent& event, Choice& choice,
                  std::vector<Json>& chunks) override {
    const std::string text = (choice.started ? "" : echo(sequence)) + event.text;
    Json logprobs = logprobs_of(sequence, !choice.started, event.prompt_logprobs, event.logprobs);
    if (text.empty() && event.tokens.empty() && choice.finish == nullptr) return;
    chunks.push_back(completion_choice(int64_t(sequence), text, std::move(logprobs), choice.finish));
  }

  Json choice_object(size_t sequence, int64_t index, Choice& choice) override {
    return completion_choice(index, echo(sequence) + choice.text,
                             logprobs_of(sequence, true, choice.prompt_logprobs, choice.logprobs),
                             choice.finish);
  }

  Json object(Json choices, bool) const override { return completion_object(head_, std::move(choices)); }

 private:
  size_t prompt_of(size_t sequence) const { return sequence / size_t(prepared_.per_prompt); }

  std::string echo(size_t sequence) const {
    return prepared_.echo.empty() ? std::string() : prepared_.echo[prompt_of(sequence)];
  }

  Json logprobs_of(size_t sequence, bool first, const std::vector<TokenLogprob>& prompt,
                   const std::vector<TokenLogprob>& generated) {
    if (prepared_.params.top_logprobs < 0) return nullptr;
    CompletionLogprobs& lists = lists_[sequence];
    if (first && !prepared_.echo.empty()) lists.push_first(prepared_.prompts[prompt_of(sequence)].front());
    lists.push(prompt);
    lists.push(generated);
    return lists.take();
  }

  std::vector<CompletionLogprobs> lists_;
};

}  // namespace

std::unique_ptr<Answer> completion_answer(const Prepared& prepared, const ServedModel& model,
                                          const std::string& id) {
  return std::make_unique<CompletionAnswer>(prepared, model, "cmpl-" + id);
}

}  // namespace stamp

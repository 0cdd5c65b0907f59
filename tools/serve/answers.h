#pragma once
#include <memory>
#include <string>
#include <vector>

#include "tools/serve/prepared.h"
#include "tools/serve/responses.h"

namespace stamp {

/// Puts the events of an answer's sequences into the wire format: chunk by chunk, or as a whole at the end.
class Answer {
 public:
  /// Both arguments must outlive this.
  Answer(const Prepared& prepared, const ServedModel& model, const std::string& id);
  virtual ~Answer() = default;

  /// `sequence`: index in the order of Prepared::make().
  void push(size_t sequence, const GenerateEvent& event);
  /// What there is to send since the last time.
  std::vector<nlohmann::ordered_json> take_chunks();
  /// When all sequences have ended.
  nlohmann::ordered_json whole();
  /// The chunk that tells the usage, with no choices.
  nlohmann::ordered_json usage_chunk() const;
  const Usage& usage() const { return usage_; }

 protected:
  struct Choice {
    bool started = false;
    std::string text{};
    double logprob = 0;  // summed over the tokens
    int64_t tokens = 0;
    std::vector<TokenLogprob> logprobs{}, prompt_logprobs{};
    const char* finish = nullptr;
  };
  virtual void add_chunks(size_t sequence, const GenerateEvent& event, Choice& choice,
                          std::vector<nlohmann::ordered_json>& chunks) = 0;
  virtual nlohmann::ordered_json choice_object(size_t sequence, int64_t index, Choice& choice) = 0;
  virtual nlohmann::ordered_json object(nlohmann::ordered_json choices, bool chunk) const = 0;

  const Prepared& prepared_;
  const ServedModel& model_;
  AnswerHead head_;

 private:
  std::vector<size_t> best_of(size_t prompt) const;

  std::vector<Choice> choices_;
  std::vector<nlohmann::ordered_json> chunks_;
  Usage usage_;
};

std::unique_ptr<Answer> chat_answer(const Prepared& prepared, const ServedModel& model,
                                    const std::string& id);
std::unique_ptr<Answer> completion_answer(const Prepared& prepared, const ServedModel& model,
                                          const std::string& id);

}  // namespace stamp

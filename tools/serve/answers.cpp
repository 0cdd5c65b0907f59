#include "tools/serve/answers.h"

#include <algorithm>
#include <ctime>
#include <numeric>

namespace stamp {

using Json = nlohmann::ordered_json;

Answer::Answer(const Prepared& prepared, const ServedModel& model, const std::string& id)
    : prepared_(prepared),
      model_(model),
      head_{.id = id, .created = std::time(nullptr), .model = model.name, .fingerprint = model.fingerprint},
      choices_(prepared.sequences()) {
  for (const auto& prompt : prepared.prompts) usage_.prompt_tokens += int64_t(prompt.size());
}

void Answer::push(size_t sequence, const GenerateEvent& event) {
  Choice& choice = choices_[sequence];
  usage_.completion_tokens += int64_t(event.tokens.size());
  if (sequence % size_t(prepared_.per_prompt) == 0) usage_.cached_tokens += event.cached_tokens;
  choice.tokens += int64_t(event.tokens.size());
  for (const TokenLogprob& entry : event.logprobs) choice.logprob += double(entry.logprob);
  if (event.finish) choice.finish = finish_reason(*event.finish);
  if (prepared_.params.stream) {
    add_chunks(sequence, event, choice, chunks_);
    choice.started = true;
    return;
  }
  choice.text += event.text;
  choice.logprobs.insert(choice.logprobs.end(), event.logprobs.begin(), event.logprobs.end());
  choice.prompt_logprobs.insert(choice.prompt_logprobs.end(), event.prompt_logprobs.begin(),
                                event.prompt_logprobs.end());
}

std::vector<Json> Answer::take_chunks() {
  std::vector<Json> objects;
  for (Json& choice : chunks_) {
    Json chunk = object(Json::array({std::move(choice)}), true);
    if (prepared_.params.include_usage) chunk["usage"] = nullptr;
    objects.push_back(std::move(chunk));
  }
  chunks_.clear();
  return objects;
}

Json Answer::usage_chunk() const {
  Json chunk = object(Json::array(), true);
  chunk["usage"] = usage_.json();
  return chunk;
}

/// The sequences of a prompt that are answered: all, or the n with the best mean logprob.
std::vector<size_t> Answer::best_of(size_t prompt) const {
  std::vector<size_t> order(size_t(prepared_.per_prompt));
  std::iota(order.begin(), order.end(), prompt * order.size());
  const auto mean = [&](size_t i) {
    return choices_[i].logprob / double(std::max<int64_t>(1, choices_[i].tokens));
  };
  if (prepared_.params.n < prepared_.per_prompt) {
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return mean(a) > mean(b); });
    order.resize(size_t(prepared_.params.n));
  }
  return order;
}

Json Answer::whole() {
  Json choices = Json::array();
  for (size_t prompt = 0; prompt < prepared_.prompts.size(); ++prompt)
    for (const size_t sequence : best_of(prompt))
      choices.push_back(choice_object(sequence, int64_t(choices.size()), choices_[sequence]));
  Json answer = object(std::move(choices), false);
  answer["usage"] = usage_.json();
  return answer;
}

}  // namespace stamp

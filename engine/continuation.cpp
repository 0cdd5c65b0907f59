#include "engine/continuation.h"

#include <algorithm>
#include <utility>

#include "engine/engine.h"
#include "kernels/error.h"

namespace stamp {

Continuation::Continuation(const Engine& engine, GenerateRequest request,
                           std::unique_ptr<TokenConstraint> constraint)
    : engine_(engine),
      request_(std::move(request)),
      constraint_(std::move(constraint)),
      stop_(request_.stops),
      decoder_(engine.tokenizer()),
      tokens_(request_.prompt) {
  if (tokens_.empty()) throw InputError("the prompt is empty: nothing to continue");
  if (request_.max_tokens < 0) throw InputError("the number of tokens to generate must not be negative");
  request_.sampling.validate(engine.config().vocab_size);
  engine.check_room(tokens_);
  if (request_.max_tokens == 0) finish_ = Finish::kLength;
}

std::string Continuation::draw(std::span<float> logits) {
  return append(sample(logits, request_.sampling, tokens_, request_.prompt.size(), constraint_.get()));
}

void Continuation::wish(Logits& logits, int64_t row) const {
  if (draws_in_place() && request_.sampling.temperature > 0.0f)
    logits.wish(request_.sampling.draw(tokens_.size(), row));
}

std::string Continuation::draw(Logits& logits, int64_t row) {
  if (!draws_in_place()) return draw(logits.host(row));
  return append(request_.sampling.temperature > 0.0f ? logits.drawn(row) : logits.likeliest(row));
}

std::string Continuation::append(int32_t token) {
  tokens_.push_back(token);
  std::string text;
  const auto& eos = engine_.generation_config().eos_token_ids;
  const bool ends = !request_.ignore_eos || constraint_ != nullptr;
  if (ends && std::find(eos.begin(), eos.end(), token) != eos.end()) {
    finish_ = Finish::kStop;
  } else {
    if (constraint_ != nullptr) constraint_->advance(token);
    text = stop_.push(decoder_.push(token));
    if (stop_.stopped()) finish_ = Finish::kStop;
  }
  // The last token needs no place in the cache: nothing follows it.
  const bool full =
      int64_t(generated().size()) >= request_.max_tokens || int64_t(tokens_.size()) > engine_.context();
  if (full && !finish_) finish_ = Finish::kLength;
  if (finish_) text += rest();
  return text;
}

std::string Continuation::rest() {
  if (stop_.stopped()) return {};
  std::string text = stop_.push(decoder_.finish());
  return text + stop_.finish();
}

}  // namespace stamp

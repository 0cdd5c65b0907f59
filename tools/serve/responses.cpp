#include "tools/serve/responses.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "models/utf8.h"
#include "tools/serve/token_text.h"

namespace stamp {
namespace {

using Json = nlohmann::ordered_json;
constexpr float kLowestLogprob = -9999.0f;  // stands for minus infinity, which JSON does not have

float finite(float logprob) { return std::isfinite(logprob) ? logprob : kLowestLogprob; }

Json token_object(int32_t token, float logprob, const Tokenizer& tokenizer) {
  Json bytes = Json::array();
  for (const unsigned char byte : token_bytes(tokenizer, token)) bytes.push_back(byte);
  return {{"token", token_text(tokenizer, token)}, {"logprob", finite(logprob)}, {"bytes", std::move(bytes)}};
}

int64_t count_characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
}

Json object(const AnswerHead& head, const char* kind, Json choices) {
  return {{"id", head.id},
          {"object", kind},
          {"created", head.created},
          {"model", head.model},
          {"system_fingerprint", head.fingerprint},
          {"choices", std::move(choices)}};
}

Json finish_or_null(const char* finish) { return finish == nullptr ? Json() : Json(finish); }

}  // namespace

Json Usage::json() const {
  return {{"prompt_tokens", prompt_tokens},
          {"completion_tokens", completion_tokens},
          {"total_tokens", prompt_tokens + completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", cached_tokens}}}};
}

const char* finish_reason(GenerateEvent::Finish finish) {
  return finish == GenerateEvent::Finish::kLength ? "length" : "stop";
}

Json chat_object(const AnswerHead& head, bool chunk, Json choices) {
  return object(head, chunk ? "chat.completion.chunk" : "chat.completion", std::move(choices));
}

Json completion_object(const AnswerHead& head, Json choices) {
  return object(head, "text_completion", std::move(choices));
}

Json chat_delta(int64_t index, Json delta, Json logprobs, const char* finish) {
  return {{"index", index},
          {"delta", std::move(delta)},
          {"logprobs", std::move(logprobs)},
          {"finish_reason", finish_or_null(finish)}};
}

Json chat_choice(int64_t index, Json message, Json logprobs, const char* finish) {
  return {{"index", index},
          {"message", std::move(message)},
          {"logprobs", std::move(logprobs)},
          {"finish_reason", finish_or_null(finish)}};
}

Json completion_choice(int64_t index, const std::string& text, Json logprobs, const char* finish) {
  return {{"index", index},
          {"text", text},
          {"logprobs", std::move(logprobs)},
          {"finish_reason", finish_or_null(finish)}};
}

Json chat_logprobs(std::span<const TokenLogprob> logprobs, const Tokenizer& tokenizer) {
  Json content = Json::array();
  for (const TokenLogprob& entry : logprobs) {
    Json token = token_object(entry.token, entry.logprob, tokenizer);
    Json top = Json::array();
    for (const auto& [id, logprob] : entry.top) top.push_back(token_object(id, logprob, tokenizer));
    token["top_logprobs"] = std::move(top);
    content.push_back(std::move(token));
  }
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

void CompletionLogprobs::push_token(int32_t token) {
  tokens_.push_back(token_text(tokenizer_, token));
  offsets_.push_back(offset_);
  offset_ += count_characters(token_bytes(tokenizer_, token));
}

void CompletionLogprobs::push_first(int32_t token) {
  push_token(token);
  logprobs_.push_back(nullptr);
  tops_.push_back(nullptr);
}

void CompletionLogprobs::push(std::span<const TokenLogprob> logprobs) {
  for (const TokenLogprob& entry : logprobs) {
    push_token(entry.token);
    logprobs_.push_back(finite(entry.logprob));
    Json top = Json::object();
    // Two ids can have one text: the likelier one, which comes first, stays.
    for (const auto& [id, logprob] : entry.top) top.emplace(token_text(tokenizer_, id), finite(logprob));
    tops_.push_back(top_ > 0 ? std::move(top) : Json());
  }
}

Json CompletionLogprobs::take() {
  Json taken = {{"tokens", std::move(tokens_)},
                {"token_logprobs", std::move(logprobs_)},
                {"top_logprobs", std::move(tops_)},
                {"text_offset", std::move(offsets_)}};
  tokens_ = logprobs_ = tops_ = offsets_ = Json::array();
  return taken;
}

std::string to_text(const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string sse_event(const Json& data) { return "data: " + to_text(data) + "\n\n"; }

}  // namespace stamp

#include <cstdlib>

#include "tools/serve/api_error.h"
#include "tools/serve/request_parser.h"
#include "tools/serve/requests.h"

namespace {

constexpr int64_t kVocab = 1000;

void require(bool holds) {
  if (!holds) std::abort();
}

/// What a parser accepts; an ApiError 400 that says something is as good.
template <class Parse>
void check_body(Parse&& parse) {
  try {
    parse();
  } catch (const stamp::ApiError& e) {
    require(e.status == 400 && *e.what() != '\0');
    (void)e.json().dump(-1, ' ', false,
                        nlohmann::ordered_json::error_handler_t::strict);  // throws if not UTF-8
  }
}

/// The bytes as HTTP, in two pieces.
struct Outcome {
  int status = 0;  // of the error
  bool done = false;
  std::string method, target, body;
  bool operator==(const Outcome&) const = default;
};

Outcome read(std::string_view bytes, size_t cut) {
  Outcome outcome;
  stamp::RequestParser parser({.body_bytes = 4096});
  try {
    std::string input(bytes.substr(0, cut));
    for (size_t used = 1; used > 0 && !parser.done();) input.erase(0, used = parser.feed(input));
    input += bytes.substr(cut);
    for (size_t used = 1; used > 0 && !parser.done();) input.erase(0, used = parser.feed(input));
    outcome.done = parser.done();
    if (!outcome.done) return outcome;
    stamp::HttpRequest request = parser.take();
    require(request.body.size() <= 4096 && request.path.starts_with('/') && !request.id.empty());
    outcome.method = request.method, outcome.target = request.target, outcome.body = request.body;
  } catch (const stamp::HttpError& e) {
    outcome.status = e.status;
  }
  return outcome;
}

/// In whatever pieces: a request that is complete is the same. One that cannot become valid may be refused at
/// once or when more of it arrives.
bool agree(const Outcome& a, const Outcome& b) {
  const bool may_differ = !a.done && !b.done && (a.status == 0 || b.status == 0);
  return may_differ || a == b;
}

}  // namespace

/// The input is read as HTTP and as the body of each endpoint. Everything is accepted or refused with a
/// status; accepted values are within their limits.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  require(agree(read(text, size), read(text, size / 2)));
  check_body([&] {
    const auto request = stamp::parse_chat_request(text, kVocab);
    require(request.messages.is_array() && !request.messages.empty());
    require(request.params.n >= 1 && request.params.n <= stamp::kMaxChoices);
    for (const auto& message : request.messages) require(message["role"].is_string());
  });
  check_body([&] {
    const auto request = stamp::parse_completion_request(text, kVocab);
    require(request.texts.empty() != request.token_lists.empty());
    require(request.best_of >= request.params.n && *request.params.max_tokens >= 0);
    for (const auto& ids : request.token_lists)
      for (int32_t id : ids) require(id >= 0 && id < kVocab);
  });
  check_body([&] { stamp::parse_tokenize_request(text); });
  check_body([&] { stamp::parse_detokenize_request(text, kVocab); });
  return 0;
}

#include "kernels/error.h"
#include "tools/serve/api.h"
#include "tools/serve/api_error.h"
#include "tools/serve/generation.h"
#include "tools/serve/on_workers.h"

namespace stamp {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

/// Server-sent events, through proxies at once.
HttpResponse event_stream(const Prepared& prepared) {
  return {.content_type = "text/event-stream; charset=utf-8",
          .fields = {{"Cache-Control", "no-cache"},
                     {"X-Accel-Buffering", "no"},
                     {"X-Stamp-Affinity", prepared.affinity()}}};
}

ApiError too_busy() {
  ApiError error(429, "the queue is full; try again later", {}, "queue_full");
  error.retry_after = 1;
  return error;
}

}  // namespace

asio::awaitable<void> Api::chat_completions(Exchange& exchange) {
  const ServedModel& model = *model_;
  std::string body = exchange.take_body();
  const Prepared prepared = co_await on_workers(
      workers_, [&] { return prepare_chat(parse_chat_request(body, model.vocab_size()), model); });
  body = {};
  const auto answer = chat_answer(prepared, model, exchange.request().id);
  co_await generate(exchange, prepared, *answer);
}

asio::awaitable<void> Api::completions(Exchange& exchange) {
  const ServedModel& model = *model_;
  std::string body = exchange.take_body();
  const Prepared prepared = co_await on_workers(workers_, [&] {
    return prepare_completion(parse_completion_request(body, model.vocab_size()), model);
  });
  body = {};
  const auto answer = completion_answer(prepared, model, exchange.request().id);
  co_await generate(exchange, prepared, *answer);
}

/// Answers, and leaves nothing behind in the scheduler whatever happens.
asio::awaitable<void> Api::generate(Exchange& exchange, const Prepared& prepared, Answer& answer) {
  Generation generation(model_->scheduler, context_, options_.parallel, options_.pending_bytes);
  exchange.on_gone([&generation] { generation.cancel(); });
  std::exception_ptr failure;
  try {
    co_await drive(exchange, prepared, answer, generation);
  } catch (...) {
    failure = std::current_exception();
  }
  exchange.on_gone(nullptr);
  generation.cancel();
  for (bool more = true; more;) {
    const auto item = co_await generation.next();
    more = item.has_value();
  }
  if (failure) std::rethrow_exception(failure);
}

asio::awaitable<void> Api::drive(Exchange& exchange, const Prepared& prepared, Answer& answer,
                                 Generation& generation) {
  if (exchange.gone()) co_return;
  if (!generation.start(prepared.sequences(), [&prepared](size_t index) { return prepared.make(index); }))
    throw too_busy();
  std::vector<Clock::time_point> last(prepared.sequences());
  while (true) {
    const auto item = co_await generation.next();
    if (!item) break;
    const GenerateEvent& event = item->event;
    if (event.finish == GenerateEvent::Finish::kFailed) throw ApiError(500, event.error);
    if (event.finish == GenerateEvent::Finish::kCancelled) {
      if (exchange.gone()) continue;
      throw ApiError(
          503, generation.overflowed() ? "the answer was not read fast enough" : "the answer was cancelled");
    }
    measure(exchange, item->index, !event.tokens.empty(), item->time, last);
    answer.push(item->index, event);
    if (prepared.params.stream && !generation.has_items()) co_await send_chunks(exchange, prepared, answer);
  }
  exchange.log["prompt_tokens"] = answer.usage().prompt_tokens;
  exchange.log["cached_tokens"] = answer.usage().cached_tokens;
  exchange.log["generated_tokens"] = answer.usage().completion_tokens;
  if (exchange.gone()) co_return;
  if (!prepared.params.stream) {
    HttpResponse response =
        decorate(exchange.request(),
                 {.body = to_text(answer.whole()), .fields = {{"X-Stamp-Affinity", prepared.affinity()}}});
    co_await exchange.respond(std::move(response));
    co_return;
  }
  std::string tail;
  if (prepared.params.include_usage) tail = sse_event(answer.usage_chunk());
  tail += kSseDone;
  co_await send_chunks(exchange, prepared, answer);
  co_await exchange.send(tail);
  co_await exchange.end();
}

/// The head goes out with the first of them, so that a failure before is an error of its own status.
asio::awaitable<void> Api::send_chunks(Exchange& exchange, const Prepared& prepared, Answer& answer) {
  std::string text;
  for (const auto& chunk : answer.take_chunks()) text += sse_event(chunk);
  if (!exchange.started()) {
    HttpResponse head = decorate(exchange.request(), event_stream(prepared));
    co_await exchange.begin(std::move(head));
  }
  co_await exchange.send(text);
}

void Api::measure(const Exchange& exchange, size_t sequence, bool has_tokens, Clock::time_point time,
                  std::vector<Clock::time_point>& last) {
  if (!has_tokens) return;
  const bool first = last[sequence] == Clock::time_point();
  const auto since = [&](Clock::time_point start) {
    return std::chrono::duration<double>(time - start).count();
  };
  if (first) metrics_.first_token(since(exchange.start_time()));
  else metrics_.next_token(since(last[sequence]));
  last[sequence] = time;
}

}  // namespace stamp

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "tools/serve/api.h"
#include "tools/serve/api_error.h"
#include "tools/serve/on_workers.h"
#include "tools/serve/open_api.h"
#include "tools/serve/page.h"
#include "tools/serve/token_text.h"

namespace stamp {
namespace {

namespace asio = boost::asio;
using Json = nlohmann::ordered_json;

Json model_object(const ServedModel& model) {
  return {{"id", model.name},
          {"object", "model"},
          {"created", model.created},
          {"owned_by", "stamp"},
          {"max_model_len", model.engine.context()}};
}

}  // namespace

asio::awaitable<void> Api::reply(Exchange& exchange, const Json& object) {
  HttpResponse response = decorate(exchange.request(), {.body = to_text(object)});
  co_await exchange.respond(std::move(response));
}

asio::awaitable<void> Api::models(Exchange& exchange) {
  const std::string& path = exchange.request().path;
  const std::string_view prefix = "/v1/models/";
  Json answer = {{"object", "list"}, {"data", Json::array({model_object(*model_)})}};
  if (path.starts_with(prefix)) {
    check_model(path.substr(prefix.size()), *model_);
    answer = model_object(*model_);
  }
  co_await reply(exchange, answer);
}

asio::awaitable<void> Api::tokenize(Exchange& exchange) {
  const ServedModel& model = *model_;
  const std::string& body = exchange.request().body;
  const Json answer = co_await on_workers(workers_, [&] {
    const TokenizeRequest request = parse_tokenize_request(body);
    const std::vector<int32_t> ids = encode_for_client(request, model);
    Json texts;
    if (request.return_token_strs) texts = Json::array();
    if (request.return_token_strs)
      for (const int32_t id : ids) texts.push_back(model.tokenizer().id_to_token(id));
    return Json{{"count", ids.size()},
                {"max_model_len", model.engine.context()},
                {"tokens", ids},
                {"token_strs", std::move(texts)}};
  });
  co_await reply(exchange, answer);
}

asio::awaitable<void> Api::detokenize(Exchange& exchange) {
  const ServedModel& model = *model_;
  const std::string& body = exchange.request().body;
  const Json answer = co_await on_workers(workers_, [&] {
    const DetokenizeRequest request = parse_detokenize_request(body, model.vocab_size());
    check_model(request.model, model);
    return Json{{"prompt", model.tokenizer().decode(request.tokens, false)}};
  });
  co_await reply(exchange, answer);
}

asio::awaitable<void> Api::tokenizer_info(Exchange& exchange) {
  co_await reply(exchange, model_->tokenizer_info);
}

asio::awaitable<void> Api::health(Exchange& exchange) {
  const Json answer = {{"status", "ok"}};
  co_await reply(exchange, answer);
}

asio::awaitable<void> Api::metrics(Exchange& exchange) {
  std::optional<Scheduler::Stats> stats;
  if (model_ != nullptr) stats = model_->scheduler.stats();
  HttpResponse response{.content_type = "text/plain; version=0.0.4; charset=utf-8",
                        .body = metrics_.text(stats ? &*stats : nullptr, connections ? connections() : 0)};
  co_await exchange.respond(std::move(response));
}

asio::awaitable<void> Api::open_api(Exchange& exchange) {
  HttpResponse response = decorate(exchange.request(), {.body = std::string(kOpenApi)});
  co_await exchange.respond(std::move(response));
}

asio::awaitable<void> Api::page(Exchange& exchange) {
  HttpResponse response{.content_type = "text/html; charset=utf-8",
                        .body = std::string(chat_page()),
                        .fields = {{"Content-Security-Policy", content_security_policy()},
                                   {"Referrer-Policy", "no-referrer"},
                                   {"Cache-Control", "no-cache"}}};
  co_await exchange.respond(std::move(response));
}

}  // namespace stamp

#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <functional>

#include "tools/serve/answers.h"
#include "tools/serve/api_keys.h"
#include "tools/serve/exchange.h"
#include "tools/serve/metrics.h"
#include "tools/serve/server_log.h"

namespace stamp {

struct ApiError;
class Generation;

struct ApiOptions {
  ApiKeys keys{};
  std::string cors_origin{};  // "*": any; empty: pages from elsewhere may not use the server
  int64_t parallel = 8;       // sequences of one request that run at once
  int64_t pending_bytes = 1 << 20;
};

/// The endpoints: who may use them, how they answer, what is counted and logged. Answers "loading" until a
/// model is there.
class Api : public HttpHandler {
 public:
  /// All but the options must outlive this.
  Api(boost::asio::io_context& context, ApiOptions options, Metrics& metrics, ServerLog& log);

  void set_model(ServedModel* model) { model_ = model; }
  /// New requests are refused from now on.
  void drain() { draining_ = true; }
  /// For the metrics: how many connections there are.
  std::function<int64_t()> connections;

  std::optional<HttpResponse> refuse(const HttpRequest& head) override;
  boost::asio::awaitable<void> handle(Exchange& exchange) override;
  HttpResponse answer(const HttpError& error) override;
  void finished(const Exchange& exchange) override;

 private:
  using Handler = boost::asio::awaitable<void> (Api::*)(Exchange&);
  struct Route {
    const char* path;
    const char* method;
    Handler handler;
    bool open, needs_model;  // to everybody; loaded
  };
  static const Route kRoutes[];
  static const Route* find(const std::string& path);

  HttpResponse preflight(const HttpRequest& head, const Route& route) const;
  HttpResponse response_to(const HttpRequest& request, const ApiError& error) const;
  HttpResponse decorate(const HttpRequest& request, HttpResponse response) const;
  bool may_use_from(const HttpRequest& head) const;
  boost::asio::awaitable<void> reply(Exchange& exchange, const nlohmann::ordered_json& object);

  boost::asio::awaitable<void> models(Exchange& exchange);
  boost::asio::awaitable<void> chat_completions(Exchange& exchange);
  boost::asio::awaitable<void> completions(Exchange& exchange);
  boost::asio::awaitable<void> tokenize(Exchange& exchange);
  boost::asio::awaitable<void> detokenize(Exchange& exchange);
  boost::asio::awaitable<void> tokenizer_info(Exchange& exchange);
  boost::asio::awaitable<void> health(Exchange& exchange);
  boost::asio::awaitable<void> metrics(Exchange& exchange);
  boost::asio::awaitable<void> open_api(Exchange& exchange);
  boost::asio::awaitable<void> page(Exchange& exchange);

  boost::asio::awaitable<void> generate(Exchange& exchange, const Prepared& prepared, Answer& answer);
  boost::asio::awaitable<void> drive(Exchange& exchange, const Prepared& prepared, Answer& answer,
                                     Generation& generation);
  boost::asio::awaitable<void> send_chunks(Exchange& exchange, const Prepared& prepared, Answer& answer);
  void measure(const Exchange& exchange, size_t sequence, bool has_tokens,
               std::chrono::steady_clock::time_point time,
               std::vector<std::chrono::steady_clock::time_point>& last);

  boost::asio::io_context& context_;
  ApiOptions options_;
  Metrics& metrics_;
  ServerLog& log_;
  ServedModel* model_ = nullptr;  // null while it loads
  bool draining_ = false;
  boost::asio::thread_pool workers_;  // parse and tokenise, which can take long
};

}  // namespace stamp

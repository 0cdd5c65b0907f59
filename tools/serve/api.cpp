#include "tools/serve/api.h"

#include <fmt/format.h>

#include <cmath>

#include "kernels/error.h"
#include "tools/serve/api_error.h"

namespace stamp {
namespace {

namespace asio = boost::asio;
using Json = nlohmann::ordered_json;
constexpr size_t kWorkers = 2;
constexpr const char* kModels = "/v1/models";
constexpr const char* kOwnFields = "X-Request-Id, X-Stamp-Affinity";

std::string allowed_methods(const std::string& method) {
  return method == "GET" ? "GET, HEAD, OPTIONS" : method + ", OPTIONS";
}

}  // namespace

const Api::Route Api::kRoutes[] = {
    {"/v1/chat/completions", "POST", &Api::chat_completions, false, true},
    {"/v1/completions", "POST", &Api::completions, false, true},
    {kModels, "GET", &Api::models, false, true},
    {"/tokenize", "POST", &Api::tokenize, false, true},
    {"/detokenize", "POST", &Api::detokenize, false, true},
    {"/tokenizer_info", "GET", &Api::tokenizer_info, false, true},
    {"/metrics", "GET", &Api::metrics, false, false},
    {"/health", "GET", &Api::health, true, true},
    {"/ready", "GET", &Api::health, true, true},
    {"/openapi.json", "GET", &Api::open_api, true, false},
    {"/", "GET", &Api::page, true, false},
};

Api::Api(asio::io_context& context, ApiOptions options, Metrics& metrics, ServerLog& log)
    : context_(context), options_(std::move(options)), metrics_(metrics), log_(log), workers_(kWorkers) {}

const Api::Route* Api::find(const std::string& path) {
  for (const Route& route : kRoutes)
    if (path == route.path || (route.path == kModels && path.starts_with(std::string(kModels) + "/")))
      return &route;
  return nullptr;
}

/// Whether a page that is open in a browser may send this: one of this server's own, or an allowed one.
bool Api::may_use_from(const HttpRequest& head) const {
  const std::string_view origin = head.field("origin");
  if (origin.empty() || options_.cors_origin == "*" || origin == options_.cors_origin) return true;
  const size_t host = origin.find("://");
  return host != std::string_view::npos && origin.substr(host + 3) == head.field("host");
}

HttpResponse Api::decorate(const HttpRequest& request, HttpResponse response) const {
  if (!options_.cors_origin.empty() && !request.field("origin").empty() && may_use_from(request)) {
    response.fields.emplace_back("Access-Control-Allow-Origin", std::string(request.field("origin")));
    response.fields.emplace_back("Access-Control-Expose-Headers", kOwnFields);
    response.fields.emplace_back("Vary", "Origin");
  }
  return response;
}

HttpResponse Api::response_to(const HttpRequest& request, const ApiError& error) const {
  HttpResponse response{.status = error.status, .body = to_text(error.json())};
  if (error.status == 401) response.fields.emplace_back("WWW-Authenticate", "Bearer");
  if (error.retry_after > 0) response.fields.emplace_back("Retry-After", std::to_string(error.retry_after));
  return decorate(request, std::move(response));
}

HttpResponse Api::preflight(const HttpRequest& head, const Route& route) const {
  HttpResponse response{.status = 204, .content_type = ""};
  response.fields.emplace_back("Allow", allowed_methods(route.method));
  if (!options_.cors_origin.empty()) {
    response.fields.emplace_back("Access-Control-Allow-Methods", allowed_methods(route.method));
    response.fields.emplace_back("Access-Control-Allow-Headers",
                                 std::string("Authorization, Content-Type, ") + kOwnFields);
    response.fields.emplace_back("Access-Control-Max-Age", "86400");
  }
  return decorate(head, std::move(response));
}

std::optional<HttpResponse> Api::refuse(const HttpRequest& head) {
  const Route* route = find(head.path);
  const auto error = [&](int status, const std::string& message, int retry_after = 0) {
    ApiError refused(status, message);
    refused.retry_after = retry_after;
    return response_to(head, refused);
  };
  if (route == nullptr) return error(404, "there is nothing at this path; /openapi.json lists the endpoints");
  if (head.method == "OPTIONS") return preflight(head, *route);
  if (!may_use_from(head))
    return error(403, "pages of this origin may not use the server; see --cors-origin");
  if (head.method != route->method && !(head.method == "HEAD" && std::string_view(route->method) == "GET")) {
    HttpResponse response = error(405, "the method is not allowed here; use " + std::string(route->method));
    response.fields.emplace_back("Allow", allowed_methods(route->method));
    return response;
  }
  if (!route->open && !options_.keys.accept(head.field("authorization"))) {
    ApiError refused(401, "the API key is missing or wrong; send it as \"Authorization: Bearer KEY\"", {},
                     "invalid_api_key");
    return response_to(head, refused);
  }
  if (route->needs_model && draining_) return error(503, "the server is shutting down", 1);
  if (route->needs_model && model_ == nullptr) return error(503, "the model is loading; try again soon", 1);
  return std::nullopt;
}

HttpResponse Api::answer(const HttpError& error) {
  return {.status = error.status, .body = to_text(ApiError(error.status, error.message).json())};
}

asio::awaitable<void> Api::handle(Exchange& exchange) {
  std::optional<ApiError> error;
  try {
    co_await (this->*find(exchange.request().path)->handler)(exchange);
  } catch (const ApiError& e) {
    error = e;
  } catch (const InputError& e) {
    error = ApiError(400, e.what());
  } catch (const std::bad_alloc&) {
    error = ApiError(503, "not enough memory for this request");
  } catch (const std::exception& e) {
    error = ApiError(500, e.what());
  }
  if (!error) co_return;
  if (error->status >= 500)
    log_.write(ServerLog::Level::kError, "request failed",
               {{"id", exchange.request().id}, {"error", error->what()}});
  if (!exchange.started()) {
    HttpResponse response = response_to(exchange.request(), *error);
    co_await exchange.respond(std::move(response));
  } else {
    const std::string event = sse_event(error->json());
    co_await exchange.send(event);
    exchange.abort();
  }
}

void Api::finished(const Exchange& exchange) {
  const HttpRequest& request = exchange.request();
  const Route* route = find(request.path);
  metrics_.count_request(route == nullptr ? "other" : route->path, exchange.status(), exchange.seconds());
  if (exchange.gone()) metrics_.client_left();
  Json fields = {{"id", request.id},
                 {"client", request.client},
                 {"method", request.method},
                 {"path", route == nullptr ? "other" : route->path},
                 {"status", exchange.status()},
                 {"seconds", std::round(exchange.seconds() * 1e4) / 1e4},
                 {"bytes", exchange.sent_bytes()}};
  fields.update(exchange.log);
  if (exchange.gone()) fields["client_left"] = true;
  log_.write(ServerLog::Level::kInfo, "request", fields);
}

}  // namespace stamp

#include <sys/resource.h>

#include <boost/asio/signal_set.hpp>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <thread>

#include "kernels/error.h"
#include "tools/cli.h"
#include "tools/serve/serve_flags.h"

namespace stamp {
namespace {

namespace asio = boost::asio;
using Level = ServerLog::Level;

constexpr const char* kFooter =
    R"(Speaks OpenAI's wire format: /v1/chat/completions, /v1/completions, /v1/models. Further endpoints are
/tokenize, /detokenize, /tokenizer_info, /health, /ready, /metrics and /openapi.json; / is a chat page.

SIGTERM or Ctrl-C ends the requests under way and then the server; a second one ends it at once.

Examples:
  stamp serve -m DIR
  stamp serve -m DIR --host 0.0.0.0 --port 8443 --tls-cert cert.pem --tls-key key.pem --api-key-file keys.txt
  curl http://127.0.0.1:8080/v1/chat/completions -d '{"messages": [{"role": "user", "content": "Hello"}]}')";

/// As many connections as the system allows without asking.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/// The parts of a running server, and the order in which they end.
class Serving {
 public:
  explicit Serving(const ServeFlags& flags)
      : flags_(flags),
        log_(flags.format()),
        api_(context_, flags.api(), metrics_, log_),
        http_(context_, api_, flags.http),
        signals_(context_, SIGINT, SIGTERM) {
    api_.connections = [this] { return http_.connections(); };
  }

  int run() {
    wait_for_signal();
    http_.start();
    log_.write(Level::kInfo, "listening on " + http_.url());
    loader_ = std::jthread([this] { load(); });
    context_.run();
    if (failure_) std::rethrow_exception(failure_);
    save_prefixes();
    log_.write(Level::kInfo, "stopped");
    if (model_ == nullptr) {  // it is still loading, which nothing can end
      log_.close();
      std::_Exit(0);
    }
    return 0;
  }

 private:
  /// On a thread of its own: the server answers meanwhile.
  void load() {
    std::unique_ptr<ServedModel> model;
    std::exception_ptr failure;
    try {
      model = std::make_unique<ServedModel>(flags_.engine, flags_.scheduler, flags_.kv_memory,
                                            flags_.served_name);
      load_prefixes(*model);
    } catch (...) {
      failure = std::current_exception();
    }
    asio::post(context_,
               [this, failure, owned = std::move(model)]() mutable { loaded(std::move(owned), failure); });
  }

  /// A file that cannot be used costs the time to compute again what it holds, nothing else.
  void load_prefixes(ServedModel& model) {
    const auto file = flags_.prefix_file();
    if (file.empty() || !std::filesystem::exists(file)) return;
    try {
      const int64_t tokens = model.scheduler.load_prefixes(file);
      log_.write(Level::kInfo, "prefix cache restored", {{"tokens", tokens}});
    } catch (const InputError& e) {
      log_.write(Level::kWarning, e.what());
    }
  }

  void save_prefixes() {
    if (model_ == nullptr || flags_.prefix_file().empty()) return;
    try {
      model_->scheduler.drain();
      model_->scheduler.save_prefixes(flags_.prefix_file());
    } catch (const Error& e) {
      log_.write(Level::kError, e.what());
    }
  }

  void loaded(std::unique_ptr<ServedModel> model, const std::exception_ptr& failure) {
    if (failure) {
      failure_ = failure;
      context_.stop();
      return;
    }
    model_ = std::move(model);
    api_.set_model(model_.get());
    log_.write(Level::kInfo, "model loaded",
               {{"model", model_->name},
                {"seconds", std::round(model_->engine.load_seconds() * 1e3) / 1e3},
                {"recipe", model_->engine.recipe().name},
                {"operations", model_->engine.ops().name()},
                {"threads", model_->engine.ops().threads()},
                {"context", model_->engine.context()},
                {"parallel", flags_.scheduler.parallel},
                {"cache_tokens", model_->engine.cache().max_tokens()}});
  }

  void wait_for_signal() {
    signals_.async_wait([this](const boost::system::error_code& error, int signal) {
      if (error) return;
      if (std::exchange(stopping_, true)) std::_Exit(128 + signal);  // there is nothing to save
      log_.write(Level::kInfo, "stopping: requests under way are finished", {{"signal", signal}});
      api_.drain();
      http_.drain([this] { context_.stop(); });
      wait_for_signal();
    });
  }

  const ServeFlags& flags_;
  asio::io_context context_{1};
  ServerLog log_;
  Metrics metrics_;
  std::unique_ptr<ServedModel> model_;
  Api api_;
  HttpServer http_;
  asio::signal_set signals_;
  bool stopping_ = false;
  std::exception_ptr failure_;
  std::jthread loader_;
};

int run(ServeFlags& flags) {
  flags.validate();
  flags.scheduler.prefix_cache = !flags.no_prefix_cache;
  raise_descriptor_limit();
  return Serving(flags).run();
}

}  // namespace

void add_serve(CLI::App& app, int& exit_code) {
  auto flags = std::make_shared<ServeFlags>();
  CLI::App* command = app.add_subcommand("serve", "Answer requests over HTTP, in OpenAI's wire format");
  command->footer(kFooter);
  flags->add(*command);
  command->callback([flags, command, &exit_code] {
    flags->read_config(*command);
    exit_code = run(*flags);
  });
}

}  // namespace stamp

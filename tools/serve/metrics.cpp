#include "tools/serve/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <sstream>

namespace stamp {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;
const Buckets kRequestSeconds = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300};
const Buckets kFirstTokenSeconds = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
const Buckets kNextTokenSeconds = {0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2};

}  // namespace

struct Metrics::Impl {
  prometheus::Registry registry;

  prometheus::Family<prometheus::Counter>& requests = prometheus::BuildCounter()
                                                          .Name("stamp_requests_total")
                                                          .Help("Answered requests by path and status")
                                                          .Register(registry);
  prometheus::Family<prometheus::Histogram>& seconds =
      prometheus::BuildHistogram()
          .Name("stamp_request_seconds")
          .Help("Time from a request's end to its answer's end")
          .Register(registry);
  prometheus::Histogram& first_token =
      histogram("stamp_time_to_first_token_seconds", "Time from a request's end to its first token",
                kFirstTokenSeconds);
  prometheus::Histogram& next_token =
      histogram("stamp_inter_token_seconds", "Time between two tokens of one sequence", kNextTokenSeconds);
  prometheus::Counter& clients_left =
      counter("stamp_clients_left_total", "Clients that left before the answer's end");
  prometheus::Counter& prompt_tokens = counter("stamp_prompt_tokens_total", "Tokens of prompts");
  prometheus::Counter& cached_tokens =
      counter("stamp_prefix_cache_hit_tokens_total", "Tokens of prompts that were found in the prefix cache");
  prometheus::Counter& generated_tokens = counter("stamp_generated_tokens_total", "Generated tokens");
  prometheus::Counter& preemptions =
      counter("stamp_preemptions_total", "Sequences that gave up their pages and were computed again");
  prometheus::Counter& steps = counter("stamp_steps_total", "Steps of the scheduler");
  prometheus::Gauge& running = gauge("stamp_sequences_running", "Sequences that advance together");
  prometheus::Gauge& waiting = gauge("stamp_sequences_waiting", "Sequences in the queue");
  prometheus::Gauge& free_pages = gauge("stamp_kv_pages_free", "Pages of the KV cache that are free");
  prometheus::Gauge& total_pages = gauge("stamp_kv_pages", "Pages of the KV cache");
  prometheus::Gauge& connections = gauge("stamp_connections", "Open connections");
  prometheus::Gauge& ready = gauge("stamp_model_loaded", "1 when the model is loaded");

  prometheus::Counter& counter(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add({});
  }
  prometheus::Gauge& gauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
  }
  prometheus::Histogram& histogram(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
  }
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::count_request(const std::string& path, int status, double seconds) {
  impl_->requests.Add({{"path", path}, {"status", std::to_string(status)}}).Increment();
  impl_->seconds.Add({{"path", path}}, kRequestSeconds).Observe(seconds);
}

void Metrics::first_token(double seconds) { impl_->first_token.Observe(seconds); }
void Metrics::next_token(double seconds) { impl_->next_token.Observe(seconds); }
void Metrics::client_left() { impl_->clients_left.Increment(); }

std::string Metrics::text(const Scheduler::Stats* stats, int64_t connections) {
  const auto raise = [](prometheus::Counter& counter, int64_t to) {
    counter.Increment(double(to) - counter.Value());
  };
  impl_->connections.Set(double(connections));
  impl_->ready.Set(stats != nullptr ? 1 : 0);
  if (stats != nullptr) {
    raise(impl_->prompt_tokens, stats->prompt_tokens);
    raise(impl_->cached_tokens, stats->cached_tokens);
    raise(impl_->generated_tokens, stats->generated_tokens);
    raise(impl_->preemptions, stats->preemptions);
    raise(impl_->steps, stats->steps);
    impl_->running.Set(double(stats->running));
    impl_->waiting.Set(double(stats->waiting));
    impl_->free_pages.Set(double(stats->free_pages));
    impl_->total_pages.Set(double(stats->total_pages));
  }
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, impl_->registry.Collect());
  return out.str();
}

}  // namespace stamp

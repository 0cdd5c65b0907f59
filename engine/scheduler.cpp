#include "engine/scheduler.h"

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "engine/batcher.h"
#include "kernels/error.h"
#include "models/file.h"

namespace stamp {

/// After so long without work, no more is expected at once.
constexpr std::chrono::milliseconds kIdle{200};

struct Scheduler::Impl {
  Impl(Engine& engine, const SchedulerOptions& options)
      : engine(engine), batcher(engine, options), most(options.parallel + options.queue) {
    stats = batcher.stats();
  }
  void run();
  /// Requests that were accepted and have not ended. Under the mutex.
  int64_t open() const { return int64_t(arrivals.size()) + held; }

  Engine& engine;
  Batcher batcher;  // the thread's own
  const int64_t most;
  mutable std::mutex mutex;
  std::condition_variable changed;
  // Under the mutex:
  Id last_id = 0;
  std::vector<std::unique_ptr<Batcher::Sequence>> arrivals;
  std::vector<Id> cancels;
  int64_t held = 0;  // by the batcher
  bool draining = false, stopping = false;
  Stats stats;
  std::thread thread;
};

void Scheduler::Impl::run() {
  for (bool stop = false; !stop;) {
    std::vector<std::unique_ptr<Batcher::Sequence>> arrived;
    std::vector<Id> cancelled;
    {
      std::unique_lock lock(mutex);
      const auto wanted = [&] { return stopping || open() > 0; };
      if (!changed.wait_for(lock, kIdle, wanted)) {
        lock.unlock();
        release_freed_memory();  // a burst's, which the system may want
        lock.lock();
        changed.wait(lock, wanted);
      }
      arrived.swap(arrivals);
      cancelled.swap(cancels);
      held += int64_t(arrived.size());
      stop = stopping;
    }
    for (auto& sequence : arrived) batcher.add(std::move(sequence));
    for (Id id : cancelled) batcher.cancel(id);
    if (stop) batcher.cancel_all();
    if (batcher.open() > 0) batcher.step();
    {
      const std::lock_guard lock(mutex);
      held = batcher.open();
      stats = batcher.stats();
    }
    changed.notify_all();
  }
}

Scheduler::Scheduler(Engine& engine, const SchedulerOptions& options)
    : impl_(std::make_unique<Impl>(engine, options)) {
  impl_->thread = std::thread([this] { impl_->run(); });
}

Scheduler::~Scheduler() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->changed.notify_all();
  impl_->thread.join();
}

std::optional<Scheduler::Id> Scheduler::submit(ScheduledRequest request, Sink sink) {
  auto sequence = std::make_unique<Batcher::Sequence>(impl_->engine, std::move(request), std::move(sink));
  Id id = 0;
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->draining || impl_->open() >= impl_->most) return std::nullopt;
    id = sequence->id = ++impl_->last_id;
    impl_->arrivals.push_back(std::move(sequence));
  }
  impl_->changed.notify_all();
  return id;
}

void Scheduler::cancel(Id id) {
  const std::lock_guard lock(impl_->mutex);
  if (impl_->open() > 0) impl_->cancels.push_back(id);
}

void Scheduler::drain() {
  std::unique_lock lock(impl_->mutex);
  impl_->draining = true;
  impl_->changed.wait(lock, [&] { return impl_->open() == 0; });
}

// While no request is open, the thread leaves the batcher alone.
void Scheduler::save_prefixes(const std::filesystem::path& file) const {
  const std::lock_guard lock(impl_->mutex);
  if (impl_->open() > 0) throw Error("the prefix cache cannot be saved while requests are open");
  impl_->batcher.save_prefixes(file);
}

int64_t Scheduler::load_prefixes(const std::filesystem::path& file) {
  const std::lock_guard lock(impl_->mutex);
  if (impl_->open() > 0) throw Error("the prefix cache cannot be loaded while requests are open");
  return impl_->batcher.load_prefixes(file) * kBlock;
}

Scheduler::Stats Scheduler::stats() const {
  const std::lock_guard lock(impl_->mutex);
  Stats stats = impl_->stats;
  stats.waiting += int64_t(impl_->arrivals.size());
  return stats;
}

}  // namespace stamp

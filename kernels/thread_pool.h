#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace stamp {

/// Cores this process may run on (the affinity mask, so containers and taskset are respected).
int available_cores();

/// A persistent pool for fork-join loops. Between loops a worker spins for some tens of microseconds, the
/// length of the serial stretches inside a layer, and then sleeps in the kernel, so an idle process costs
/// nothing and two processes on the same cores do not fight. A loop ends when its items are done: a worker
/// that the system has not scheduled is not waited for.
class ThreadPool {
 public:
  /// `threads` includes the caller; <= 0 means available_cores().
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return int(workers_.size()) + 1; }

  /// Calls body(item, thread) once for each item in [0, items), thread in [0, threads()); returns when all
  /// are done. Items are handed out in order, one at a time. `body` must not throw or call parallel_for.
  template <class Body>
  void parallel_for(int64_t items, const Body& body) {
    run(
        items,
        [](const void* context, int64_t item, int thread) {
          (*static_cast<const Body*>(context))(item, thread);
        },
        &body);
  }

 private:
  using Call = void (*)(const void* context, int64_t item, int thread);

  void run(int64_t items, Call call, const void* context);
  void work(uint32_t generation, int thread);
  void worker_main(int thread);

  std::vector<std::thread> workers_;
  // The loop in flight. `ticket_` is generation << 32 | next item, so a late worker cannot take an item of a
  // loop other than the one whose `call_` it read.
  std::atomic<uint64_t> ticket_{0};
  std::atomic<uint32_t> items_{0}, done_{0};
  std::atomic<Call> call_{nullptr};
  std::atomic<const void*> context_{nullptr};
  std::atomic<uint32_t> generation_{0};  // what workers sleep on
  std::atomic<bool> stop_{false};
};

}  // namespace stamp

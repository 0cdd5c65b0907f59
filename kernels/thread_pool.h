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
  /// are done. A thread has a share of neighbouring items, the same ones in every loop of as many, and takes
  /// them in order: so a later loop finds in a core's cache what an earlier one left there. Who is done takes
  /// the last items of the others' shares. `body` must not throw or call parallel_for.
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

  /// What is left of a thread's share: generation << 32 | first << 16 | end. With the generation a late
  /// worker cannot take an item of a loop other than the one whose `call_` it read.
  struct alignas(64) Share {
    std::atomic<uint64_t> left{0};
  };

  std::vector<std::thread> workers_;
  // The loop in flight, whose items are taken in `pieces_` of `piece_items_`, since a share counts 16 bits.
  std::vector<Share> shares_;  // one a thread
  std::atomic<int64_t> items_{0}, piece_items_{1};
  std::atomic<uint32_t> pieces_{0}, done_{0};
  std::atomic<Call> call_{nullptr};
  std::atomic<const void*> context_{nullptr};
  std::atomic<uint32_t> generation_{0};  // what workers sleep on
  std::atomic<bool> stop_{false};
};

}  // namespace stamp

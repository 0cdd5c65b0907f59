#include "kernels/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace stamp {
namespace {

// Longer than what one thread does alone between a step's parallel loops: to be woken takes as long again.
constexpr std::chrono::microseconds kSpin(50);
constexpr int kPauses = 32;  // between looks at the clock: a pause takes 10 to 50 ns

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#else
  std::this_thread::yield();
#endif
}

/// Returns once `value` differs from `old`: spins briefly, then sleeps.
void wait_for_change(const std::atomic<uint32_t>& value, uint32_t old) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < kPauses; ++i) {
      if (value.load(std::memory_order_acquire) != old) return;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

int available_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, int(std::thread::hardware_concurrency()));
}

ThreadPool::ThreadPool(int threads) {
  if (threads <= 0) threads = available_cores();
  for (int t = 1; t < threads; ++t) workers_.emplace_back([this, t] { worker_main(t); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  generation_.fetch_add(1);
  generation_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(int64_t items, Call call, const void* context) {
  if (workers_.empty() || items <= 1) {
    for (int64_t i = 0; i < items; ++i) call(context, i, 0);
    return;
  }
  const uint32_t generation = generation_.load(std::memory_order_relaxed) + 1;
  // First no ticket is left, then the loop changes, then there are tickets again: a late worker that has read
  // part of the new loop beside an old ticket fails to take that ticket.
  ticket_.store((uint64_t(generation) << 32) - 1, std::memory_order_relaxed);
  done_.store(0, std::memory_order_release);
  items_.store(uint32_t(items), std::memory_order_release);
  call_.store(call, std::memory_order_release);
  context_.store(context, std::memory_order_release);
  ticket_.store(uint64_t(generation) << 32, std::memory_order_release);
  generation_.store(generation, std::memory_order_release);
  generation_.notify_all();
  work(generation, 0);
  for (uint32_t done; (done = done_.load(std::memory_order_acquire)) != uint32_t(items);)
    wait_for_change(done_, done);
}

void ThreadPool::work(uint32_t generation, int thread) {
  uint64_t ticket = ticket_.load(std::memory_order_acquire);
  while (true) {
    const uint32_t items = items_.load(std::memory_order_acquire);
    const Call call = call_.load(std::memory_order_acquire);
    const void* context = context_.load(std::memory_order_acquire);
    if (uint32_t(ticket >> 32) != generation || uint32_t(ticket) >= items) return;
    // Success means the loop was still `generation` after the three reads, so they belong to it.
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) continue;
    call(context, int64_t(uint32_t(ticket)), thread);
    if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == items) done_.notify_one();
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

void ThreadPool::worker_main(int thread) {
  uint32_t seen = 0;
  while (true) {
    wait_for_change(generation_, seen);
    if (stop_.load(std::memory_order_relaxed)) return;
    seen = generation_.load(std::memory_order_acquire);
    work(seen, thread);
  }
}

}  // namespace stamp

#include "kernels/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/quant_format.h"

namespace stamp {
namespace {

// Longer than what one thread does alone between a step's parallel loops: to be woken takes as long again.
constexpr std::chrono::microseconds kSpin(50);
constexpr int64_t kMostPieces = 0xffff;  // of a loop: a share counts them with 16 bits
constexpr int kPauses = 32;              // between looks at the clock: a pause takes 10 to 50 ns

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");  // `yield` does nothing on most cores
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

ThreadPool::ThreadPool(int threads) : shares_(size_t(threads > 0 ? threads : available_cores())) {
  for (int t = 1; t < int(shares_.size()); ++t) workers_.emplace_back([this, t] { worker_main(t); });
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
  const int64_t piece_items = divide_up(items, kMostPieces), pieces = divide_up(items, piece_items);
  done_.store(0, std::memory_order_relaxed);
  items_.store(items, std::memory_order_relaxed);
  piece_items_.store(piece_items, std::memory_order_relaxed);
  pieces_.store(uint32_t(pieces), std::memory_order_relaxed);
  call_.store(call, std::memory_order_relaxed);
  context_.store(context, std::memory_order_relaxed);
  for (int64_t t = 0; t < threads(); ++t)
    shares_[size_t(t)].left.store(uint64_t(generation) << 32 | uint64_t(pieces * t / threads()) << 16 |
                                      uint64_t(pieces * (t + 1) / threads()),
                                  std::memory_order_release);
  generation_.store(generation, std::memory_order_release);
  generation_.notify_all();
  work(generation, 0);
  for (uint32_t done; (done = done_.load(std::memory_order_acquire)) != uint32_t(pieces);)
    wait_for_change(done_, done);
}

void ThreadPool::work(uint32_t generation, int thread) {
  uint32_t done = 0, pieces = 0;
  for (int i = 0; i < threads(); ++i) {
    std::atomic<uint64_t>& left = shares_[size_t((thread + i) % threads())].left;
    uint64_t share = left.load(std::memory_order_acquire);
    while (uint32_t(share >> 32) == generation && (share >> 16 & 0xffff) < (share & 0xffff)) {
      // Read between the share and its change: there was something left of `generation` all the while, so the
      // loop that they belong to had not ended.
      const int64_t items = items_.load(std::memory_order_relaxed),
                    piece_items = piece_items_.load(std::memory_order_relaxed);
      pieces = pieces_.load(std::memory_order_relaxed);
      const Call call = call_.load(std::memory_order_relaxed);
      const void* context = context_.load(std::memory_order_relaxed);
      const uint64_t rest = i == 0 ? share + (1 << 16) : share - 1;
      if (!left.compare_exchange_weak(share, rest, std::memory_order_acq_rel, std::memory_order_acquire))
        continue;
      const int64_t first = int64_t(i == 0 ? share >> 16 & 0xffff : rest & 0xffff) * piece_items;
      for (int64_t item = first; item < std::min(first + piece_items, items); ++item)
        call(context, item, thread);
      ++done;
      share = left.load(std::memory_order_acquire);
    }
  }
  if (done > 0 && done_.fetch_add(done, std::memory_order_acq_rel) + done == pieces) done_.notify_one();
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

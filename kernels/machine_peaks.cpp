#include "kernels/machine_peaks.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/cpu/peaks.h"
#include "kernels/thread_pool.h"

namespace stamp {
namespace {

const PeakLoops& loops_of([[maybe_unused]] std::string_view ops) {
#if defined(__x86_64__)
  if (ops == "amx") return amx_peaks();
  if (ops == "avx512vnni") return avx512vnni_peaks();
  if (ops == "avx512") return avx512_peaks();
  if (ops == "avxvnni") return avxvnni_peaks();
  if (ops == "avx2") return avx2_peaks();
#elif defined(__aarch64__)
  if (ops == "neoni8mm") return neoni8mm_peaks();
  if (ops == "neon") return neon_peaks();
#endif
  return scalar_peaks();
}

/// The least seconds of some passes of work(thread) on all threads at once.
template <class Work>
double least_seconds(ThreadPool& pool, const Work& work) {
  constexpr int kPasses = 6;
  std::vector<float> used(size_t(pool.threads()));
  double least = 1e300;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    pool.parallel_for(pool.threads(), [&](int64_t part, int) {
      float result = work(part);
      asm volatile("" : "+m"(result));
      used[size_t(part)] = result;
    });
    least = std::min(least, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return least;
}

double ops_per_second(ThreadPool& pool, float (*loop)(int64_t steps), double ops_of_step) {
  constexpr double kLeastSeconds = 0.01;
  int64_t steps = 1 << 14;
  for (;; steps *= 2) {
    const double seconds = least_seconds(pool, [&](int64_t) { return loop(steps); });
    if (seconds >= kLeastSeconds) return ops_of_step * double(steps) * pool.threads() / seconds;
  }
}

double read_bytes_per_second(ThreadPool& pool, const PeakLoops& loops) {
  constexpr int64_t kFloats = 64 << 20, kUnit = 128;  // more than caches hold
  Buffer<float> memory(kFloats);
  const int64_t part = kFloats / pool.threads() / kUnit * kUnit;
  pool.parallel_for(pool.threads(), [&](int64_t i, int) {  // pages are there once they are written
    std::fill_n(memory.data() + i * part, part, 1.0f);
  });
  const double seconds =
      least_seconds(pool, [&](int64_t i) { return loops.read(memory.data() + i * part, part); });
  return double(part) * sizeof(float) * pool.threads() / seconds;
}

}  // namespace

double bound_seconds(const OpWork& work, const MachinePeaks& peaks) {
  const double arithmetic =
      work.int8_ops / peaks.int8_ops + work.int4_ops / peaks.int4_ops + work.float_ops / peaks.float_ops;
  return std::max(work.bytes / peaks.read_bytes, arithmetic);
}

MachinePeaks measure_peaks(std::string_view ops, int threads) {
  ThreadPool pool(threads);
  const PeakLoops& loops = loops_of(ops);
  return {.read_bytes = read_bytes_per_second(pool, loops),
          .int8_ops = ops_per_second(pool, loops.int8, loops.int8_ops),
          .int4_ops = ops_per_second(pool, loops.int4, loops.int4_ops),
          .float_ops = ops_per_second(pool, loops.floats, loops.float_ops)};
}

}  // namespace stamp

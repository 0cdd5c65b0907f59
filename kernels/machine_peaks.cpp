#include "kernels/machine_peaks.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <chrono>
#include <vector>

#include "kernels/buffer.h"
#include "kernels/thread_pool.h"

namespace stamp {
namespace {

/// A loop of `steps` steps; what one of them does is told beside it. The result is there to be used.
using Loop = float (*)(int64_t steps);
/// Reads `bytes`, a multiple of 512.
using Read = float (*)(const float* data, int64_t bytes);
struct Loops {
  Read read;
  Loop int8, int4, floats;
  double int8_ops, int4_ops, float_ops;  // of a step
};

constexpr int kChains = 10;    // sums that do not wait for each other: latency times instructions a clock
constexpr int kIntChains = 4;  // of either kind, which stay in registers
// Of products of a byte and 4 bits, as many as fit into 16 bits; as linear_int.inl adds them.
constexpr int kPairSteps = 8;

// The operand and the sum are "changed" in every step, or the compiler would take the products out of the
// loop, or do all of them before the sums.

float read_plain(const float* data, int64_t bytes) {
  float sums[16] = {};
  for (int64_t i = 0; i < bytes / int64_t{sizeof(float)}; i += 16)
    for (int c = 0; c < 16; ++c) sums[c] += data[i + c];
  return *std::max_element(sums, sums + 16);
}

float int_plain(int64_t steps) {
  int32_t sums[16] = {}, a[16], b[16];
  for (int c = 0; c < 16; ++c) a[c] = c, b[c] = c + 1;
  for (int64_t s = 0; s < steps; ++s) {
    asm volatile("" : "+m"(a));
    for (int c = 0; c < 16; ++c) sums[c] += a[c] * b[c];
  }
  return float(*std::max_element(sums, sums + 16));
}

float float_plain(int64_t steps) {
  float sums[16] = {}, a[16], b[16];
  for (int c = 0; c < 16; ++c) a[c] = float(c), b[c] = 1;
  for (int64_t s = 0; s < steps; ++s) {
    asm volatile("" : "+m"(a));
    for (int c = 0; c < 16; ++c) sums[c] += a[c] * b[c];
  }
  return *std::max_element(sums, sums + 16);
}

constexpr Loops kPlain{read_plain, int_plain, int_plain, float_plain, 32, 32, 32};

#if defined(__x86_64__)

#define STAMP_AVX2 __attribute__((target("avx2,fma")))

STAMP_AVX2 float read_avx2(const float* data, int64_t bytes) {
  __m256 sums[8];
#pragma GCC unroll 16
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  for (int64_t i = 0; i < bytes / int64_t{sizeof(float)}; i += 64)
#pragma GCC unroll 16
    for (int c = 0; c < 8; ++c) sums[c] = _mm256_add_ps(sums[c], _mm256_load_ps(data + i + 8 * c));
#pragma GCC unroll 16
  for (int c = 1; c < 8; ++c) sums[0] = _mm256_add_ps(sums[0], sums[c]);
  return _mm256_cvtss_f32(sums[0]);
}

STAMP_AVX2 float int8_avx2(int64_t steps) {
  __m256i sums[kIntChains], a = _mm256_set1_epi8(3);
  const __m256i b = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
#pragma GCC unroll 16
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  for (int64_t s = 0; s < steps; ++s)
#pragma GCC unroll 16
    for (int c = 0; c < kIntChains; ++c) {
      asm volatile("" : "+x"(a), "+x"(sums[c]));
      sums[c] = _mm256_add_epi32(sums[c], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
    }
#pragma GCC unroll 16
  for (int c = 1; c < kIntChains; ++c) sums[0] = _mm256_add_epi32(sums[0], sums[c]);
  return float(_mm256_cvtsi256_si32(sums[0]));
}

STAMP_AVX2 float int4_avx2(int64_t steps) {
  __m256i sums[kIntChains], pairs[kIntChains], a = _mm256_set1_epi8(3);
  const __m256i b = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
#pragma GCC unroll 16
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 16
    for (__m256i& pair : pairs) pair = _mm256_setzero_si256();
#pragma GCC unroll 16
    for (int p = 0; p < kPairSteps; ++p)
#pragma GCC unroll 16
      for (int c = 0; c < kIntChains; ++c) {
        asm volatile("" : "+x"(a), "+x"(pairs[c]));
        pairs[c] = _mm256_add_epi16(pairs[c], _mm256_maddubs_epi16(a, b));
      }
#pragma GCC unroll 16
    for (int c = 0; c < kIntChains; ++c)
      sums[c] = _mm256_add_epi32(sums[c], _mm256_madd_epi16(pairs[c], ones));
  }
#pragma GCC unroll 16
  for (int c = 1; c < kIntChains; ++c) sums[0] = _mm256_add_epi32(sums[0], sums[c]);
  return float(_mm256_cvtsi256_si32(sums[0]));
}

STAMP_AVX2 float float_avx2(int64_t steps) {
  __m256 sums[kChains], a = _mm256_set1_ps(1);
  const __m256 b = _mm256_set1_ps(2);
#pragma GCC unroll 16
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  for (int64_t s = 0; s < steps; ++s)
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) {
      asm volatile("" : "+x"(a), "+x"(sums[c]));
      sums[c] = _mm256_fmadd_ps(a, b, sums[c]);
    }
#pragma GCC unroll 16
  for (int c = 1; c < kChains; ++c) sums[0] = _mm256_add_ps(sums[0], sums[c]);
  return _mm256_cvtss_f32(sums[0]);
}

constexpr Loops kAvx2{
    read_avx2, int8_avx2, int4_avx2, float_avx2, 64 * kIntChains, kPairSteps * 64 * kIntChains, 16 * kChains};

#define STAMP_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
#define STAMP_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

STAMP_AVX512 float read_avx512(const float* data, int64_t bytes) {
  __m512 sums[8];
#pragma GCC unroll 16
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < bytes / int64_t{sizeof(float)}; i += 128)
#pragma GCC unroll 16
    for (int c = 0; c < 8; ++c) sums[c] = _mm512_add_ps(sums[c], _mm512_load_ps(data + i + 16 * c));
#pragma GCC unroll 16
  for (int c = 1; c < 8; ++c) sums[0] = _mm512_add_ps(sums[0], sums[c]);
  return _mm512_cvtss_f32(sums[0]);
}

STAMP_AVX512 float int8_avx512(int64_t steps) {
  __m512i sums[kIntChains], a = _mm512_set1_epi8(3);
  const __m512i b = _mm512_set1_epi8(5), ones = _mm512_set1_epi16(1);
#pragma GCC unroll 16
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (int64_t s = 0; s < steps; ++s)
#pragma GCC unroll 16
    for (int c = 0; c < kIntChains; ++c) {
      asm volatile("" : "+v"(a), "+v"(sums[c]));
      sums[c] = _mm512_add_epi32(sums[c], _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), ones));
    }
#pragma GCC unroll 16
  for (int c = 1; c < kIntChains; ++c) sums[0] = _mm512_add_epi32(sums[0], sums[c]);
  return float(_mm512_cvtsi512_si32(sums[0]));
}

STAMP_AVX512 float int4_avx512(int64_t steps) {
  __m512i sums[kIntChains], pairs[kIntChains], a = _mm512_set1_epi8(3);
  const __m512i b = _mm512_set1_epi8(5), ones = _mm512_set1_epi16(1);
#pragma GCC unroll 16
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (int64_t s = 0; s < steps; ++s) {
#pragma GCC unroll 16
    for (__m512i& pair : pairs) pair = _mm512_setzero_si512();
#pragma GCC unroll 16
    for (int p = 0; p < kPairSteps; ++p)
#pragma GCC unroll 16
      for (int c = 0; c < kIntChains; ++c) {
        asm volatile("" : "+v"(a), "+v"(pairs[c]));
        pairs[c] = _mm512_add_epi16(pairs[c], _mm512_maddubs_epi16(a, b));
      }
#pragma GCC unroll 16
    for (int c = 0; c < kIntChains; ++c)
      sums[c] = _mm512_add_epi32(sums[c], _mm512_madd_epi16(pairs[c], ones));
  }
#pragma GCC unroll 16
  for (int c = 1; c < kIntChains; ++c) sums[0] = _mm512_add_epi32(sums[0], sums[c]);
  return float(_mm512_cvtsi512_si32(sums[0]));
}

STAMP_VNNI float int8_vnni(int64_t steps) {
  __m512i sums[kChains], a = _mm512_set1_epi8(3);
  const __m512i b = _mm512_set1_epi8(5);
#pragma GCC unroll 16
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (int64_t s = 0; s < steps; ++s)
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) {
      asm volatile("" : "+v"(a), "+v"(sums[c]));
      sums[c] = _mm512_dpbusd_epi32(sums[c], a, b);
    }
#pragma GCC unroll 16
  for (int c = 1; c < kChains; ++c) sums[0] = _mm512_add_epi32(sums[0], sums[c]);
  return float(_mm512_cvtsi512_si32(sums[0]));
}

STAMP_AVX512 float float_avx512(int64_t steps) {
  __m512 sums[kChains], a = _mm512_set1_ps(1);
  const __m512 b = _mm512_set1_ps(2);
#pragma GCC unroll 16
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  for (int64_t s = 0; s < steps; ++s)
#pragma GCC unroll 16
    for (int c = 0; c < kChains; ++c) {
      asm volatile("" : "+v"(a), "+v"(sums[c]));
      sums[c] = _mm512_fmadd_ps(a, b, sums[c]);
    }
#pragma GCC unroll 16
  for (int c = 1; c < kChains; ++c) sums[0] = _mm512_add_ps(sums[0], sums[c]);
  return _mm512_cvtss_f32(sums[0]);
}

constexpr Loops kAvx512{read_avx512,  int8_avx512,      int4_avx512,
                        float_avx512, 128 * kIntChains, kPairSteps * 128 * kIntChains,
                        32 * kChains};
constexpr Loops kVnni{read_avx512,   int8_vnni,     int8_vnni,   float_avx512,
                      128 * kChains, 128 * kChains, 32 * kChains};

#endif

const Loops& loops_of(std::string_view ops) {
#if defined(__x86_64__)
  if (ops == "avx512vnni") return kVnni;
  if (ops == "avx512") return kAvx512;
  if (ops == "avx2") return kAvx2;
#endif
  return kPlain;
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

double ops_per_second(ThreadPool& pool, Loop loop, double ops_of_step) {
  constexpr double kLeastSeconds = 0.01;
  int64_t steps = 1 << 14;
  for (;; steps *= 2) {
    const double seconds = least_seconds(pool, [&](int64_t) { return loop(steps); });
    if (seconds >= kLeastSeconds) return ops_of_step * double(steps) * pool.threads() / seconds;
  }
}

double read_bytes_per_second(ThreadPool& pool, Read read) {
  constexpr int64_t kBytes = 256 << 20, kFloats = kBytes / int64_t{sizeof(float)};  // more than caches hold
  Buffer<float> memory(kFloats);
  const int64_t part_bytes = kBytes / pool.threads() / 512 * 512;
  const auto part_of = [&](int64_t part) {
    return memory.data() + part * (part_bytes / int64_t{sizeof(float)});
  };
  pool.parallel_for(pool.threads(), [&](int64_t part, int) {  // pages are there once they are written
    std::fill_n(part_of(part), part_bytes / int64_t{sizeof(float)}, 1.0f);
  });
  const double seconds = least_seconds(pool, [&](int64_t part) { return read(part_of(part), part_bytes); });
  return double(part_bytes) * pool.threads() / seconds;
}

}  // namespace

double bound_seconds(const OpWork& work, const MachinePeaks& peaks) {
  const double arithmetic =
      work.int8_ops / peaks.int8_ops + work.int4_ops / peaks.int4_ops + work.float_ops / peaks.float_ops;
  return std::max(work.bytes / peaks.read_bytes, arithmetic);
}

MachinePeaks measure_peaks(std::string_view ops, int threads) {
  ThreadPool pool(threads);
  const Loops& loops = loops_of(ops);
  return {.read_bytes = read_bytes_per_second(pool, loops.read),
          .int8_ops = ops_per_second(pool, loops.int8, loops.int8_ops),
          .int4_ops = ops_per_second(pool, loops.int4, loops.int4_ops),
          .float_ops = ops_per_second(pool, loops.floats, loops.float_ops)};
}

}  // namespace stamp

// Drawing a token from a row of logits: one block a row. All sums are of integers, so neither threads nor
// atomics leave a trace in them.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/kernels.h"
#include "kernels/cuda/launch.cuh"

namespace stamp::cuda {
namespace {

constexpr int kThreads = 1024, kDigitBits = 11, kBuckets = 1 << kDigitBits;
constexpr int kPlaceBits = 32 + kIdBits, kTopDigit = kPlaceBits - kDigitBits;
static_assert(kPlaceBits % kDigitBits == 0 && kBuckets == 2 * kThreads);

struct Shared {
  union {
    RowPeak::Partials peak;
    uint64_t warps[kWarpSize];
  };
  struct {
    uint64_t before, sum, index;
  } found;
  uint32_t low[kBuckets], high[kBuckets];  // of the buckets' sums
};

struct Sums {
  uint64_t before, total;
};

/// The sum of the values of the threads before this one, and of all. Ends with a barrier.
__device__ __forceinline__ Sums sums_before(uint64_t value, Shared& shared) {
  const int lane = threadIdx.x % kWarpSize, own_warp = threadIdx.x / kWarpSize;
  uint64_t up_to = value;
  for (int lanes = 1; lanes < kWarpSize; lanes *= 2) {
    const uint64_t below = __shfl_up_sync(kFullWarp, up_to, lanes);
    if (lane >= lanes) up_to += below;
  }
  if (lane == kWarpSize - 1) shared.warps[own_warp] = up_to;
  __syncthreads();
  Sums sums{up_to - value, 0};
#pragma unroll 4
  for (int warp = 0; warp < kThreads / kWarpSize; ++warp) {
    if (warp == own_warp) sums.before += sums.total;
    sums.total += shared.warps[warp];
  }
  __syncthreads();
  return sums;
}

/// Adds to a bucket, in words: shared memory has no addition of 64 bits, only an exchange in a loop.
__device__ __forceinline__ void add_to_bucket(Shared& shared, uint32_t bucket, uint64_t amount) {
  const auto low = uint32_t(amount);
  const bool carries = atomicAdd(&shared.low[bucket], low) > ~low;
  const uint32_t high = uint32_t(amount >> 32) + (carries ? 1 : 0);
  if (high != 0) atomicAdd(&shared.high[bucket], high);
}

/// body(logit, id) for ids begin, begin + step and so on; several loads are on their way at once.
template <class Body>
__device__ __forceinline__ void for_tokens(const float* x, uint32_t begin, uint32_t end, uint32_t step,
                                           const Body& body) {
  constexpr uint32_t kAtOnce = 4;
  for (uint32_t first = begin; first < end; first += kAtOnce * step) {
    float logits[kAtOnce];
#pragma unroll
    for (uint32_t i = 0; i < kAtOnce; ++i)
      if (const uint32_t id = first + i * step; id < end) logits[i] = x[id];
#pragma unroll
    for (uint32_t i = 0; i < kAtOnce; ++i)
      if (const uint32_t id = first + i * step; id < end) body(logits[i], id);
  }
}

/// Where, in the order of places, the running sum of amounts reaches wanted(sum of all), which is between 1
/// and that: this place or one behind it that is followed by amounts of 0. `amount` of a logit and its place
/// is the same for equal logits, or 0. By radix: digit after digit of the place, the bucket of tokens that
/// has it.
template <class Amount, class Wanted>
__device__ uint64_t last_place(const float* x, uint32_t cols, const Amount& amount, const Wanted& wanted,
                               Shared& shared) {
  uint64_t digits = 0, least = 0;
  for (int shift = kTopDigit;; shift -= kDigitBits) {
    for (int bucket = threadIdx.x; bucket < kBuckets; bucket += kThreads)
      shared.low[bucket] = shared.high[bucket] = 0;
    __syncthreads();
    for_tokens(x, threadIdx.x, cols, kThreads, [&](float logit, uint32_t id) {
      const uint64_t place = place_of(logit, id);
      if (place >> shift >> kDigitBits != digits) return;
      if (const uint64_t a = amount(logit, place); a != 0)
        add_to_bucket(shared, uint32_t(place >> shift) % kBuckets, a);
    });
    __syncthreads();
    const uint32_t first = 2 * threadIdx.x, second = first + 1;
    const uint2 low = *reinterpret_cast<const uint2*>(&shared.low[first]),
                high = *reinterpret_cast<const uint2*>(&shared.high[first]);
    const uint64_t in_first = uint64_t{high.x} << 32 | low.x, in_second = uint64_t{high.y} << 32 | low.y;
    const auto [before, total] = sums_before(in_first + in_second, shared);
    if (shift == kTopDigit) least = wanted(total);
    const uint64_t between = before + in_first;
    if (before < least && least <= between) shared.found = {before, in_first, first};
    if (between < least && least <= between + in_second) shared.found = {between, in_second, second};
    __syncthreads();
    const auto found = shared.found;
    digits = digits << kDigitBits | found.index;
    least -= found.before;
    // A bucket of which all is needed ends the search. Once the digits tell the logit, that is one without an
    // amount too many, since they are equal.
    const uint64_t one = shift <= kIdBits ? amount(logit_at(digits << shift), 0) : 1;
    if (shift == 0 || found.sum - least < one) return ((digits + 1) << shift) - 1;
  }
}

/// Where, in the order of ids, the running sum of amounts reaches wanted(sum of all), which is between 1 and
/// that.
template <class Amount, class Wanted>
__device__ uint32_t first_id(const float* x, uint32_t cols, const Amount& amount, const Wanted& wanted,
                             Shared& shared) {
  // Sums over strips of ids, a warp each; then within the strip.
  constexpr uint32_t kWarps = kThreads / kWarpSize;
  const uint32_t strip = uint32_t(round_up(divide_up(cols, kWarps), kWarpSize)),
                 warp = threadIdx.x / kWarpSize;
  const auto end_of = [&](uint32_t of) { return min(cols, (of + 1) * strip); };
  uint64_t sum = 0;
  for_tokens(x, warp * strip + threadIdx.x % kWarpSize, end_of(warp), kWarpSize,
             [&](float logit, uint32_t id) { sum += amount(logit, place_of(logit, id)); });
  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kFullWarp, sum, lanes);
  if (threadIdx.x % kWarpSize == 0) shared.warps[warp] = sum;
  __syncthreads();
  uint64_t total = 0;
#pragma unroll 4
  for (uint32_t w = 0; w < kWarps; ++w) total += shared.warps[w];
  uint64_t least = wanted(total);
  uint32_t of = 0;
  while (least > shared.warps[of]) least -= shared.warps[of++];
  __syncthreads();
  for (uint32_t begin = of * strip;; begin += kThreads) {
    const uint32_t c = begin + threadIdx.x;
    const uint64_t own = c < end_of(of) ? amount(x[c], place_of(x[c], c)) : 0;
    const auto [before, sum_of_chunk] = sums_before(own, shared);
    if (before < least && least <= before + own) shared.found.index = c;
    __syncthreads();
    if (least <= sum_of_chunk) return uint32_t(shared.found.index);
    least -= sum_of_chunk;
  }
}

__global__ void __launch_bounds__(kThreads)
    draw_kernel(int32_t* out, Mat<const float> logits, const Draw* draws) {
  wait_for_predecessors();
  auto& shared = shared_storage<Shared>();
  const Draw& draw = draws[blockIdx.x];
  const float* const x = logits.row(draw.row);
  const auto cols = uint32_t(logits.cols);
  const RowPeak peak = RowPeak::of<kThreads>(x, logits.cols, shared.peak);
  if (!peak.is_finite) {
    if (threadIdx.x == 0) out[blockIdx.x] = -1;
    return;
  }
  const DrawWeights weight(peak.value, draw.temperature);
  uint64_t last = ~uint64_t{0};  // of the places that are left
  if (draw.top_k > 0 && draw.top_k < logits.cols)
    last = last_place(
        x, cols, [](float, uint64_t) { return uint64_t{1}; }, [&](uint64_t) { return uint64_t(draw.top_k); },
        shared);
  if (draw.top_p < 1.0f) {
    const auto kept = [&](float logit, uint64_t place) { return place <= last ? weight(logit) : 0; };
    last = min(last, last_place(
                         x, cols, kept, [&](uint64_t total) { return draw.nucleus(total); }, shared));
  }
  const auto kept = [&, least = draw.least_weight()](float logit, uint64_t place) {
    const uint64_t w = place <= last ? weight(logit) : 0;
    return w >= least ? w : 0;
  };
  const uint32_t token = first_id(
      x, cols, kept, [&](uint64_t total) { return draw.drawn(total); }, shared);
  if (threadIdx.x == 0) out[blockIdx.x] = int32_t(token);
}

}  // namespace

void draw(int32_t* out, Mat<const float> logits, const Draw* draws, int64_t count, cudaStream_t stream) {
  launch("draw", draw_kernel, {uint32_t(count), kThreads, sizeof(Shared), kOverlaps}, stream, out, logits,
         draws);
}

}  // namespace stamp::cuda

// Keys and values into the cache's pages. A block handles one page of one head, keys or values.
#include "kernels/cuda/kv_page.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/seq_transform.cuh"

namespace stamp::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarpSize;

/// Keys are turned in shared memory [slots, head_dim + 1]: their channels' tokens lie together.
__global__ void __launch_bounds__(kThreads)
    append_float_kernel(Cache cache, Mat<const float> k, Mat<const float> v, const PageWrite* writes) {
  wait_for_predecessors();
  const PageWrite write = writes[blockIdx.x];
  const int64_t head = blockIdx.y;
  const int d = int(cache.head_dim), count = write.end - write.begin, tid = int(threadIdx.x);
  const bool value = blockIdx.z == 1;
  float* const part = float_part(cache, write.page, head, value);
  auto* const turned = shared_array<float>(int64_t{kB} * (d + 1));
  for (int i = tid; i < count * d; i += kThreads) {
    const int slot = i / d, c = i % d;
    const float x = (value ? v : k).row(write.row + slot)[head * d + c];
    if (value) part[(write.begin + slot) * d + c] = x;
    else turned[slot * (d + 1) + c] = x;
  }
  if (value) return;
  __syncthreads();
  for (int i = tid; i < count * d; i += kThreads)
    part[i / count * kB + write.begin + i % count] = turned[i % count * (d + 1) + i / count];
}

/// Shared memory: parameters of rows, then tokens [kB, d] of the block, later coefficients. A warp reads a
/// row or a thread one column, neighbours together either way.
struct Parameters {
  uint16_t scale[kB];
  uint8_t zero[kB];
};
STAMP_INLINE int64_t shared_bytes(int64_t head_dim) {
  return int64_t{sizeof(Parameters)} + kB * head_dim * int64_t{sizeof(float)};
}

/// Codes rows [begin, begin + count) of a side from x [count, d].
__device__ __forceinline__ void write_rows(std::byte* part, const KvSide& side, int begin, int count,
                                           const float* x, Parameters& p) {
  for (int i = int(threadIdx.x) / kWarpSize; i < count; i += kWarps) {
    const KvRowParameters row = write_kv_codes(part, side, begin + i, x + i * side.head_dim);
    if (threadIdx.x % kWarpSize == 0) p.scale[i] = row.scale, p.zero[i] = row.zero;
  }
  __syncthreads();
  const int i = int(threadIdx.x);
  if (i >= count) return;
  reinterpret_cast<uint16_t*>(part + KvSide::kScales)[begin + i] = p.scale[i];
  part[KvSide::kZeros + begin + i] = std::byte(p.zero[i]);
}

__global__ void __launch_bounds__(kThreads)
    append_coded_kernel(Cache cache, Mat<const float> k, Mat<const float> v, const PageWrite* writes,
                        const DctTable* dct) {
  wait_for_predecessors();
  const PageWrite write = writes[blockIdx.x];
  const int64_t head = blockIdx.y;
  const int d = int(cache.head_dim), tid = int(threadIdx.x), value = int(blockIdx.z);
  const int count = write.end - write.begin;
  const bool whole = count == kB;
  auto* const memory = shared_array<std::byte>(shared_bytes(d));
  auto& p = *reinterpret_cast<Parameters*>(memory);
  auto* const x = reinterpret_cast<float*>(memory + sizeof(Parameters));
  for (int i = tid; i < count * d; i += kThreads)
    x[i] = (value == 1 ? v : k).row(write.row + i / d)[head * d + i % d];
  __syncthreads();
  if (!write.seals || !whole) {
    std::byte* const open = coded_part(cache, write.page, head, value, false);
    write_rows(open, cache.open_side, write.begin, count, x, p);
    if (!write.seals) return;
    __syncthreads();  // the page is full: it is sealed from what it holds
    if (tid < kB) {
      p.scale[tid] = reinterpret_cast<const uint16_t*>(open + KvSide::kScales)[tid];
      p.zero[tid] = uint8_t(open[KvSide::kZeros + tid]);
    }
    __syncthreads();
    for (int i = tid; i < kB * d; i += kThreads) {
      const int r = i / d, c = i % d;
      const auto* const q = reinterpret_cast<const uint8_t*>(open + cache.open_side.row_offset(r));
      x[i] = half_bits_to_float(p.scale[r]) * (float(kv_code(q, kTokenBits, c, d)) - float(p.zero[r]));
    }
    __syncthreads();
  }
  for (int c = tid; c < d; c += kThreads) {
    float t[kB];
#pragma unroll
    for (int r = 0; r < kB; ++r) t[r] = x[r * d + c];
    sums<false>(t, cache.format.plan, dct);
    scale_rows(t, cache.format.plan);
#pragma unroll
    for (int r = 0; r < kB; ++r) x[r * d + c] = t[r];
  }
  __syncthreads();
  write_rows(coded_part(cache, write.page, head, value, true), cache.sealed_side, 0, kB, x, p);
}

}  // namespace

void append_kv(const Cache& cache, Mat<const float> k, Mat<const float> v, const PageWrite* writes,
               int64_t count, const DctTable* dct, cudaStream_t stream) {
  const dim3 grid(uint32_t(count), uint32_t(cache.kv_heads), 2);
  if (!cache.format.coded)
    return launch("append_float", append_float_kernel,
                  {grid, kThreads, size_t(kB * (cache.head_dim + 1)) * sizeof(float), kOverlaps}, stream,
                  cache, k, v, writes);
  const auto bytes = size_t(shared_bytes(cache.head_dim));
  launch("append_coded", append_coded_kernel, {grid, kThreads, bytes, kOverlaps}, stream, cache, k, v, writes,
         dct);
}

}  // namespace stamp::cuda

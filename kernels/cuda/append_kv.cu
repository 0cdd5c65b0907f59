// Keys and values into the cache's pages. A block handles one page of one head, keys or values.
#include "kernels/cuda/kv_page.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/seq_transform.cuh"

namespace stamp::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarpSize;

__global__ void append_float_kernel(Cache cache, Mat<const float> k, Mat<const float> v,
                                    const PageWrite* writes) {
  const PageWrite write = writes[blockIdx.x];
  const int64_t head = blockIdx.y, d = cache.head_dim;
  const bool value = blockIdx.z == 1;
  float* const part = float_part(cache, write.page, head, value);
  const int64_t count = (write.end - write.begin) * d;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) {
    const int64_t slot = write.begin + i / d, c = i % d;
    const float x = (value ? v : k).row(write.row + i / d)[head * d + c];
    if (value) part[slot * d + c] = x;
    else part[c * kBlock + slot] = x;
  }
}

/// Tokens [kB, d] of the block in shared memory, then coefficients. Pitch: a warp reads a row or writes one
/// column of it, consecutive either way.
__global__ void __launch_bounds__(kThreads)
    append_coded_kernel(Cache cache, Mat<const float> k, Mat<const float> v, const PageWrite* writes,
                        const DctTable* dct) {
  const PageWrite write = writes[blockIdx.x];
  const int64_t head = blockIdx.y;
  const int d = int(cache.head_dim), warp = int(threadIdx.x) / kWarpSize, value = int(blockIdx.z);
  const int count = write.end - write.begin;
  const bool whole = count == kB;
  float* const x = shared_array<float>(kB * cache.head_dim);
  for (int i = int(threadIdx.x); i < count * d; i += kThreads)
    x[i] = (value == 1 ? v : k).row(write.row + i / d)[head * d + i % d];
  __syncthreads();
  if (!write.seals || !whole) {
    std::byte* const open = coded_part(cache, write.page, head, value, false);
    for (int i = warp; i < count; i += kWarps)
      write_kv_row(open, cache.open_side, write.begin + i, x + i * d);
    if (!write.seals) return;
    __syncthreads();  // the page is full: it is sealed from what it holds
    for (int i = int(threadIdx.x); i < kB * d; i += kThreads) {
      const int r = i / d, c = i % d;
      const KvParameters p = kv_parameters(open, cache.open_side, r);
      const auto* const q = reinterpret_cast<const uint8_t*>(open + cache.open_side.row_offset(r));
      x[i] = p.scale * (float(kv_code(q, kTokenBits, c, d)) - p.zero);
    }
    __syncthreads();
  }
  for (int c = int(threadIdx.x); c < d; c += kThreads) {
    float t[kB];
#pragma unroll
    for (int r = 0; r < kB; ++r) t[r] = x[r * d + c];
    transform<false>(t, cache.format.plan, dct);
#pragma unroll
    for (int r = 0; r < kB; ++r) x[r * d + c] = t[r];
  }
  __syncthreads();
  std::byte* const sealed = coded_part(cache, write.page, head, value, true);
  for (int r = warp; r < kB; r += kWarps) write_kv_row(sealed, cache.sealed_side, r, x + r * d);
}

}  // namespace

void append_kv(const Cache& cache, Mat<const float> k, Mat<const float> v, const PageWrite* writes,
               int64_t count, const DctTable* dct, cudaStream_t stream) {
  const dim3 grid(uint32_t(count), uint32_t(cache.kv_heads), 2);
  if (!cache.format.coded)
    return launch("append_float", append_float_kernel, {grid, kThreads}, stream, cache, k, v, writes);
  const size_t bytes = size_t(kBlock * cache.head_dim) * sizeof(float);
  launch("append_coded", append_coded_kernel, {grid, kThreads, bytes}, stream, cache, k, v, writes, dct);
}

}  // namespace stamp::cuda

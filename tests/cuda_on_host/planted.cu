// One mistake a kernel, of the kinds that CUDA code is known for.
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/ptx.cuh"
#include "tests/cuda_on_host/planted.h"

namespace stamp::cuda_on_host {
namespace {

constexpr int kThreads = 64;
constexpr unsigned kFull = 0xffffffffu;

/// Device memory for one launch.
template <class T>
class Device {
 public:
  explicit Device(int n, bool written = true) {
    void* p = nullptr;
    cuda::check(cudaMalloc(&p, size_t(n) * sizeof(T)), "cudaMalloc");
    data_ = static_cast<T*>(p);
    if (written) cuda::check(cudaMemsetAsync(data_, 0, size_t(n) * sizeof(T), nullptr), "cudaMemset");
  }
  ~Device() { Memory::instance().release(data_); }
  T* get() { return data_; }

 private:
  T* data_ = nullptr;
};

template <class... P>
void run(void (*kernel)(P...), cuda::Shape shape, std::type_identity_t<P>... arguments) {
  cuda::launch("planted", kernel, shape, nullptr, arguments...);
  cuda::check(cudaStreamSynchronize(nullptr), "planted");
}

struct Words {
  float word[kThreads];
};
struct Pairs {
  alignas(16) uint32_t word[2 * kThreads + 4];
};

template <bool kPlanted>
__global__ void copy(float* out, const float* in, int n) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (kPlanted ? i <= n : i < n) out[i] = in[i];
}
void guard(bool planted) {  // i <= n instead of i < n
  Device<float> in(101), out(100);
  run(planted ? copy<true> : copy<false>, {2, kThreads}, out.get(), in.get(), 100);
}
void short_input(bool planted) {
  Device<float> in(planted ? 99 : 100), out(100);
  run(copy<false>, {2, kThreads}, out.get(), in.get(), 100);
}

template <bool kPlanted>
__global__ void difference(float* out, const float* in) {
  const int i = int(threadIdx.x);
  out[i] = kPlanted || i > 0 ? in[i] - in[i - 1] : in[i];
}
void before_the_first(bool planted) {
  Device<float> in(kThreads), out(kThreads);
  run(planted ? difference<true> : difference<false>, {1, kThreads}, out.get(), in.get());
}

void use_after_free(bool planted) {
  Device<float> out(kThreads), kept(kThreads);
  float* in = kept.get();
  if (planted) in = Device<float>(kThreads).get();
  run(copy<false>, {1, kThreads}, out.get(), in, kThreads);
}

void host_pointer(bool planted) {
  Device<float> in(kThreads), out(kThreads);
  static float host[kThreads];
  run(copy<false>, {1, kThreads}, planted ? host : out.get(), in.get(), kThreads);
}

void unwritten_input(bool planted) {
  Device<float> in(kThreads, !planted), out(kThreads);
  run(copy<false>, {1, kThreads}, out.get(), in.get(), kThreads);
}

void read_only_output(bool planted) {
  Device<float> in(kThreads), out(kThreads);
  cuda::check(cudaStreamSynchronize(nullptr), "memset");
  if (planted) Memory::instance().make_read_only(out.get(), kThreads * sizeof(float));
  run(copy<false>, {1, kThreads}, out.get(), in.get(), kThreads);
}

template <bool kPlanted>
__global__ void vector_copy(float4* out, const float* in) {
  out[threadIdx.x] = *reinterpret_cast<const float4*>(in + 4 * threadIdx.x + (kPlanted ? 2 : 0));
}
void misaligned_global(bool planted) {
  Device<float> in(4 * kThreads + 4);
  Device<float4> out(kThreads);
  run(planted ? vector_copy<true> : vector_copy<false>, {1, kThreads}, out.get(), in.get());
}

template <bool kPlanted>
__global__ void shared_pairs(uint32_t* out) {
  auto& s = cuda::shared_storage<Pairs>();
  const int i = int(threadIdx.x);
  *reinterpret_cast<uint2*>(s.word + 2 * i + (kPlanted ? 1 : 0)) = make_uint2(uint32_t(i), uint32_t(i));
  __syncthreads();
  out[i] = s.word[2 * i + 1];
}
void misaligned_shared(bool planted) {
  Device<uint32_t> out(kThreads);
  run(planted ? shared_pairs<true> : shared_pairs<false>, {1, kThreads, sizeof(Pairs)}, out.get());
}

template <bool kPlanted>
__global__ void neighbour(float* out) {  // reads the neighbour's word
  auto& s = cuda::shared_storage<Words>();
  const int i = int(threadIdx.x);
  s.word[i] = float(i);
  if (!kPlanted) __syncthreads();
  out[i] = s.word[(i + 1) % kThreads];
}
void no_barrier_before_read(bool planted) {
  Device<float> out(kThreads);
  run(planted ? neighbour<true> : neighbour<false>, {1, kThreads, sizeof(Words)}, out.get());
}

template <bool kPlanted>
__global__ void shift_twice(float* out) {  // the second round overwrites what the first still reads
  auto& s = cuda::shared_storage<Words>();
  const int i = int(threadIdx.x);
  float mine = float(i);
  for (int round = 0; round < 2; ++round) {
    s.word[i] = mine;
    __syncthreads();
    mine = s.word[(i + 1) % kThreads];
    if (!kPlanted) __syncthreads();
  }
  out[i] = mine;
}
void no_barrier_before_overwrite(bool planted) {
  Device<float> out(kThreads);
  run(planted ? shift_twice<true> : shift_twice<false>, {1, kThreads, sizeof(Words)}, out.get());
}

template <bool kPlanted>
__global__ void half_filled(float* out) {
  auto& s = cuda::shared_storage<Words>();
  const int i = int(threadIdx.x);
  if (!kPlanted || i < kThreads / 2) s.word[i] = 1.0f;
  __syncthreads();
  out[i] = s.word[kThreads - 1 - i];
}
void unwritten_shared(bool planted) {
  Device<float> out(kThreads);
  run(planted ? half_filled<true> : half_filled<false>, {1, kThreads, sizeof(Words)}, out.get());
}

template <bool kPlanted>
__global__ void same_word(float* out) {
  auto& s = cuda::shared_storage<Words>();
  const int i = int(threadIdx.x);
  s.word[kPlanted ? i / 2 : i] = float(i);
  __syncthreads();
  out[i] = s.word[i / 2];
}
void two_writers(bool planted) {
  Device<float> out(kThreads);
  run(planted ? same_word<true> : same_word<false>, {1, kThreads, sizeof(Words)}, out.get());
}

template <bool kPlanted>
__global__ void block_results(float* out) {
  if (threadIdx.x == 0) out[kPlanted ? 0 : blockIdx.x] = float(blockIdx.x);
}
void blocks_write_one_place(bool planted) {
  Device<float> out(4);
  run(planted ? block_results<true> : block_results<false>, {4, kThreads}, out.get());
}

template <bool kPlanted>
__global__ void in_place(float* x) {  // a block reads what its neighbour writes
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x), n = int(gridDim.x * blockDim.x);
  const float value = x[kPlanted ? (i + int(blockDim.x)) % n : i];
  x[i] = value + 1.0f;
}
void blocks_read_each_other(bool planted) {
  Device<float> x(4 * kThreads);
  run(planted ? in_place<true> : in_place<false>, {4, kThreads}, x.get());
}

template <bool kPlanted>
__global__ void count_all(unsigned* total) {
  if (kPlanted) *total += 1;
  else atomicAdd(total, 1u);
}
void plain_increment(bool planted) {
  Device<unsigned> total(1);
  run(planted ? count_all<true> : count_all<false>, {2, kThreads}, total.get());
}

template <bool kPlanted>
__global__ void publish(unsigned* total, unsigned* out) {  // an atomic does not order a plain read
  auto* const flags = total + 1;
  atomicAdd(flags + threadIdx.x % 2, 1u);
  if (!kPlanted) __syncthreads();
  out[threadIdx.x] = flags[0];
}
void plain_read_of_atomic(bool planted) {
  Device<unsigned> total(3), out(kThreads);
  run(planted ? publish<true> : publish<false>, {1, kThreads}, total.get(), out.get());
}

template <bool kPlanted>
__global__ void conditional_barrier(float* out) {
  auto& s = cuda::shared_storage<Words>();
  const int i = int(threadIdx.x);
  s.word[i] = 1.0f;
  if (!kPlanted || i < 48) __syncthreads();
  out[i] = s.word[i];
}
void divergent_barrier(bool planted) {
  Device<float> out(kThreads);
  run(planted ? conditional_barrier<true> : conditional_barrier<false>, {1, kThreads, sizeof(Words)},
      out.get());
}

template <bool kPlanted>
__global__ void early_return(float* out, int n) {
  auto& s = cuda::shared_storage<Words>();
  const int i = int(threadIdx.x);
  if (kPlanted && i >= n) return;
  s.word[i] = 1.0f;
  __syncthreads();
  if (i < n) out[i] = s.word[n - 1 - i];
}
void return_before_barrier(bool planted) {
  Device<float> out(kThreads);
  run(planted ? early_return<true> : early_return<false>, {1, kThreads, sizeof(Words)}, out.get(), 50);
}

template <bool kPlanted>
__global__ void two_barriers(float* out) {
  const int i = int(threadIdx.x);
  if (kPlanted && i % 2 == 0) {
    out[i] = 1.0f;
    __syncthreads();
  } else {
    out[i] = 2.0f;
    __syncthreads();
  }
}
__global__ void one_barrier(float* out) {
  out[threadIdx.x] = 1.0f;
  __syncthreads();
}
void barriers_at_two_places(bool planted) {
  Device<float> out(kThreads);
  run(planted ? two_barriers<true> : one_barrier, {1, kThreads}, out.get());
}

template <bool kPlanted>
__global__ void warp_sum(int* out) {
  int sum = int(threadIdx.x);
  const unsigned mask = kPlanted ? 0x0000ffffu : kFull;
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(mask, sum, lanes);
  out[threadIdx.x] = sum;
}
void caller_not_in_mask(bool planted) {
  Device<int> out(32);
  run(planted ? warp_sum<true> : warp_sum<false>, {1, 32}, out.get());
}

template <bool kPlanted>
__global__ void half_warp_shuffle(int* out) {
  int value = int(threadIdx.x);
  if (threadIdx.x < 16) value = __shfl_sync(0x0000ffffu, value, kPlanted ? 20 : 10);
  out[threadIdx.x] = value;
}
void shuffle_from_outside(bool planted) {
  Device<int> out(32);
  run(planted ? half_warp_shuffle<true> : half_warp_shuffle<false>, {1, 32}, out.get());
}

template <bool kPlanted>
__global__ void shuffle_after_exit(int* out) {
  if (kPlanted && threadIdx.x == 31) return;
  out[threadIdx.x] = __shfl_down_sync(kFull, int(threadIdx.x), 1);
}
void lane_ended(bool planted) {
  Device<int> out(32);
  run(planted ? shuffle_after_exit<true> : shuffle_after_exit<false>, {1, 32}, out.get());
}

template <bool kPlanted>
__global__ void vote(int* out) {
  int result = 0;
  if (!kPlanted || threadIdx.x < 16) result = __any_sync(kFull, threadIdx.x == 3);
  else result = int(__shfl_sync(kFull, 1, 0));
  out[threadIdx.x] = result;
}
void lanes_in_different_operations(bool planted) {
  Device<int> out(32);
  run(planted ? vote<true> : vote<false>, {1, 32}, out.get());
}

template <bool kPlanted>
__global__ void warp_exchange(float* out) {
  auto& s = cuda::shared_storage<Words>();
  const int i = int(threadIdx.x);
  s.word[i] = float(i);
  if (!kPlanted) __syncwarp();
  const float other = s.word[i ^ 1];
  __syncwarp();
  s.word[i] = other;
  out[i] = s.word[i];
}
void no_warp_barrier(bool planted) {
  Device<float> out(kThreads);
  run(planted ? warp_exchange<true> : warp_exchange<false>, {1, kThreads, sizeof(Words)}, out.get());
}

__global__ void warps_exchange(float* out, int distance) {
  auto& s = cuda::shared_storage<Words>();
  const int i = int(threadIdx.x);
  s.word[i] = float(i);
  __syncwarp();
  out[i] = s.word[(i ^ distance) % kThreads];
}
void warp_barrier_between_warps(bool planted) {
  Device<float> out(kThreads);
  run(warps_exchange, {1, kThreads, sizeof(Words)}, out.get(), planted ? 32 : 1);
}

struct Stages {
  alignas(16) float word[2][4 * kThreads];
};
/// How the pipeline below is damaged.
enum class Pipe {
  kFine,
  kNoWait,
  kWaitsForOneLess,
  kNoCommit,
  kNoBarrier,
  kNoBarrierBeforeReuse,
  kOddSource
};
template <Pipe kPipe>
__global__ void pipeline(float* out, const float* in, int steps) {  // sums `steps` blocks of floats
  auto& s = cuda::shared_storage<Stages>();
  const int i = int(threadIdx.x);
  const auto fetch = [&](int step) {
    if (step < steps)
      cuda::copy_async_16(&s.word[step % 2][4 * i],
                          in + step * 4 * kThreads + 4 * i + (kPipe == Pipe::kOddSource ? 1 : 0));
    if (kPipe != Pipe::kNoCommit) cuda::commit_copies();
  };
  float sum = 0;
  fetch(0);
  for (int step = 0; step < steps; ++step) {
    fetch(step + 1);
    if (kPipe == Pipe::kWaitsForOneLess) cuda::wait_copies<2>();
    else if (kPipe != Pipe::kNoWait) cuda::wait_copies<1>();
    if (kPipe != Pipe::kNoBarrier) __syncthreads();
    for (int j = 0; j < 4; ++j) sum += s.word[step % 2][(4 * i + 4 + j) % (4 * kThreads)];
    if (kPipe != Pipe::kNoBarrierBeforeReuse) __syncthreads();
  }
  out[i] = sum;
}
template <Pipe kPipe>
void damaged_pipeline(bool planted) {
  Device<float> in(4 * 4 * kThreads + 4), out(kThreads);
  run(planted ? pipeline<kPipe> : pipeline<Pipe::kFine>, {1, kThreads, sizeof(Stages)}, out.get(), in.get(),
      4);
}

__global__ void copy_to_global(float* out, const float* in, int planted) {
  auto& s = cuda::shared_storage<Stages>();
  cuda::copy_async_16(planted != 0 ? out : s.word[0], in);
  cuda::commit_copies();
  cuda::wait_copies<0>();
  out[4] = 1.0f;
}
void async_copy_to_global(bool planted) {
  Device<float> in(8), out(8);
  run(copy_to_global, {1, 1, sizeof(Stages)}, out.get(), in.get(), planted);
}

enum class Overlap { kWaits, kReadsEarly, kWritesEarly, kNeverWaits };
template <Overlap kOverlap>
__global__ void overlapping_copy(float* out, const float* weight, const float* in) {
  const int i = int(threadIdx.x);
  const float w = weight[i];
  float x = kOverlap == Overlap::kReadsEarly ? in[i] : 0.0f;
  if (kOverlap == Overlap::kWritesEarly) out[i] = w;
  if (kOverlap != Overlap::kNeverWaits) cuda::wait_for_predecessors();
  if (kOverlap != Overlap::kReadsEarly) x = in[i];
  out[i] = w * x;
}
template <Overlap kPlanted>
void overlapping(bool planted) {  // what the kernel before wrote, and what the host did
  Device<float> in(kThreads), middle(kThreads), out(kThreads);
  run(copy<false>, {1, kThreads}, middle.get(), in.get(), kThreads);
  run(planted ? overlapping_copy<kPlanted> : overlapping_copy<Overlap::kWaits>,
      {1, kThreads, 0, cuda::kOverlaps}, out.get(), in.get(), middle.get());
}

struct Rows {
  float row[4][16], after[16];
};
__global__ void index_rows(float* out, int rows) {
  auto& s = cuda::shared_storage<Rows>();
  if (threadIdx.x == 0)
    for (int r = 0; r < rows; ++r)
      for (int i = 0; i < 16; ++i) s.row[r][i] = float(r);
  __syncthreads();
  out[threadIdx.x] = s.row[threadIdx.x % 4][threadIdx.x / 4];
}
void beyond_an_array(bool planted) {
  Device<float> out(kThreads);
  run(index_rows, {1, kThreads, sizeof(Rows)}, out.get(), planted ? 5 : 4);
}

void too_little_shared(bool planted) {
  Device<float> out(kThreads);
  run(neighbour<false>, {1, kThreads, planted ? sizeof(Words) / 2 : sizeof(Words)}, out.get());
}
void too_much_shared(bool planted) {
  Device<float> out(kThreads);
  run(neighbour<false>, {1, kThreads, size_t(planted ? 164 : 100) << 10}, out.get());
}
void too_many_threads(bool planted) {
  Device<float> in(2048), out(2048);
  run(copy<false>, {1, planted ? 2048u : 1024u}, out.get(), in.get(), planted ? 2048 : 1024);
}
void too_large_a_grid(bool planted) {
  Device<float> in(8), out(8);
  run(copy<false>, {dim3(1, planted ? 65536u : 1u), 8}, out.get(), in.get(), 8);
}

template <bool kPlanted>
__global__ void half_warp_product(int32_t* out) {
  int32_t d[4] = {};
  const uint32_t a[4] = {1, 1, 1, 1}, b[2] = {1, 1};
  if (!kPlanted || threadIdx.x < 16) cuda::mma_u8_u8(d, a, b, d);
  out[threadIdx.x] = d[0];
}
void product_of_half_a_warp(bool planted) {
  Device<int32_t> out(32);
  run(planted ? half_warp_product<true> : half_warp_product<false>, {1, 32}, out.get());
}

/// How a product of four warps is damaged.
enum class Wgmma {
  kFine,
  kNoWait,
  kNoFence,
  kNoProxyFence,
  kSumsTouched,
  kOperandReused,
  kRowsOverwritten,
  kThreeWarps,
  kEndsBefore
};
struct SwizzledRows {
  alignas(1024) uint8_t bytes[128 * 128];
};
template <Wgmma kBug>
__global__ void multiply_by_rows(int32_t* out, const uint8_t* rows) {
  auto& s = cuda::shared_storage<SwizzledRows>();
  const int thread = int(threadIdx.x);
  for (int i = thread; i < 128 * 8; i += 128)
    cuda::copy_async_16(s.bytes + i / 8 * 128 + (i % 8 ^ i / 8 % 8) * 16, rows + i * 16);
  cuda::commit_copies();
  cuda::wait_copies<0>();
  if (kBug != Wgmma::kNoProxyFence) cuda::fence_for_wgmma();
  __syncthreads();
  uint32_t a[4] = {1, 1, 1, 1};
  int32_t d[64] = {};
  if (kBug != Wgmma::kNoFence) cuda::fence_wgmma();
  if (kBug != Wgmma::kThreeWarps || thread < 96) {
    cuda::wgmma_s8_u8(d, a, cuda::swizzled_rows(s.bytes));
    cuda::wgmma_s8_u8(d, a, cuda::further(cuda::swizzled_rows(s.bytes), 32));
  }
  cuda::commit_wgmma();
  if (kBug == Wgmma::kSumsTouched) d[5] += 1;
  if (kBug == Wgmma::kOperandReused) a[1] = 2;
  if (kBug == Wgmma::kRowsOverwritten) s.bytes[thread * 128] = 0;
  if (kBug != Wgmma::kNoWait && kBug != Wgmma::kEndsBefore) cuda::wait_wgmma<0>();
  if (kBug != Wgmma::kEndsBefore) out[thread] = d[5];
}
template <Wgmma kBug>
void damaged_wgmma(bool planted) {
  settings().architecture = kArchitectures[3];
  Device<uint8_t> rows(128 * 128);
  Device<int32_t> out(128);
  run(planted ? multiply_by_rows<kBug> : multiply_by_rows<Wgmma::kFine>, {1, 128, sizeof(SwizzledRows)},
      out.get(), rows.get());
}
void wgmma_of_another_architecture(bool planted) {
  settings().architecture = kArchitectures[planted ? 4 : 3];
  Device<uint8_t> rows(128 * 128);
  Device<int32_t> out(128);
  run(multiply_by_rows<Wgmma::kFine>, {1, 128, sizeof(SwizzledRows)}, out.get(), rows.get());
}

__global__ void through_a_pointer(float* out, int planted) {  // another thread's local variable
  auto& s = cuda::shared_storage<Pairs>();
  auto** pointers = reinterpret_cast<float**>(s.word);
  float mine = float(threadIdx.x);
  pointers[threadIdx.x] = &mine;
  __syncthreads();
  out[threadIdx.x] = *pointers[planted != 0 ? (threadIdx.x + 1) % 32 : threadIdx.x];
}
void local_of_another_thread(bool planted) {
  Device<float> out(32);
  run(through_a_pointer, {1, 32, sizeof(Pairs)}, out.get(), planted);
}

}  // namespace

const std::vector<PlantedBug>& planted_bugs() {
  // Another thread's copy may be pending, unwritten yet or just written.
  const std::vector<Fault> copy_races{Fault::kPendingCopy, Fault::kRace, Fault::kUninitialised};
  static const std::vector<PlantedBug> bugs{
      {"guard", {Fault::kOutOfRange}, guard},
      {"short_input", {Fault::kOutOfRange}, short_input},
      {"before_the_first", {Fault::kOutOfRange}, before_the_first},
      {"use_after_free", {Fault::kOutOfRange}, use_after_free},
      {"host_pointer", {Fault::kOutOfRange}, host_pointer},
      {"local_of_another_thread", {Fault::kOutOfRange}, local_of_another_thread},
      {"async_copy_to_global", {Fault::kOutOfRange}, async_copy_to_global},
      {"unwritten_input", {Fault::kUninitialised}, unwritten_input},
      {"unwritten_shared", {Fault::kUninitialised}, unwritten_shared},
      {"read_only_output", {Fault::kReadOnly}, read_only_output},
      {"misaligned_global", {Fault::kMisaligned}, misaligned_global},
      {"misaligned_shared", {Fault::kMisaligned}, misaligned_shared},
      {"misaligned_async_copy", {Fault::kMisaligned}, damaged_pipeline<Pipe::kOddSource>},
      {"no_barrier_before_read", {Fault::kRace, Fault::kUninitialised}, no_barrier_before_read},
      {"no_barrier_before_overwrite", {Fault::kRace}, no_barrier_before_overwrite},
      {"two_writers", {Fault::kRace}, two_writers},
      {"blocks_write_one_place", {Fault::kRace}, blocks_write_one_place},
      {"blocks_read_each_other", {Fault::kRace}, blocks_read_each_other},
      {"plain_increment", {Fault::kRace}, plain_increment},
      {"plain_read_of_atomic", {Fault::kRace}, plain_read_of_atomic},
      {"no_warp_barrier", {Fault::kRace, Fault::kUninitialised}, no_warp_barrier},
      {"warp_barrier_between_warps", {Fault::kRace, Fault::kUninitialised}, warp_barrier_between_warps},
      {"async_copy_without_barrier", copy_races, damaged_pipeline<Pipe::kNoBarrier>},
      {"async_copy_into_a_read_stage", copy_races, damaged_pipeline<Pipe::kNoBarrierBeforeReuse>},
      {"async_copy_without_wait", {Fault::kPendingCopy}, damaged_pipeline<Pipe::kNoWait>},
      {"async_copy_waits_for_one_less", {Fault::kPendingCopy}, damaged_pipeline<Pipe::kWaitsForOneLess>},
      {"async_copy_without_commit", {Fault::kPendingCopy}, damaged_pipeline<Pipe::kNoCommit>},
      {"reads_before_predecessors_ended", {Fault::kEarly}, overlapping<Overlap::kReadsEarly>},
      {"writes_before_predecessors_ended", {Fault::kEarly}, overlapping<Overlap::kWritesEarly>},
      {"never_waits_for_predecessors", {Fault::kEarly}, overlapping<Overlap::kNeverWaits>},
      {"divergent_barrier", {Fault::kDivergence}, divergent_barrier},
      {"return_before_barrier", {Fault::kDivergence}, return_before_barrier},
      {"barriers_at_two_places", {Fault::kDivergence}, barriers_at_two_places},
      {"product_of_half_a_warp", {Fault::kMask, Fault::kDivergence}, product_of_half_a_warp},
      {"caller_not_in_mask", {Fault::kMask}, caller_not_in_mask},
      {"shuffle_from_outside", {Fault::kMask}, shuffle_from_outside},
      {"lane_ended", {Fault::kMask, Fault::kDivergence}, lane_ended},
      {"lanes_in_different_operations", {Fault::kMask, Fault::kDivergence}, lanes_in_different_operations},
      {"wgmma_without_wait", {Fault::kAsyncProduct}, damaged_wgmma<Wgmma::kNoWait>},
      {"wgmma_without_fence", {Fault::kAsyncProduct}, damaged_wgmma<Wgmma::kNoFence>},
      {"wgmma_without_proxy_fence", {Fault::kProxyFence}, damaged_wgmma<Wgmma::kNoProxyFence>},
      {"wgmma_sums_touched", {Fault::kAsyncProduct}, damaged_wgmma<Wgmma::kSumsTouched>},
      {"wgmma_operand_reused", {Fault::kAsyncProduct}, damaged_wgmma<Wgmma::kOperandReused>},
      {"wgmma_rows_overwritten",
       {Fault::kRace, Fault::kAsyncProduct},
       damaged_wgmma<Wgmma::kRowsOverwritten>},
      {"wgmma_of_three_warps", {Fault::kAsyncProduct}, damaged_wgmma<Wgmma::kThreeWarps>},
      {"wgmma_ends_before_its_wait", {Fault::kAsyncProduct}, damaged_wgmma<Wgmma::kEndsBefore>},
      {"wgmma_of_another_architecture", {Fault::kLimit}, wgmma_of_another_architecture},
      {"beyond_an_array", {Fault::kBounds}, beyond_an_array},
      {"too_little_shared", {Fault::kLimit}, too_little_shared},
      {"too_much_shared", {Fault::kLimit}, too_much_shared},
      {"too_many_threads", {Fault::kLimit}, too_many_threads},
      {"too_large_a_grid", {Fault::kLimit}, too_large_a_grid},
  };
  return bugs;
}

}  // namespace stamp::cuda_on_host

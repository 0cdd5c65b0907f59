// The CUDA runtime's and the language's built-in functions on the executor.
#include <cuda_runtime.h>

#include <atomic>
#include <deque>
#include <new>
#include <set>
#include <vector>

using namespace stamp::cuda_on_host;

#define SITE __builtin_return_address(0)

void __syncthreads() { block_barrier(SITE); }
void __syncwarp(unsigned mask) { warp_barrier(mask, SITE); }

namespace stamp::cuda_on_host {
namespace {

struct Lane {
  uint64_t in, out;
  int argument;
};

/// The lane that `lane` reads, itself where there is none.
template <Shuffle kKind>
int source_of(int lane, int argument) {
  const int to = kKind == Shuffle::kIndex ? argument & 31
                 : kKind == Shuffle::kXor ? lane ^ argument
                 : kKind == Shuffle::kUp  ? lane - argument
                                          : lane + argument;
  return to < 0 || to >= kWarp ? lane : to;
}

template <Shuffle kKind>
const char* shuffle_lanes(void* const (&payloads)[kWarp], uint32_t) {
  for (int lane = 0; lane < kWarp; ++lane) {
    auto* const own = static_cast<Lane*>(payloads[lane]);
    if (own == nullptr) continue;
    const auto* const source = static_cast<Lane*>(payloads[source_of<kKind>(lane, own->argument)]);
    if (source == nullptr) return "a shuffle reads a lane that is not in the mask";
    own->out = source->in;
  }
  return nullptr;
}

const char* ballot_lanes(void* const (&payloads)[kWarp], uint32_t) {
  uint64_t votes = 0;
  for (int lane = 0; lane < kWarp; ++lane)
    if (payloads[lane] != nullptr) votes |= static_cast<Lane*>(payloads[lane])->in << lane;
  for (void* payload : payloads)
    if (payload != nullptr) static_cast<Lane*>(payload)->out = votes;
  return nullptr;
}

}  // namespace

uint64_t shuffle(unsigned mask, uint64_t value, int argument, Shuffle kind) {
  Lane lane{value, 0, argument};
  constexpr WarpFunction kRun[] = {shuffle_lanes<Shuffle::kIndex>, shuffle_lanes<Shuffle::kXor>,
                                   shuffle_lanes<Shuffle::kUp>, shuffle_lanes<Shuffle::kDown>};
  warp_collective(mask, &lane, kRun[size_t(kind)], SITE);
  return lane.out;
}

uint32_t ballot(unsigned mask, bool predicate) {
  Lane lane{predicate, 0, 0};
  warp_collective(mask, &lane, ballot_lanes, SITE);
  return uint32_t(lane.out);
}

}  // namespace stamp::cuda_on_host

namespace {

template <class T, class Change>
T atomic(T* address, const void* site, const Change& change) {
  access(address, sizeof(T), AccessKind::kAtomic, site);
  const std::atomic_ref<T> value(*address);  // blocks may run on several cores
  T old = value.load();
  while (!value.compare_exchange_weak(old, change(old))) {
  }
  return old;
}

}  // namespace

int atomicAdd(int* address, int value) {
  return atomic(address, SITE, [&](int old) { return int(unsigned(old) + unsigned(value)); });
}
unsigned atomicAdd(unsigned* address, unsigned value) {
  return atomic(address, SITE, [&](unsigned old) { return old + value; });
}
float atomicAdd(float* address, float value) {
  return atomic(address, SITE, [&](float old) { return old + value; });
}
int atomicMax(int* address, int value) {
  return atomic(address, SITE, [&](int old) { return old < value ? value : old; });
}
unsigned atomicCAS(unsigned* address, unsigned compare, unsigned value) {
  return atomic(address, SITE, [&](unsigned old) { return old == compare ? value : old; });
}

uint32_t __dp4a(uint32_t a, uint32_t b, uint32_t c) {
  stamp::cuda_on_host::count_instruction("dp4a");
  for (int i = 0; i < 32; i += 8) c += (a >> i & 255) * (b >> i & 255);
  return c;
}
int32_t __dp4a(int32_t a, int32_t b, int32_t c) {
  stamp::cuda_on_host::count_instruction("dp4a");
  for (int i = 0; i < 32; i += 8) c += int8_t(a >> i) * int8_t(b >> i);
  return c;
}

struct CudaStreamOnHost {
  std::deque<std::function<void()>> work;
};

namespace {

CudaStreamOnHost default_stream;
std::set<CudaStreamOnHost*> streams{&default_stream};
std::set<const void*> large_kernels;

CudaStreamOnHost& stream_of(cudaStream_t stream) { return stream == nullptr ? default_stream : *stream; }

/// Runs what is queued; a fault drops the rest, as it does on a device.
void drain(CudaStreamOnHost& stream) {
  while (!stream.work.empty()) {
    const auto next = std::move(stream.work.front());
    stream.work.pop_front();
    try {
      next();
    } catch (...) {
      stream.work.clear();
      throw;
    }
  }
}

}  // namespace

namespace stamp::cuda_on_host {

void allow_large_shared(const void* kernel) { large_kernels.insert(kernel); }
bool large_shared_allowed(const void* kernel) { return large_kernels.contains(kernel); }
void enqueue(cudaStream_t stream, std::function<void()> work) {
  stream_of(stream).work.push_back(std::move(work));
}

}  // namespace stamp::cuda_on_host

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess                 ? "no error"
         : error == cudaErrorMemoryAllocation ? "out of memory"
                                              : "invalid argument";
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const Architecture& a = settings().architecture;
  *value = attribute == cudaDevAttrMultiProcessorCount            ? a.multiprocessors
           : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin ? int(a.shared_per_block)
           : attribute == cudaDevAttrComputeCapabilityMajor       ? a.compute_capability / 10
                                                                  : a.compute_capability % 10;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  try {
    *pointer = Memory::instance().allocate(bytes);
    return cudaSuccess;
  } catch (const std::bad_alloc&) {
    return cudaErrorMemoryAllocation;
  }
}

/// Waits for the device first, as cudaFree does.
cudaError_t cudaFree(void* pointer) {
  for (CudaStreamOnHost* stream : streams) drain(*stream);
  Memory::instance().release(pointer);
  return cudaSuccess;
}

/// Pageable host memory: read at once, written when the stream has come so far and before the call returns.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  Memory& memory = Memory::instance();
  const auto fits = [&](const void* p, bool device) {
    return device ? memory.holds(p, bytes) : !memory.owns(p);
  };
  if (!fits(to, kind != cudaMemcpyDeviceToHost) || !fits(from, kind != cudaMemcpyHostToDevice))
    return cudaErrorInvalidValue;
  if (kind == cudaMemcpyHostToDevice) {
    const auto* source = static_cast<const std::byte*>(from);
    enqueue(stream, [to, content = std::vector<std::byte>(source, source + bytes)] {
      std::memcpy(to, content.data(), content.size());
      Memory::instance().initialise(to, content.size());
    });
    return cudaSuccess;
  }
  enqueue(stream, [to, from, bytes, kind] {
    std::memcpy(to, from, bytes);
    if (kind == cudaMemcpyDeviceToDevice) Memory::instance().initialise(to, bytes);
  });
  if (kind == cudaMemcpyDeviceToHost) drain(stream_of(stream));
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  if (!Memory::instance().holds(to, bytes)) return cudaErrorInvalidValue;
  enqueue(stream, [=] {
    std::memset(to, value, bytes);
    Memory::instance().initialise(to, bytes);
  });
  return cudaSuccess;
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  *stream = new CudaStreamOnHost;
  streams.insert(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  streams.erase(stream);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  drain(stream_of(stream));
  return cudaSuccess;
}

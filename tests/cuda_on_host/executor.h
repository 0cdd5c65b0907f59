#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include "tests/cuda_on_host/memory.h"
#include "tests/cuda_on_host/profile.h"
#include "tests/cuda_on_host/wgmma.h"

/// Runs CUDA kernels on the CPU, for what they mean and not for speed: the threads of a block are fibers of
/// one operating-system thread that run, in random order, from one barrier to the next. A conflict that a GPU
/// would show once in a million launches is found in the first, by rule: two threads touched the same byte,
/// one of them wrote, and no barrier lies between.
namespace stamp::cuda_on_host {

/// A kernel did something wrong; the launch is abandoned.
class KernelError : public std::runtime_error {
 public:
  KernelError(Fault fault, const std::string& message) : std::runtime_error(message), fault_(fault) {}
  Fault fault() const { return fault_; }

 private:
  Fault fault_;
};

/// Limits of an architecture (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability").
struct Architecture {
  std::string_view name;
  int compute_capability;   // 10 * major + minor
  size_t shared_per_block;  // with the opt-in attribute
  size_t shared_per_multiprocessor;
  int threads_per_multiprocessor;
  int multiprocessors;  // of the largest product: A100, RTX 3090, RTX 4090, H100 SXM, B200, RTX 5090
};
inline constexpr Architecture kArchitectures[] = {
    {"sm_80", 80, 163 << 10, 164 << 10, 2048, 108},    {"sm_86", 86, 99 << 10, 100 << 10, 1536, 82},
    {"sm_89", 89, 99 << 10, 100 << 10, 1536, 128},     {"sm_90a", 90, 227 << 10, 228 << 10, 2048, 132},
    {"sm_100a", 100, 227 << 10, 228 << 10, 2048, 148}, {"sm_120a", 120, 99 << 10, 100 << 10, 1536, 170},
};
inline constexpr size_t kSharedWithoutAttribute = 48 << 10;
inline constexpr int kWarp = 32, kMaxThreads = 1024;

struct Index3 {
  uint32_t x = 0, y = 0, z = 0;
};

/// What a launch asks for.
struct LaunchConfig {
  const char* name = "";
  Index3 grid{1, 1, 1}, block{1, 1, 1};
  size_t shared_bytes = 0;
  bool large_shared_allowed = false;  // the opt-in attribute was set for this kernel
  bool overlaps = false;              // it may begin before the kernels before it have ended
  const void* parameters = nullptr;   // the kernel's arguments: the kernel may read them
  size_t parameter_bytes = 0;
};

/// Settings of all launches from now on; tests change them.
struct Settings {
  Architecture architecture = kArchitectures[0];
  uint64_t seed = 1;  // of the order of blocks and threads; 0: ascending
};
Settings& settings();

/// Throws KernelError if the architecture cannot run such a launch.
void check_limits(const LaunchConfig& config);

/// Runs kernel(config.parameters) in every thread of every block. Throws KernelError.
using KernelBody = void (*)(const void* parameters);
void run_grid(const LaunchConfig& config, KernelBody kernel);

/// The running thread. Only inside a kernel.
struct ThreadContext {
  Index3 thread_index, block_index, block_dim, grid_dim;
};
ThreadContext this_thread();  // by value: the kernel's own loads are checked
/// The same for the fast executor, whose kernels' loads are not.
extern thread_local constinit const ThreadContext* running_thread;
bool in_kernel();
/// Where an address of the block's shared memory is in it, and the reverse.
uint32_t shared_offset(const void* address);
const uint8_t* shared_at(uint32_t offset);
/// The block's shared memory; a fault if it holds fewer than `bytes`.
void* shared_memory(size_t bytes);

// Barriers. `site` is where the kernel calls from: threads that meet must meet at one place.
void block_barrier(const void* site);
void warp_barrier(uint32_t mask, const void* site);

/// A warp operation of all lanes in `mask`: each hands over `payload`; the last to arrive runs `run` over the
/// 32 pointers (null for absent lanes), then all go on. `run` returns null or what is wrong.
using WarpFunction = const char* (*)(void* const (&payload)[kWarp], uint32_t mask);
void warp_collective(uint32_t mask, void* payload, WarpFunction run, const void* site);

/// An access that no compiler instrumentation sees: PTX functions, atomics.
void access(const void* address, size_t size, AccessKind kind, const void* site);
/// The same for another lane of the calling warp, inside a WarpFunction.
void access_of_lane(int lane, const void* address, size_t size, AccessKind kind);

/// One of the warp's instructions of a kind that the cost model counts: called by every lane, counted by lane
/// 0.
void count_instruction(const char* name);

/// cp.async of the running thread.
void copy_async(void* shared, const void* global, size_t bytes, size_t source_bytes, const void* site);
void commit_copies();
void wait_copies(int groups_left);

/// griddepcontrol.wait of the running thread.
void wait_on_dependencies();

/// wgmma's of the running thread.
AsyncProducts& async_products();
/// Of another lane of the calling warp, inside a WarpFunction: the tensor cores read shared memory, now or
/// until now since the moment `since`. What its writer has not made visible to them, or what changed, is a
/// fault.
void async_read_of_lane(int lane, const void* shared, size_t bytes, uint32_t since);
/// A number that grows, for async_read_of_lane().
uint32_t moment();
/// fence.proxy.async of the running thread.
void fence_async_proxy();

/// Ends the launch with a fault of the running thread; does not return.
[[noreturn]] void fault(Fault kind, const std::string& message);

}  // namespace stamp::cuda_on_host

#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

/// The memory that kernels see: device allocations and one block's shared memory, every byte with a state and
/// the last accesses to it. Kernels are compiled with -fsanitize=thread, whose calls (__tsan_read4 ...) end
/// here instead of in its own runtime, so every load and store of unchanged device code is seen.
namespace stamp::cuda_on_host {

/// What can be wrong with a kernel.
enum class Fault : uint8_t {
  kOutOfRange,     // outside every allocation, and outside the fiber's own stack
  kMisaligned,     // a vector access not on a multiple of its size
  kUninitialised,  // read before anything was written
  kPendingCopy,    // cp.async's destination touched before its wait
  kReadOnly,       // a store to memory that kernels may only read
  kRace,           // conflicting accesses without a barrier between them
  kDivergence,     // a barrier or warp operation that some threads never reach
  kMask,           // a warp operation's mask does not fit the lanes that run it
  kLimit,          // more threads, blocks or shared memory than the architecture has
  kBounds,         // an index beyond a declared array
  kEarly,          // in an overlapping launch: what kernels write, touched before those before are waited for
  kAsyncProduct,   // wgmma without its fence or wait, or its operands touched before its wait
  kProxyFence,     // wgmma reads shared bytes without a proxy fence of their writer after the write
};
const char* fault_name(Fault fault);

/// Who accesses: the running thread of the running block. Steps count barriers over the whole run, so that
/// two accesses with the same step have no barrier between them.
struct Access {
  int thread = 0;              // in the block
  uint32_t warp_step = 0;      // __syncwarp()s of its warp since the block's last barrier
  const void* site = nullptr;  // return address, for the profile
  bool early = false;          // kernels before this one may still run
};

enum class AccessKind : uint8_t { kRead, kWrite, kAtomic };

class Memory {
 public:
  static Memory& instance();

  /// Device memory, uninitialised, between guard bytes, on 256 bytes as cudaMalloc gives.
  void* allocate(size_t bytes);
  void release(void* pointer);
  bool owns(const void* pointer) const { return device_.holds(pointer); }
  /// All of the bytes lie in one allocation.
  bool holds(const void* pointer, size_t bytes) const;
  size_t allocated_bytes() const { return allocated_; }

  /// Copies and fills from the host's side: bytes become initialised.
  void initialise(void* pointer, size_t bytes);
  /// From now on kernels may only read these bytes; races on them need no record.
  void make_read_only(void* pointer, size_t bytes);

  /// A new launch, a new block (whose shared memory is poisoned), a barrier.
  void begin_launch();
  std::byte* begin_block(size_t shared_bytes);
  void barrier() { ++step_; }

  /// Checks and records one access; false (and `message`) if it is wrong.
  bool check(const Access& who, const void* address, size_t size, AccessKind kind, Fault& fault,
             std::string& message);
  bool is_shared(const void* address) const;

  /// The same for what tensor cores read of shared memory by themselves; `since`: moment() of their
  /// beginning.
  bool check_async_read(const Access& who, const void* address, size_t size, uint32_t since, Fault& fault,
                        std::string& message);
  /// Makes what a thread has written to shared memory visible to them.
  void fence_async_proxy(int thread) { fenced_at_[thread] = ++moment_; }
  uint32_t moment() { return ++moment_; }

  /// cp.async: until completed, the destination must not be touched.
  void set_pending(void* shared, size_t bytes);
  void complete_pending(void* shared, size_t bytes);

 private:
  enum State : uint8_t { kOutside = 0, kUnwritten, kWritten, kConstant, kPending };
  /// The last write and the last reads of a byte, or of the four of a word while they are alike: then its
  /// first byte's cell stands for all.
  struct Cell {
    uint32_t write_step = 0, read_step = 0, foreign_read_step = 0;  // foreign: by an earlier block
    uint16_t writer = 0, reader = 0;
    uint16_t write_warp_step = 0, read_warp_step = 0;
    bool atomic = false, read_by_several = false, read_by_warps = false;
    bool split = false;  // of a word's first byte: each byte has a cell of its own
  };
  struct Region {
    std::byte* base = nullptr;
    size_t size = 0;
    uint8_t* state = nullptr;  // [size]
    Cell* cells = nullptr;     // [size]
    bool holds(const void* p) const { return p >= base && p < base + size; }
  };

  Memory();
  static Region reserve(size_t bytes);
  const char* record(Region& region, size_t begin, size_t end, const Access& who, AccessKind kind);
  bool by_kernels(const Region& region, size_t begin, size_t end) const;
  const char* record_one(Cell& cell, bool shared, const Access& who, AccessKind kind);
  std::string describe(const void* address) const;

  Region device_, shared_;
  // Of the bytes of shared memory: their last write, by moment() and thread; and the threads' last fences.
  uint32_t* written_at_;
  uint16_t* writer_;
  uint32_t fenced_at_[1024] = {}, moment_ = 0;
  size_t device_end_ = 0, allocated_ = 0, shared_bytes_ = 0;
  uint32_t step_ = 1, launch_step_ = 1, block_step_ = 1;
};

}  // namespace stamp::cuda_on_host

#include "tests/cuda_on_host/executor.h"

#include <sys/mman.h>

#include <algorithm>
#include <boost/context/detail/fcontext.hpp>
#include <cstring>
#include <deque>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

extern "C" char __executable_start, end;  // the program's image, from the linker

namespace stamp::cuda_on_host {
namespace {

// The plain form of Boost.Context: fibers of an abandoned launch are dropped, never unwound, because calls
// that the compiler's instrumentation makes cannot throw.
namespace context = boost::context::detail;

constexpr size_t kStackBytes = 64 << 10;

struct PendingCopy {
  void* shared;
  const void* global;
  size_t bytes, source_bytes;
};

enum class Wait : uint8_t { kNothing, kBlock, kWarp };

struct Thread {
  ThreadContext where;
  int number = 0;
  context::fcontext_t fiber = nullptr;
  std::byte* stack = nullptr;
  bool done = false;
  bool early = false;  // has not waited for the kernels before
  Wait waits = Wait::kNothing;
  const void* site = nullptr;  // of the barrier or warp operation it waits at
  uint32_t mask = 0;
  void* payload = nullptr;
  std::vector<PendingCopy> uncommitted;
  std::deque<std::vector<PendingCopy>> committed;
  AsyncProducts products;
  std::vector<Profile::Request> requests;
};

/// Stacks for the largest block, kept between launches.
class Stacks {
 public:
  std::byte* at(size_t i) {
    if (base_ == nullptr) {
      void* p = mmap(nullptr, kStackBytes * kMaxThreads, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (p == MAP_FAILED) throw std::bad_alloc();
      base_ = static_cast<std::byte*>(p);
    }
    return base_ + i * kStackBytes;
  }

 private:
  std::byte* base_ = nullptr;
};

/// The one launch that runs.
class Grid {
 public:
  Grid(const LaunchConfig& config, KernelBody kernel)
      : config_(config), kernel_(kernel), rng_(settings().seed) {
    const auto& b = config.block;
    threads_.resize(size_t(b.x) * b.y * b.z);
    warp_steps_.resize((threads_.size() + kWarp - 1) / kWarp);
  }

  void run();

  const LaunchConfig& config_;
  KernelBody kernel_;
  std::mt19937_64 rng_;
  std::vector<Thread> threads_;
  std::vector<uint32_t> warp_steps_;
  std::byte* shared_ = nullptr;
  Thread* current_ = nullptr;
  context::fcontext_t scheduler_ = nullptr;
  bool failed_ = false;
  Fault fault_{};
  std::string message_;
  Counters* counters_ = nullptr;

  void start(Thread& thread);
  void resume(Thread& thread);
  void yield();  // of the running thread, to the scheduler
  bool release_block();
  bool products_agree();
  void finish_warp_operation(Thread& last, WarpFunction run);
  std::string place(const Thread& t) const;
  [[noreturn]] void fail(const Thread& t, Fault kind, const std::string& message);
  void count_requests();

 private:
  void run_block(uint32_t block);
};

Grid* grid = nullptr;
Stacks stacks;

/// The executor's own code runs: inline functions of the standard library that it shares with instrumented
/// files call the hooks, too.
bool inside = false;
struct Inside {
  Inside() { inside = true; }
  ~Inside() { inside = false; }
};

void fiber_main(context::transfer_t from) {
  grid->scheduler_ = from.fctx;
  inside = false;
  grid->kernel_(grid->config_.parameters);
  grid->current_->done = true;
  for (;;) grid->yield();
}

uint32_t lanes_of(const Thread& t, size_t threads) {
  const size_t first = size_t(t.number) / kWarp * kWarp, count = std::min<size_t>(kWarp, threads - first);
  return count == kWarp ? ~0u : (1u << count) - 1;
}

void Grid::run() {
  check_limits(config_);
  const uint64_t blocks = uint64_t(config_.grid.x) * config_.grid.y * config_.grid.z;
  std::vector<uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  if (settings().seed != 0) std::shuffle(order.begin(), order.end(), rng_);
  Memory::instance().begin_launch();
  if (Profile::instance().enabled()) {
    counters_ = &Profile::instance().of(config_.name);
    ++counters_->launches;
    counters_->blocks += blocks;
    counters_->threads += blocks * threads_.size();
  }
  for (uint32_t block : order) {
    run_block(block);
    if (failed_) throw KernelError(fault_, message_);
  }
}

void Grid::run_block(uint32_t block) {
  shared_ = Memory::instance().begin_block(config_.shared_bytes);
  std::fill(warp_steps_.begin(), warp_steps_.end(), 1u);
  const auto &g = config_.grid, &b = config_.block;
  for (size_t i = 0; i < threads_.size(); ++i) {
    Thread& t = threads_[i];
    const auto n = uint32_t(i);
    t.where = {
        {n % b.x, n / b.x % b.y, n / b.x / b.y}, {block % g.x, block / g.x % g.y, block / g.x / g.y}, b, g};
    t.number = int(i);
    t.done = false;
    t.early = config_.overlaps;
    t.waits = Wait::kNothing;
    t.uncommitted.clear();
    t.committed.clear();
    t.products = {};
    t.requests.clear();
    t.stack = stacks.at(i);
    t.fiber = context::make_fcontext(t.stack + kStackBytes, kStackBytes, fiber_main);
  }
  std::vector<Thread*> ready;
  for (;;) {
    ready.clear();
    for (Thread& t : threads_)
      if (!t.done && t.waits == Wait::kNothing) ready.push_back(&t);
    if (ready.empty()) {
      if (std::all_of(threads_.begin(), threads_.end(), [](const Thread& t) { return t.done; })) {
        if (!products_agree()) return;
        break;
      }
      if (!release_block()) return;
      continue;
    }
    if (settings().seed != 0) std::shuffle(ready.begin(), ready.end(), rng_);
    for (Thread* t : ready) {
      resume(*t);
      if (failed_) return;
    }
  }
  count_requests();
}

void Grid::resume(Thread& thread) {
  current_ = &thread;
  thread.fiber = context::jump_fcontext(thread.fiber, nullptr).fctx;
  current_ = nullptr;
}

void Grid::yield() {
  scheduler_ = context::jump_fcontext(scheduler_, nullptr).fctx;
  inside = true;  // whoever yields is in the executor
}

/// Nobody can run: either all wait at the same barrier, or the block would hang.
bool Grid::release_block() {
  const auto same = [&](const Thread& t) {
    return !t.done && t.waits == Wait::kBlock && t.site == threads_.front().site;
  };
  if (!std::all_of(threads_.begin(), threads_.end(), same)) {
    const auto waiting =
        std::find_if(threads_.begin(), threads_.end(), [](const Thread& t) { return !t.done; });
    failed_ = true;
    fault_ = Fault::kDivergence;
    message_ =
        place(*waiting) + (waiting->waits == Wait::kWarp ? "waits for lanes of its warp that never come"
                                                         : "waits at a barrier that others never reach");
    return false;
  }
  if (!products_agree()) return false;
  Memory::instance().barrier();
  std::fill(warp_steps_.begin(), warp_steps_.end(), 1u);
  for (Thread& t : threads_) t.waits = Wait::kNothing;
  count_requests();
  return true;
}

/// wgmma is an instruction of four warps: before a barrier, and in the end, all of them have begun the same.
/// No thread ends before its products.
bool Grid::products_agree() {
  const auto wrong = [&](const Thread& t, const char* what) {
    failed_ = true;
    fault_ = Fault::kAsyncProduct;
    message_ = place(t) + what;
    return false;
  };
  for (const Thread& t : threads_) {
    if (t.done && !t.products.all.empty()) return wrong(t, "ends before its products");
    if (t.products.told != threads_[size_t(t.number) / (4 * kWarp) * 4 * kWarp].products.told)
      return wrong(t, "has begun other products than the first thread of its four warps");
  }
  return true;
}

void Grid::count_requests() {
  if (counters_ == nullptr) return;
  std::vector<Profile::Request> lanes[kWarp];
  for (size_t first = 0; first < threads_.size(); first += kWarp) {
    const size_t count = std::min<size_t>(kWarp, threads_.size() - first);
    for (size_t i = 0; i < count; ++i) std::swap(lanes[i], threads_[first + i].requests);
    Profile::instance().count(*counters_, lanes, int(count));
    for (size_t i = 0; i < count; ++i) std::swap(lanes[i], threads_[first + i].requests);
  }
}

std::string Grid::place(const Thread& t) const {
  const auto triple = [](const Index3& i) {
    return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
  };
  return std::string(config_.name) + ", block " + triple(t.where.block_index) + ", thread " +
         triple(t.where.thread_index) + ": ";
}

/// Leaves the running fiber for good.
void Grid::fail(const Thread& t, Fault kind, const std::string& message) {
  failed_ = true;
  fault_ = kind;
  message_ = place(t) + fault_name(kind) + ": " + message;
  for (;;) yield();
}

bool on_stack(const Thread& t, const void* p) { return p >= t.stack && p < t.stack + kStackBytes; }

void check(Thread& t, const void* address, size_t size, AccessKind kind, const void* site) {
  Fault what;
  std::string message;
  const Access who{t.number, grid->warp_steps_[size_t(t.number) / kWarp], site, t.early};
  if (!Memory::instance().check(who, address, size, kind, what, message))
    grid->fail(*grid->current_, what, message);
  if (grid->counters_ != nullptr && site != nullptr)
    t.requests.push_back(
        {site, reinterpret_cast<uint64_t>(address), uint32_t(size), Memory::instance().is_shared(address)});
}

}  // namespace

Settings& settings() {
  static Settings all;
  return all;
}

bool in_kernel() { return grid != nullptr && grid->current_ != nullptr; }
ThreadContext this_thread() { return grid->current_->where; }

void run_grid(const LaunchConfig& config, KernelBody kernel) {
  Grid running(config, kernel);
  grid = &running;
  try {
    running.run();
  } catch (...) {
    grid = nullptr;
    throw;
  }
  grid = nullptr;
}

void* shared_memory(size_t bytes) {
  const Inside guard;
  if (bytes > grid->config_.shared_bytes)
    fault(Fault::kLimit, std::to_string(bytes) + " bytes of shared memory used, launched with " +
                             std::to_string(grid->config_.shared_bytes));
  return grid->shared_;
}

void fault(Fault kind, const std::string& message) {
  const Inside guard;
  grid->fail(*grid->current_, kind, message);
}

uint32_t shared_offset(const void* address) {
  return uint32_t(static_cast<const std::byte*>(address) - grid->shared_);
}
const uint8_t* shared_at(uint32_t offset) { return reinterpret_cast<const uint8_t*>(grid->shared_ + offset); }

void block_barrier(const void* site) {
  const Inside guard;
  Thread& t = *grid->current_;
  t.waits = Wait::kBlock;
  t.site = site;
  grid->yield();
}

void warp_collective(uint32_t mask, void* payload, WarpFunction run, const void* site) {
  const Inside guard;
  Thread& t = *grid->current_;
  const uint32_t all = lanes_of(t, grid->threads_.size()), own = 1u << (t.number % kWarp);
  if ((mask & own) == 0) fault(Fault::kMask, "the calling lane is not in the mask of its warp operation");
  if ((mask & ~all) != 0 && mask != ~0u) fault(Fault::kMask, "the mask names lanes that do not exist");
  t.waits = Wait::kWarp;
  t.site = site;
  t.mask = mask;
  t.payload = payload;
  Thread* const warp = &grid->threads_[size_t(t.number) / kWarp * kWarp];
  void* payloads[kWarp] = {};
  for (int lane = 0; lane < kWarp; ++lane) {
    if ((mask & all & 1u << lane) == 0) continue;
    const Thread& other = warp[lane];
    if (other.done) fault(Fault::kMask, "lane " + std::to_string(lane) + " of the mask has ended");
    if (other.waits != Wait::kWarp) return grid->yield();  // the last one to come does the work
    if (other.site != site || other.mask != mask)
      fault(Fault::kMask, "lanes of one mask meet in different warp operations");
    payloads[lane] = other.payload;
  }
  if (const char* wrong = run(payloads, mask & all)) fault(Fault::kMask, wrong);
  for (int lane = 0; lane < kWarp; ++lane)
    if (payloads[lane] != nullptr) warp[lane].waits = Wait::kNothing;
}

void warp_barrier(uint32_t mask, const void* site) {
  char nothing = 0;
  warp_collective(
      mask, &nothing,
      [](void* const(&)[kWarp], uint32_t lanes) -> const char* {
        // Only a barrier of the whole warp counts as one for races.
        const Thread& t = *grid->current_;
        if (lanes == lanes_of(t, grid->threads_.size())) ++grid->warp_steps_[size_t(t.number) / kWarp];
        return nullptr;
      },
      site);
}

void access(const void* address, size_t size, AccessKind kind, const void* site) {
  const Inside guard;
  check(*grid->current_, address, size, kind, site);
}

void count_instruction(const char* name) {
  const Inside guard;
  if (grid->counters_ != nullptr && grid->current_->number % kWarp == 0)
    ++grid->counters_->instructions[name];
}

void access_of_lane(int lane, const void* address, size_t size, AccessKind kind) {
  Thread& t = grid->threads_[size_t(grid->current_->number / kWarp * kWarp + lane)];
  check(t, address, size, kind, t.site);
}

void copy_async(void* shared, const void* global, size_t bytes, size_t source_bytes, const void* site) {
  const Inside guard;
  Thread& t = *grid->current_;
  if (!Memory::instance().is_shared(shared))
    fault(Fault::kOutOfRange, "cp.async to memory that is not shared");
  check(t, shared, bytes, AccessKind::kWrite, site);
  if (reinterpret_cast<uintptr_t>(global) % bytes != 0)
    fault(Fault::kMisaligned, "cp.async from an address that is not a multiple of its size");
  if (source_bytes > 0) check(t, global, source_bytes, AccessKind::kRead, site);
  Memory::instance().set_pending(shared, bytes);
  t.uncommitted.push_back({shared, global, bytes, source_bytes});
}

void wait_on_dependencies() { grid->current_->early = false; }

void commit_copies() {
  const Inside guard;
  Thread& t = *grid->current_;
  t.committed.push_back(std::move(t.uncommitted));
  t.uncommitted.clear();
}

void wait_copies(int groups_left) {
  const Inside guard;
  Thread& t = *grid->current_;
  for (; t.committed.size() > size_t(groups_left); t.committed.pop_front()) {
    for (const PendingCopy& copy : t.committed.front()) {
      Memory::instance().complete_pending(copy.shared, copy.bytes);
      check(t, copy.shared, copy.bytes, AccessKind::kWrite, nullptr);
      std::memset(copy.shared, 0, copy.bytes);
      std::memcpy(copy.shared, copy.global, copy.source_bytes);
    }
  }
}

AsyncProducts& async_products() { return grid->current_->products; }
uint32_t moment() { return Memory::instance().moment(); }
void fence_async_proxy() { Memory::instance().fence_async_proxy(grid->current_->number); }

void async_read_of_lane(int lane, const void* shared, size_t bytes, uint32_t since) {
  const Thread& t = grid->threads_[size_t(grid->current_->number / kWarp * kWarp + lane)];
  Fault what;
  std::string message;
  const Access who{t.number, grid->warp_steps_[size_t(t.number) / kWarp], nullptr};
  if (!Memory::instance().check_async_read(who, shared, bytes, since, what, message))
    grid->fail(*grid->current_, what, message);
}

/// A load or store of instrumented code. Other threads' stacks are out of range: local memory is private.
static void instrumented(const void* p, size_t size, AccessKind kind, const void* site) {
  if (inside || !in_kernel()) return;
  Thread& t = *grid->current_;
  if (on_stack(t, p)) {
    if (t.products.use(p, size))
      fault(Fault::kAsyncProduct, "registers of a product are touched before its wait");
    return;
  }
  const auto *byte = static_cast<const char*>(p),
             *parameters = static_cast<const char*>(grid->config_.parameters);
  if (byte >= parameters && byte < parameters + grid->config_.parameter_bytes) return;
  if (kind == AccessKind::kRead && byte >= &__executable_start && byte < &end) return;  // constants
  const Inside guard;
  check(t, p, size, kind, site);
}

}  // namespace stamp::cuda_on_host

// The calls of -fsanitize=thread (GCC and clang share them) and of -fsanitize=bounds.
using stamp::cuda_on_host::AccessKind;
using stamp::cuda_on_host::instrumented;
#define ACCESS(name, size, kind) \
  extern "C" void name(void* p) { instrumented(p, size, AccessKind::kind, __builtin_return_address(0)); }
ACCESS(__tsan_read1, 1, kRead)
ACCESS(__tsan_read2, 2, kRead)
ACCESS(__tsan_read4, 4, kRead)
ACCESS(__tsan_read8, 8, kRead)
ACCESS(__tsan_read16, 16, kRead)
ACCESS(__tsan_unaligned_read2, 2, kRead)
ACCESS(__tsan_unaligned_read4, 4, kRead)
ACCESS(__tsan_unaligned_read8, 8, kRead)
ACCESS(__tsan_unaligned_read16, 16, kRead)
ACCESS(__tsan_write1, 1, kWrite)
ACCESS(__tsan_write2, 2, kWrite)
ACCESS(__tsan_write4, 4, kWrite)
ACCESS(__tsan_write8, 8, kWrite)
ACCESS(__tsan_write16, 16, kWrite)
ACCESS(__tsan_unaligned_write2, 2, kWrite)
ACCESS(__tsan_unaligned_write4, 4, kWrite)
ACCESS(__tsan_unaligned_write8, 8, kWrite)
ACCESS(__tsan_unaligned_write16, 16, kWrite)
#undef ACCESS

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_read_range(const void* p, size_t size) {
  instrumented(p, size, AccessKind::kRead, __builtin_return_address(0));
}
void __tsan_write_range(const void* p, size_t size) {
  instrumented(p, size, AccessKind::kWrite, __builtin_return_address(0));
}
void __ubsan_handle_out_of_bounds(void*, size_t index) {
  if (stamp::cuda_on_host::in_kernel())
    stamp::cuda_on_host::fault(stamp::cuda_on_host::Fault::kBounds,
                               "index " + std::to_string(index) + " beyond a declared array");
}
}

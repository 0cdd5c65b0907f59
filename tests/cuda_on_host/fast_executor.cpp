// The executor without its detective work, for whole models: a block's threads are still fibers that meet at
// barriers, warp operations and fragments are still the ISA's, copies still arrive at their wait; but nobody
// watches the accesses, so kernels are compiled as any other code (which may copy a barrier to several
// places, so that where threads meet says nothing), and blocks run on all cores. The kernels' unit tests run
// on executor.cpp.
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <boost/context/detail/fcontext.hpp>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/thread_pool.h"
#include "tests/cuda_on_host/executor.h"

namespace stamp::cuda_on_host {
namespace {

namespace context = boost::context::detail;

constexpr size_t kStackBytes = 64 << 10, kSharedBytes = 256 << 10;
constexpr std::byte kPoison{0xcb};

struct PendingCopy {
  void* shared;
  const void* global;
  size_t bytes, source_bytes;
};

struct Thread {
  ThreadContext where;
  int number = 0;
  context::fcontext_t fiber = nullptr;
  WarpFunction operation = nullptr;  // what it waits for in its warp
  uint32_t mask = 0;
  void* payload = nullptr;
  std::vector<PendingCopy> copies;  // the oldest first
  std::vector<size_t> groups;       // where each committed group of them ends
  AsyncProducts products;
};

/// Lanes of a warp by what they do.
struct Warp {
  uint32_t lanes = 0, ready = 0, in_warp_operation = 0, at_barrier = 0;
};

/// The block that an operating-system thread runs. Fibers are kept from block to block: a thread of the next
/// block goes on where the last one ended.
class Block {
 public:
  ~Block() {
    if (stacks_ != nullptr) munmap(stacks_, kStackBytes * kMaxThreads);
  }

  /// Empty, or what went wrong.
  std::string run(const LaunchConfig& config, KernelBody kernel, uint64_t index);

  const LaunchConfig* config_ = nullptr;
  Fault fault_{};
  static constexpr std::align_val_t kSharedAlignment{1024};
  struct FreeShared {
    void operator()(std::byte* p) const { operator delete[](p, kSharedAlignment); }
  };
  std::unique_ptr<std::byte[], FreeShared> shared_;

  void wait(uint32_t Warp::*where);
  void warp_operation(uint32_t mask, void* payload, WarpFunction run);
  [[noreturn]] void fail(Fault fault, const std::string& message);
  Thread& current() { return *current_; }

 private:
  static void fiber_main(context::transfer_t from);
  void make_fibers();
  void resume(Thread& next);
  void leave();
  void go_on();

  KernelBody kernel_ = nullptr;
  std::byte* stacks_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  size_t alive_ = 0;  // threads
  Thread* current_ = nullptr;
  Thread outside_;  // the operating-system thread's own
  std::string message_;
};

thread_local Block block;

void Block::fiber_main(context::transfer_t from) {
  static_cast<Thread*>(from.data)->fiber = from.fctx;
  for (;;) {
    block.kernel_(block.config_->parameters);
    block.leave();
  }
}

void Block::make_fibers() {
  if (stacks_ == nullptr) {
    void* const p = mmap(nullptr, kStackBytes * kMaxThreads, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    stacks_ = static_cast<std::byte*>(p);
    shared_.reset(new (kSharedAlignment) std::byte[kSharedBytes]);
  }
  for (Thread& t : threads_)
    if (t.fiber == nullptr)
      t.fiber =
          context::make_fcontext(stacks_ + (size_t(t.number) + 1) * kStackBytes, kStackBytes, fiber_main);
}

std::string Block::run(const LaunchConfig& config, KernelBody kernel, uint64_t index) {
  config_ = &config;
  kernel_ = kernel;
  const auto &g = config.grid, &b = config.block;
  const size_t count = size_t(b.x) * b.y * b.z;
  if (threads_.size() < count) threads_.resize(count);
  warps_.assign((count + kWarp - 1) / kWarp, {});
  const auto n = uint32_t(index);
  for (uint32_t i = 0; i < count; ++i) {
    Thread& t = threads_[i];
    t.where = {{i % b.x, i / b.x % b.y, i / b.x / b.y}, {n % g.x, n / g.x % g.y, n / g.x / g.y}, b, g};
    t.number = int(i);
    t.copies.clear();
    t.groups.clear();
    t.products = {};
    warps_[i / kWarp].lanes |= 1u << i % kWarp;
  }
  make_fibers();
  for (Warp& w : warps_) w.ready = w.lanes;
  std::memset(shared_.get(), int(kPoison), config.shared_bytes);
  alive_ = count;
  message_.clear();
  current_ = &outside_;
  resume(threads_.front());
  current_ = nullptr;
  running_thread = nullptr;
  if (!message_.empty())
    for (Thread& t : threads_) t.fiber = nullptr;  // abandoned where they stand
  return message_;
}

void Block::resume(Thread& next) {
  Thread* const self = current_;
  current_ = &next;
  running_thread = &next.where;
  const context::transfer_t from = context::jump_fcontext(next.fiber, self);
  static_cast<Thread*>(from.data)->fiber = from.fctx;
}

/// Hands over to a thread that can run: the next lane of this warp, else another warp's first.
void Block::go_on() {
  const size_t own = size_t(current_->number) / kWarp;
  for (size_t i = 0; i < warps_.size(); ++i) {
    const size_t w = (own + i) % warps_.size();
    uint32_t ready = warps_[w].ready;
    if (ready == 0) continue;
    if (const uint32_t later = i == 0 ? ready & ~((2u << current_->number % kWarp) - 1) : 0; later != 0)
      ready = later;
    Thread& next = threads_[w * kWarp + size_t(std::countr_zero(ready))];
    if (&next != current_) resume(next);
    return;
  }
  if (alive_ == 0) return resume(outside_);
  const bool all = std::all_of(warps_.begin(), warps_.end(), [](Warp& w) { return w.at_barrier == w.lanes; });
  if (!all) fail(Fault::kDivergence, "waits at a barrier or for lanes of its warp that never come");
  for (Warp& w : warps_) w.ready = w.lanes, w.at_barrier = 0;
  if (current_ != &threads_.front()) resume(threads_.front());
}

/// The running thread has ended; returns when a thread of the next block begins in its fiber.
void Block::leave() {
  warps_[size_t(current_->number) / kWarp].ready &= ~(1u << current_->number % kWarp);
  --alive_;
  go_on();
}

void Block::wait(uint32_t Warp::*where) {
  Warp& w = warps_[size_t(current_->number) / kWarp];
  const uint32_t own = 1u << current_->number % kWarp;
  w.ready &= ~own;
  w.*where |= own;
  go_on();
}

void Block::warp_operation(uint32_t mask, void* payload, WarpFunction run) {
  Thread& t = *current_;
  Warp& w = warps_[size_t(t.number) / kWarp];
  const uint32_t own = 1u << t.number % kWarp, wanted = mask & w.lanes;
  if ((mask & own) == 0) fail(Fault::kMask, "the calling lane is not in the mask of its warp operation");
  t.mask = mask;
  t.payload = payload;
  t.operation = run;
  if ((wanted & ~own & ~w.in_warp_operation) != 0)  // the last one to come does the work
    return wait(&Warp::in_warp_operation);
  Thread* const lanes = &threads_[size_t(t.number) / kWarp * kWarp];
  void* payloads[kWarp] = {};
  for (uint32_t rest = wanted; rest != 0; rest &= rest - 1) {
    const Thread& other = lanes[std::countr_zero(rest)];
    if (other.operation != run || other.mask != mask)
      fail(Fault::kMask, "lanes of one mask meet in different warp operations");
    payloads[std::countr_zero(rest)] = other.payload;
  }
  if (const char* wrong = run(payloads, wanted)) fail(Fault::kMask, wrong);
  w.in_warp_operation &= ~wanted;
  w.ready |= wanted;
}

/// Leaves the running fiber for good.
void Block::fail(Fault fault, const std::string& message) {
  fault_ = fault;
  const Index3 &b = current_->where.block_index, &i = current_->where.thread_index;
  const auto triple = [](const Index3& n) {
    return "(" + std::to_string(n.x) + ", " + std::to_string(n.y) + ", " + std::to_string(n.z) + ")";
  };
  message_ = std::string(config_->name) + ", block " + triple(b) + ", thread " + triple(i) + ": " +
             fault_name(fault) + ": " + message;
  for (;;) resume(outside_);
}

}  // namespace

thread_local constinit const ThreadContext* running_thread = nullptr;

Settings& settings() {
  static Settings all;
  return all;
}

void run_grid(const LaunchConfig& config, KernelBody kernel) {
  check_limits(config);
  static ThreadPool pool(0);
  static std::mutex mutex;
  std::string message;
  Fault fault{};
  const uint64_t blocks = uint64_t(config.grid.x) * config.grid.y * config.grid.z;
  pool.parallel_for(int64_t(blocks), [&](int64_t index, int) {
    const std::string wrong = block.run(config, kernel, uint64_t(index));
    if (wrong.empty()) return;
    const std::lock_guard lock(mutex);
    message = wrong;
    fault = block.fault_;
  });
  if (!message.empty()) throw KernelError(fault, message);
}

bool in_kernel() { return running_thread != nullptr; }
ThreadContext this_thread() { return *running_thread; }

void* shared_memory(size_t bytes) {
  if (bytes > block.config_->shared_bytes)
    fault(Fault::kLimit, std::to_string(bytes) + " bytes of shared memory used, launched with " +
                             std::to_string(block.config_->shared_bytes));
  return block.shared_.get();
}

uint32_t shared_offset(const void* address) {
  return uint32_t(static_cast<const std::byte*>(address) - block.shared_.get());
}
const uint8_t* shared_at(uint32_t offset) {
  return reinterpret_cast<const uint8_t*>(block.shared_.get() + offset);
}

void fault(Fault kind, const std::string& message) { block.fail(kind, message); }
void block_barrier(const void*) { block.wait(&Warp::at_barrier); }
void warp_collective(uint32_t mask, void* payload, WarpFunction run, const void*) {
  block.warp_operation(mask, payload, run);
}
void warp_barrier(uint32_t mask, const void*) {
  block.warp_operation(mask, nullptr, [](void* const(&)[kWarp], uint32_t) -> const char* { return nullptr; });
}

void access(const void*, size_t, AccessKind, const void*) {}
void wait_on_dependencies() {}
void access_of_lane(int, const void*, size_t, AccessKind) {}
void async_read_of_lane(int, const void*, size_t, uint32_t) {}
uint32_t moment() { return 0; }
void fence_async_proxy() {}
void count_instruction(const char*) {}

AsyncProducts& async_products() { return block.current().products; }

void copy_async(void* shared, const void* global, size_t bytes, size_t source_bytes, const void*) {
  block.current().copies.push_back({shared, global, bytes, source_bytes});
}
void commit_copies() { block.current().groups.push_back(block.current().copies.size()); }
void wait_copies(int groups_left) {
  Thread& t = block.current();
  if (t.groups.size() <= size_t(groups_left)) return;
  const auto done = ptrdiff_t(t.groups.size()) - groups_left;
  const size_t end = t.groups[size_t(done) - 1];
  for (size_t i = 0; i < end; ++i) {
    const PendingCopy& copy = t.copies[i];
    if (copy.source_bytes == 16) {  // nearly always: of a known size
      std::memcpy(copy.shared, copy.global, 16);
    } else {
      std::memset(copy.shared, 0, copy.bytes);
      std::memcpy(copy.shared, copy.global, copy.source_bytes);
    }
  }
  t.copies.erase(t.copies.begin(), t.copies.begin() + ptrdiff_t(end));
  t.groups.erase(t.groups.begin(), t.groups.begin() + done);
  for (size_t& group : t.groups) group -= end;
}

}  // namespace stamp::cuda_on_host

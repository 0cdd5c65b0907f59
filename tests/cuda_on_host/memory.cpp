#include "tests/cuda_on_host/memory.h"

#include <sys/mman.h>

#include <cstring>
#include <map>
#include <new>

namespace stamp::cuda_on_host {
namespace {

constexpr size_t kDeviceBytes = size_t{1} << 30;  // of address space; pages come as they are touched
constexpr size_t kSharedBytes = size_t{256} << 10;
constexpr size_t kGuard = 256, kAlignment = 256;
constexpr std::byte kPoison{0xcb};  // floats of it are about -2.7e7, integers about -8.8e8

template <class T>
T* map_zeroed(size_t count) {
  void* p = mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return static_cast<T*>(p);
}

/// Live device allocations by address, and free ones by size.
std::map<std::byte*, size_t>& live() {
  static std::map<std::byte*, size_t> allocations;
  return allocations;
}
std::multimap<size_t, std::byte*>& unused() {
  static std::multimap<size_t, std::byte*> allocations;
  return allocations;
}

size_t padded(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment + kGuard; }

int warp_of(int thread) { return thread / 32; }

}  // namespace

const char* fault_name(Fault fault) {
  constexpr const char* kNames[] = {"out of range", "misaligned", "uninitialised", "pending copy",
                                    "read-only",    "race",       "divergence",    "mask",
                                    "limit",        "bounds",     "early",         "asynchronous product",
                                    "proxy fence"};
  return kNames[size_t(fault)];
}

Memory& Memory::instance() {
  static Memory memory;
  return memory;
}

Memory::Memory()
    : device_(reserve(kDeviceBytes)),
      shared_(reserve(kSharedBytes)),
      written_at_(map_zeroed<uint32_t>(kSharedBytes)),
      writer_(map_zeroed<uint16_t>(kSharedBytes)),
      device_end_(kGuard) {}

Memory::Region Memory::reserve(size_t bytes) {
  return {map_zeroed<std::byte>(bytes), bytes, map_zeroed<uint8_t>(bytes), map_zeroed<Cell>(bytes)};
}

void* Memory::allocate(size_t bytes) {
  const size_t room = padded(bytes);
  std::byte* base;
  if (const auto found = unused().find(room); found != unused().end()) {
    base = found->second;
    unused().erase(found);
  } else {
    if (device_end_ + room > device_.size) throw std::bad_alloc();
    base = device_.base + device_end_;
    device_end_ += room;
  }
  live()[base] = bytes;
  allocated_ += bytes;
  std::memset(base, int(kPoison), bytes);
  std::memset(device_.state + (base - device_.base), kUnwritten, bytes);
  return base;
}

void Memory::release(void* pointer) {
  const auto found = live().find(static_cast<std::byte*>(pointer));
  if (found == live().end()) return;
  std::memset(device_.state + (found->first - device_.base), kOutside, found->second);
  allocated_ -= found->second;
  unused().emplace(padded(found->second), found->first);
  live().erase(found);
}

bool Memory::holds(const void* pointer, size_t bytes) const {
  const auto* p = static_cast<const std::byte*>(pointer);
  const auto above = live().upper_bound(const_cast<std::byte*>(p));
  if (above == live().begin()) return false;
  const auto& [base, size] = *std::prev(above);
  return p + bytes <= base + size;
}
bool Memory::is_shared(const void* address) const { return shared_.holds(address); }

void Memory::initialise(void* pointer, size_t bytes) {
  uint8_t* state = device_.state + (static_cast<std::byte*>(pointer) - device_.base);
  Cell* const cells = device_.cells + (state - device_.state);
  for (size_t i = 0; i < bytes; ++i) {
    if (state[i] == kUnwritten) state[i] = kWritten;
    cells[i].write_step = 0;
  }
}

void Memory::make_read_only(void* pointer, size_t bytes) {
  std::memset(device_.state + (static_cast<std::byte*>(pointer) - device_.base), kConstant, bytes);
}

void Memory::begin_launch() { launch_step_ = ++step_; }

std::byte* Memory::begin_block(size_t shared_bytes) {
  block_step_ = ++step_;
  std::memset(shared_.base, int(kPoison), shared_bytes);
  std::memset(shared_.state, kUnwritten, shared_bytes);
  if (shared_bytes < shared_bytes_)
    std::memset(shared_.state + shared_bytes, kOutside, shared_bytes_ - shared_bytes);
  shared_bytes_ = shared_bytes;
  return shared_.base;
}

bool Memory::check(const Access& who, const void* address, size_t size, AccessKind kind, Fault& fault,
                   std::string& message) {
  Region& region = shared_.holds(address) ? shared_ : device_;
  const auto fail = [&](Fault what, const char* text) {
    fault = what;
    message = std::string(kind == AccessKind::kRead    ? "read of "
                          : kind == AccessKind::kWrite ? "write of "
                                                       : "atomic on ") +
              std::to_string(size) + " bytes at " + describe(address) + ": " + text;
    return false;
  };
  const auto at = size_t(static_cast<const std::byte*>(address) - region.base);
  if (!region.holds(address) || at + size > region.size) return fail(Fault::kOutOfRange, "not device memory");
  if ((size & (size - 1)) == 0 && at % size != 0)
    return fail(Fault::kMisaligned, "not a multiple of the size");
  for (size_t i = at; i < at + size; ++i) {
    const uint8_t state = region.state[i];
    if (state == kWritten) continue;
    if (state == kOutside) return fail(Fault::kOutOfRange, "not allocated");
    if (state == kPending) return fail(Fault::kPendingCopy, "cp.async has not been waited for");
    if (state == kConstant && kind != AccessKind::kRead)
      return fail(Fault::kReadOnly, "kernels may only read here");
    if (state == kUnwritten && kind != AccessKind::kWrite)
      return fail(Fault::kUninitialised, "nothing has been written there");
  }
  if (who.early && &region == &device_ && (kind != AccessKind::kRead || by_kernels(region, at, at + size)))
    return fail(Fault::kEarly, "the kernels before may still run");
  if (region.state[at] == kConstant) return true;
  if (const char* conflict = record(region, at, at + size, who, kind)) return fail(Fault::kRace, conflict);
  if (kind == AccessKind::kWrite) std::memset(region.state + at, kWritten, size);
  if (kind != AccessKind::kRead && &region == &shared_)
    for (size_t i = at; i < at + size; ++i) written_at_[i] = moment_, writer_[i] = uint16_t(who.thread);
  return true;
}

bool Memory::check_async_read(const Access& who, const void* address, size_t size, uint32_t since,
                              Fault& fault, std::string& message) {
  if (!check(who, address, size, AccessKind::kRead, fault, message)) return false;
  const auto fail = [&](Fault what, const char* text) {
    fault = what;
    message = "wgmma reads " + describe(address) + ": " + text;
    return false;
  };
  const auto at = size_t(static_cast<const std::byte*>(address) - shared_.base);
  for (size_t i = at; i < at + size; ++i) {
    if (written_at_[i] >= since) return fail(Fault::kAsyncProduct, "it was written since the product began");
    if (fenced_at_[writer_[i]] <= written_at_[i])
      return fail(Fault::kProxyFence, "who wrote it has no fence.proxy.async after it");
  }
  return true;
}

/// Whether a kernel wrote one of the bytes after the host.
bool Memory::by_kernels(const Region& region, size_t begin, size_t end) const {
  for (size_t i = begin; i < end; ++i) {
    const Cell* const word = region.cells + i / 4 * 4;
    if ((word->split ? region.cells[i] : *word).write_step != 0) return true;
  }
  return false;
}

const char* Memory::record(Region& region, size_t begin, size_t end, const Access& who, AccessKind kind) {
  const bool shared = &region == &shared_;
  for (size_t i = begin; i < end;) {
    Cell* const word = region.cells + i / 4 * 4;
    if (i % 4 == 0 && i + 4 <= end && !word->split) {
      if (const char* conflict = record_one(*word, shared, who, kind)) return conflict;
      i += 4;
      continue;
    }
    if (!word->split) {
      word[1] = word[2] = word[3] = *word;
      word->split = true;
    }
    if (const char* conflict = record_one(region.cells[i], shared, who, kind)) return conflict;
    ++i;
    // A write of the whole word makes its bytes alike again.
    if (i % 4 == 0 && i - begin >= 4 && kind == AccessKind::kWrite) word->split = false;
  }
  return nullptr;
}

/// Steps below launch_step_ are earlier launches, those below block_step_ other blocks of this launch, which
/// nothing orders; the others are this block's, ordered unless equal to step_.
const char* Memory::record_one(Cell& cell, bool shared, const Access& who, AccessKind kind) {
  // Shared memory is a block's own.
  const auto foreign = [&](uint32_t step) { return !shared && step >= launch_step_ && step < block_step_; };
  const auto ordered = [&](int other, uint32_t warp_step) {
    return other == who.thread || (warp_of(other) == warp_of(who.thread) && warp_step < who.warp_step);
  };
  const bool both_atomic = kind == AccessKind::kAtomic && cell.atomic;
  if (!both_atomic) {
    if (foreign(cell.write_step)) return "another block of the launch wrote it";
    if (cell.write_step == step_ && !ordered(cell.writer, cell.write_warp_step))
      return "another thread wrote it since the last barrier";
  }
  if (kind == AccessKind::kRead) {
    if (foreign(cell.read_step)) cell.foreign_read_step = cell.read_step;
    const bool again = cell.read_step == step_ && cell.reader != who.thread;
    const bool fresh = cell.read_step != step_;
    cell.read_by_warps = !fresh && (cell.read_by_warps || warp_of(cell.reader) != warp_of(who.thread));
    // What its own warp read before a barrier of the warp is behind every lane.
    const bool behind = !cell.read_by_warps && cell.read_warp_step < who.warp_step;
    cell.read_by_several = !fresh && !behind && (cell.read_by_several || again);
    cell.read_step = step_;
    cell.reader = uint16_t(who.thread);
    cell.read_warp_step = uint16_t(who.warp_step);
    return nullptr;
  }
  if (foreign(cell.read_step) || foreign(cell.foreign_read_step))
    return "another block of the launch read it";
  if (cell.read_step == step_) {
    const bool single = !cell.read_by_several && cell.reader == who.thread;
    const bool in_warp = !cell.read_by_warps && warp_of(cell.reader) == warp_of(who.thread) &&
                         cell.read_warp_step < who.warp_step;
    if (!single && !in_warp) return "another thread read it since the last barrier";
  }
  cell.write_step = step_;
  cell.writer = uint16_t(who.thread);
  cell.write_warp_step = uint16_t(who.warp_step);
  cell.atomic = kind == AccessKind::kAtomic;
  return nullptr;
}

void Memory::set_pending(void* shared, size_t bytes) {
  std::memset(shared_.state + (static_cast<std::byte*>(shared) - shared_.base), kPending, bytes);
}

void Memory::complete_pending(void* shared, size_t bytes) {
  std::memset(shared_.state + (static_cast<std::byte*>(shared) - shared_.base), kUnwritten, bytes);
}

std::string Memory::describe(const void* address) const {
  const auto* p = static_cast<const std::byte*>(address);
  if (shared_.holds(p)) return "shared + " + std::to_string(p - shared_.base);
  if (device_.holds(p)) {
    auto above = live().upper_bound(const_cast<std::byte*>(p));
    if (above != live().begin()) {
      --above;
      return "an allocation of " + std::to_string(above->second) + " bytes + " +
             std::to_string(p - above->first);
    }
    return "unallocated device memory";
  }
  return "a host address";
}

}  // namespace stamp::cuda_on_host

#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace stamp::cuda_on_host {

/// What a kernel's launches did, counted exactly. Memory operations are those of warps: the n-th time that
/// the lanes of a warp run one instruction between two barriers.
struct Counters {
  uint64_t launches = 0, blocks = 0, threads = 0;
  uint64_t global_bytes = 0;    // distinct bytes asked for, warp by warp
  uint64_t global_sectors = 0;  // 32-byte sectors that hold them
  uint64_t global_requests = 0, shared_requests = 0;
  uint64_t shared_wavefronts = 0;                // passes over the 32 banks
  uint64_t shared_ideal = 0;                     // the fewest that the bytes need
  std::map<std::string, uint64_t> instructions;  // tensor-core and other PTX operations, warp by warp

  double coalescing() const {
    return global_sectors == 0 ? 1.0 : double(global_bytes) / double(32 * global_sectors);
  }
  uint64_t bank_conflicts() const { return shared_wavefronts - shared_ideal; }
};

/// Off unless a test turns it on: it costs time.
class Profile {
 public:
  static Profile& instance();
  void enable(bool on) { enabled_ = on; }
  bool enabled() const { return enabled_; }
  void reset() { counters_.clear(); }
  Counters& of(const std::string& kernel) { return counters_[kernel]; }
  const std::map<std::string, Counters>& all() const { return counters_; }

  struct Request {
    const void* site;
    uint64_t address;
    uint32_t size;
    bool shared;
  };
  /// Counts what the lanes of one warp did since the last barrier, and forgets it.
  void count(Counters& counters, std::vector<Request>* lanes, int count);

 private:
  bool enabled_ = false;
  std::map<std::string, Counters> counters_;
};

}  // namespace stamp::cuda_on_host

#include "tests/cuda_on_host/profile.h"

#include <algorithm>
#include <array>
#include <set>
#include <unordered_map>

namespace stamp::cuda_on_host {
namespace {

/// The lanes' requests of one warp instruction.
using Group = std::vector<Profile::Request>;

void count_global(Counters& counters, const Group& group) {
  std::set<uint64_t> sectors, bytes;
  for (const auto& r : group) {
    for (uint64_t b = r.address; b < r.address + r.size; ++b) bytes.insert(b), sectors.insert(b / 32);
  }
  ++counters.global_requests;
  counters.global_bytes += bytes.size();
  counters.global_sectors += sectors.size();
}

/// Requests of 8 and 16 bytes are served by halves and quarters of a warp; within one pass a bank gives one
/// 4-byte word, to any number of lanes.
void count_shared(Counters& counters, const Group& group) {
  const size_t lanes = group.front().size >= 16 ? 8 : group.front().size == 8 ? 16 : 32;
  ++counters.shared_requests;
  for (size_t begin = 0; begin < group.size(); begin += lanes) {
    std::array<std::set<uint64_t>, 32> words;
    for (size_t i = begin; i < std::min(group.size(), begin + lanes); ++i)
      for (uint64_t b = group[i].address / 4; b <= (group[i].address + group[i].size - 1) / 4; ++b)
        words[b % 32].insert(b);
    size_t passes = 0, all = 0;
    for (const auto& bank : words) passes = std::max(passes, bank.size()), all += bank.size();
    counters.shared_wavefronts += passes;
    counters.shared_ideal += (all + 31) / 32;
  }
}

}  // namespace

Profile& Profile::instance() {
  static Profile profile;
  return profile;
}

void Profile::count(Counters& counters, std::vector<Request>* lanes, int count) {
  // An asynchronous copy has one site and two accesses, of which a lane may leave one out.
  const auto key = [](const Request& r) { return reinterpret_cast<uintptr_t>(r.site) * 2 + r.shared; };
  std::unordered_map<uintptr_t, std::vector<Group>> groups;
  for (int lane = 0; lane < count; ++lane) {
    std::unordered_map<uintptr_t, size_t> times;
    for (const Request& r : lanes[lane]) {
      const size_t n = times[key(r)]++;
      auto& of_site = groups[key(r)];
      if (of_site.size() <= n) of_site.resize(n + 1);
      of_site[n].push_back(r);
    }
    lanes[lane].clear();
  }
  for (const auto& [site, of_site] : groups)
    for (const Group& group : of_site)
      group.front().shared ? count_shared(counters, group) : count_global(counters, group);
}

}  // namespace stamp::cuda_on_host

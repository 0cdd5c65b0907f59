// What a launch may ask for, checked alike by both executors.
#include "tests/cuda_on_host/executor.h"

namespace stamp::cuda_on_host {

void check_limits(const LaunchConfig& config) {
  const Architecture& a = settings().architecture;
  const auto refuse = [&](const std::string& what) {
    throw KernelError(Fault::kLimit, std::string(config.name) + ": " + what + " on " + std::string(a.name));
  };
  const auto& [gx, gy, gz] = config.grid;
  const uint64_t threads = uint64_t(config.block.x) * config.block.y * config.block.z;
  if (threads == 0 || threads > uint64_t(kMaxThreads) || config.block.z > 64)
    refuse(std::to_string(threads) + " threads a block, possible are 1 to 1024");
  if (gx == 0 || gy == 0 || gz == 0 || gx > 0x7fffffffu || gy > 65535 || gz > 65535)
    refuse("a grid of " + std::to_string(gx) + " x " + std::to_string(gy) + " x " + std::to_string(gz));
  const size_t most = config.large_shared_allowed ? a.shared_per_block : kSharedWithoutAttribute;
  if (config.shared_bytes > most)
    refuse(std::to_string(config.shared_bytes) + " bytes of shared memory, allowed are " +
           std::to_string(most));
}

}  // namespace stamp::cuda_on_host

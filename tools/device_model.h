#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace stamp {

/// `stamp bench --device-model`: what a GPU takes at least, predicted (engine/device_model.h).
struct DeviceModelFlags {
  std::string machine;
  std::vector<std::string> shapes;                                     // empty: all
  std::vector<std::string> recipes{"w4a8kv4-stamp", "w4a4kv4-stamp"};  // of our kernels
  std::vector<int64_t> prefill{2048};                                  // steps: prompts of so many tokens,
  std::vector<int64_t> depth{8192};                                    // and one token after so many others
  std::string json;
};
/// Prints tables, writes the JSON file if one is named, returns the exit code.
int run_device_model(const DeviceModelFlags& flags);

/// For the help: "a100, h100, ...".
std::string machine_names();
std::string shape_names();

}  // namespace stamp

#pragma once
#include <string>
#include <vector>

#include "engine/engine.h"
#include "kernels/machine_peaks.h"
#include "kernels/timed_ops.h"
#include "models/nlohmann.h"

namespace stamp {

/// The tables of `stamp bench --verbose`: for every operation of a test its time, what it had to do, and how
/// near it is to what this machine can do at most.
class Roofline {
 public:
  /// Measures the machine and, if the recipe transforms activations, what a transform takes.
  explicit Roofline(Engine& engine);

  /// A test that ran `runs` times in `seconds`, all together.
  void add(const std::string& test, int64_t runs, double seconds,
           const std::vector<TimedOps::Entry>& entries);

  const std::string& text() const { return text_; }
  nlohmann::ordered_json json() const;

 private:
  std::string name_of(const TimedOps::Entry& entry) const;

  const ModelConfig& config_;
  MachinePeaks peaks_;
  double transform_seconds_ = 0;  // of one channel of a block
  std::string text_;
  nlohmann::ordered_json tests_ = nlohmann::ordered_json::array();
};

}  // namespace stamp

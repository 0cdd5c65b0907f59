#pragma once
#include <string>
#include <vector>

#include "tests/cuda_on_host/memory.h"

namespace stamp::cuda_on_host {

/// A small kernel in two versions that differ by one mistake.
struct PlantedBug {
  const char* name;
  std::vector<Fault> expected;  // which of them is seen first is the schedule's choice
  void (*run)(bool planted);    // launches and waits
};
const std::vector<PlantedBug>& planted_bugs();

}  // namespace stamp::cuda_on_host

#pragma once
#include <memory>
#include <string_view>

#include "kernels/ops.h"

namespace stamp {

/// Operations on the current CUDA device. Views of memory() are used where they are; anything else is host
/// memory, copied in and out call by call, and then the call waits for the device. The cache's pages must be
/// from memory().
std::unique_ptr<Ops> make_device_ops(std::string_view name);

}  // namespace stamp

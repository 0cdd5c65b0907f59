#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/ops.h"

namespace stamp {

/// Devices besides the CPU that this program knows: cuda. The tests' program knows cuda-host, too, the same
/// kernels on the CPU.
std::vector<std::string> device_names();

/// The operations of a device of device_names(). Throws InputError, one clear line, unless this build has the
/// backend and a device is present.
std::unique_ptr<Ops> open_device(std::string_view name);

/// Those of the CUDA device.
std::unique_ptr<Ops> make_cuda_ops();

}  // namespace stamp

#pragma once
#include <memory>

#include "kernels/ops.h"

namespace stamp {

/// The operations of the CUDA device. Throws InputError, one clear line, unless this build has the CUDA
/// backend and a device is present.
std::unique_ptr<Ops> make_cuda_ops();

}  // namespace stamp

#pragma once

namespace stamp {

/// Throws InputError, one clear line, unless this build has the CUDA backend and a device is present.
void require_cuda_device();

}  // namespace stamp

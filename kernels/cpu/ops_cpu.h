#pragma once
#include <memory>

#include "kernels/cpu/kernels.h"
#include "kernels/ops.h"

namespace stamp {

/// Ops over one instruction set's kernels and a thread pool of its own.
std::unique_ptr<Ops> make_cpu_ops(const CpuKernels& kernels, int threads);

}  // namespace stamp

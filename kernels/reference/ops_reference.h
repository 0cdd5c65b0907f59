#pragma once
#include <memory>

#include "kernels/ops.h"

namespace stamp {

/// Every operation as the plainest loop, sums in double, one thread: the truth that other Ops are tested
/// against.
std::unique_ptr<Ops> make_reference_ops();

}  // namespace stamp

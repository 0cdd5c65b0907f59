#pragma once
#include <cuda_runtime.h>
#include <nccl.h>

#include <functional>
#include <memory>

#include "kernels/communicator.h"

namespace stamp::cuda {

/// One of `size` shards on devices, each on the current device of the thread that calls this; returns when
/// all have come. `id` is ncclGetUniqueId()'s, the same for all. Sums go in the order of `stream`, that of
/// the shard's operations, whose work that is held back `start_pending` starts; how they are ordered is
/// NCCL's choice for the machine's links, alike for all ranks.
///
/// Compiled where nccl.h is found, and never run: it needs two GPUs. `stamp` has no flag for it yet, and does
/// not link it.
std::unique_ptr<Communicator> make_nccl_communicator(const ncclUniqueId& id, int rank, int size,
                                                     cudaStream_t stream,
                                                     std::function<void()> start_pending);

}  // namespace stamp::cuda

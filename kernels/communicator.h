#pragma once
#include <memory>
#include <vector>

#include "kernels/views.h"

namespace stamp {

/// The one seam through which the shards of a model talk (models/tensor_parallel.h). Each shard has its own,
/// and all shards make the same calls in the same order. Besides the threads of this file there is NCCL
/// (kernels/cuda/nccl/).
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  /// x of every shard becomes the sum of all, the same bits for everyone. x is in the memory of the shard's
  /// operations; on a device the call only enqueues. Throws Error if the group was aborted or a device fails.
  virtual void all_reduce(Mat<float> x) = 0;
  /// From any thread: a call that waits for the other shards, now or later, ends. Whoever runs the shards
  /// calls it on all of them when one has failed, so that none waits for ever.
  virtual void abort() = 0;
};

/// Shards that are threads of this process and compute in host memory. Every element is summed in the order
/// of the ranks, so its bits do not depend on timing. Outlives its communicators' calls.
class ThreadGroup {
 public:
  explicit ThreadGroup(int size);
  ~ThreadGroup();
  Communicator& operator[](int rank) { return *communicators_[size_t(rank)]; }

 private:
  struct Meeting;
  class Member;
  std::unique_ptr<Meeting> meeting_;
  std::vector<std::unique_ptr<Communicator>> communicators_;
};

}  // namespace stamp

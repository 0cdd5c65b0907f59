#include "kernels/cuda/nccl/communicator.h"

#include <atomic>
#include <string>
#include <utility>

#include "kernels/error.h"

namespace stamp::cuda {
namespace {

/// Throws Error naming what failed.
void check(ncclResult_t status, const char* what) {
  if (status != ncclSuccess) throw Error(std::string("NCCL: ") + what + ": " + ncclGetErrorString(status));
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(const ncclUniqueId& id, int rank, int size, cudaStream_t stream,
                   std::function<void()> start_pending)
      : rank_(rank), size_(size), stream_(stream), start_pending_(std::move(start_pending)) {
    ncclComm_t group = nullptr;
    check(ncclCommInitRank(&group, size, id, rank), "ncclCommInitRank");
    group_ = group;
  }
  ~NcclCommunicator() override {
    if (ncclComm_t group = group_.exchange(nullptr); group != nullptr) ncclCommDestroy(group);
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_reduce(Mat<float> x) override {
    ncclComm_t group = group_;
    if (group == nullptr) throw Error("NCCL: the group of shards was aborted");
    start_pending_();
    if (x.stride == x.cols) return reduce(group, x.data, x.rows * x.cols);
    check(ncclGroupStart(), "ncclGroupStart");
    for (int64_t r = 0; r < x.rows; ++r) reduce(group, x.row(r), x.cols);
    check(ncclGroupEnd(), "ncclGroupEnd");
  }

  void abort() override {
    if (ncclComm_t group = group_.exchange(nullptr); group != nullptr) ncclCommAbort(group);
  }

 private:
  void reduce(ncclComm_t group, float* values, int64_t count) {
    check(ncclAllReduce(values, values, size_t(count), ncclFloat32, ncclSum, group, stream_),
          "ncclAllReduce");
  }

  int rank_, size_;
  cudaStream_t stream_;
  std::function<void()> start_pending_;
  std::atomic<ncclComm_t> group_ = nullptr;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(const ncclUniqueId& id, int rank, int size,
                                                     cudaStream_t stream,
                                                     std::function<void()> start_pending) {
  return std::make_unique<NcclCommunicator>(id, rank, size, stream, std::move(start_pending));
}

}  // namespace stamp::cuda

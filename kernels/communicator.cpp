#include "kernels/communicator.h"

#include <barrier>
#include <condition_variable>
#include <mutex>

#include "kernels/error.h"

namespace stamp {
namespace {

/// A barrier for threads of which one may fail and never come: either all pass or all throw.
class Gate {
 public:
  explicit Gate(int size) : size_(size) {}

  void arrive_and_wait() {
    std::unique_lock lock(mutex_);
    const int64_t round = round_;
    if (!broken_ && ++arrived_ == size_) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
    }
    changed_.wait(lock, [&] { return broken_ || round_ != round; });
    if (round_ == round) throw Error("another shard of the model has failed");
  }
  void break_up() {
    const std::lock_guard lock(mutex_);
    broken_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int size_, arrived_ = 0;
  int64_t round_ = 0;
  bool broken_ = false;
};

}  // namespace

/// What the shards share. Those who have come together do not fail before they part.
struct ThreadGroup::Meeting {
  explicit Meeting(int size) : parts(size_t(size)), begin(size), end(size) {}
  std::vector<Mat<float>> parts;
  Gate begin;
  std::barrier<> end;
};

class ThreadGroup::Member final : public Communicator {
 public:
  Member(Meeting& meeting, int rank) : meeting_(meeting), rank_(rank) {}
  int rank() const override { return rank_; }
  int size() const override { return int(meeting_.parts.size()); }

  /// Every shard sums its share of the columns, for all.
  void all_reduce(Mat<float> x) override {
    const std::vector<Mat<float>>& parts = meeting_.parts;
    meeting_.parts[size_t(rank_)] = x;
    meeting_.begin.arrive_and_wait();
    const int64_t first = x.cols * rank_ / size(), last = x.cols * (rank_ + 1) / size();
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t c = first; c < last; ++c) {
        float sum = parts.front().row(r)[c];
        for (size_t i = 1; i < parts.size(); ++i) sum += parts[i].row(r)[c];
        for (const Mat<float>& part : parts) part.row(r)[c] = sum;
      }
    }
    meeting_.end.arrive_and_wait();
  }

  void abort() override { meeting_.begin.break_up(); }

 private:
  Meeting& meeting_;
  int rank_;
};

ThreadGroup::ThreadGroup(int size) : meeting_(std::make_unique<Meeting>(size)) {
  for (int rank = 0; rank < size; ++rank) communicators_.push_back(std::make_unique<Member>(*meeting_, rank));
}

ThreadGroup::~ThreadGroup() = default;

}  // namespace stamp

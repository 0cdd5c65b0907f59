#pragma once
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <vector>

#include "engine/scheduler.h"

namespace stamp {

/// The sequences that answer one HTTP request. They run on the scheduler's thread; their events are taken on
/// the server's.
class Generation {
 public:
  using Clock = std::chrono::steady_clock;

  /// `at_once` sequences are handed to the scheduler, the others as these end. Events that nobody takes may
  /// hold `pending_bytes`; beyond, the client reads too slowly and everything is cancelled. The first two
  /// arguments must outlive this.
  Generation(Scheduler& scheduler, boost::asio::io_context& context, int64_t at_once, int64_t pending_bytes);
  /// Precondition: next() has returned nothing, or nothing was started.
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  /// Makes the request of that index; called again if there was no place for it.
  using Make = std::function<ScheduledRequest(size_t index)>;
  /// False if the scheduler has no place for the first of `count`; then nothing runs. Throws InputError for a
  /// request that can never be answered; cancel() then, and take what has begun.
  bool start(size_t count, Make make);

  struct Item {
    size_t index = 0;  // of the request
    GenerateEvent event{};
    Clock::time_point time{};  // when it was produced
  };
  /// The next event; nothing when every event of every sequence was taken.
  boost::asio::awaitable<std::optional<Item>> next();
  /// next() would not wait.
  bool has_items() const { return !items_.empty(); }
  void cancel();
  bool overflowed() const { return overflowed_; }

 private:
  bool submit_next();
  void refill();
  void deliver(Item item);

  Scheduler& scheduler_;
  boost::asio::io_context& context_;
  const int64_t at_once_, pending_limit_;
  Make make_;
  std::vector<Scheduler::Id> ids_;  // of those submitted
  size_t count_ = 0, next_ = 0;     // requests; the next to be submitted
  int64_t running_ = 0, pending_bytes_ = 0;
  bool overflowed_ = false;
  std::deque<Item> items_;
  boost::asio::steady_timer wake_;  // cut short when an item arrives
};

}  // namespace stamp

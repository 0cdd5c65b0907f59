#include "tools/serve/generation.h"

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cassert>

#include "kernels/error.h"

namespace stamp {
namespace {

namespace asio = boost::asio;
constexpr auto kRetry = std::chrono::milliseconds(50);  // while others fill the queue

int64_t bytes_of(const GenerateEvent& event) {
  constexpr int64_t kBase = 256, kLogprob = 64;
  int64_t logprobs = 0;
  for (const TokenLogprob& token : event.logprobs) logprobs += 1 + int64_t(token.top.size());
  for (const TokenLogprob& token : event.prompt_logprobs) logprobs += 1 + int64_t(token.top.size());
  return kBase + int64_t(event.text.size()) + kLogprob * logprobs;
}

}  // namespace

Generation::Generation(Scheduler& scheduler, asio::io_context& context, int64_t at_once,
                       int64_t pending_bytes)
    : scheduler_(scheduler),
      context_(context),
      at_once_(at_once),
      pending_limit_(pending_bytes),
      wake_(context) {}

Generation::~Generation() { assert(running_ == 0); }

bool Generation::start(size_t count, Make make) {
  make_ = std::move(make);
  if (!submit_next()) return false;
  count_ = count;
  while (next_ < count_ && running_ < at_once_ && submit_next()) {
  }
  return true;
}

/// False if there is no place now.
bool Generation::submit_next() {
  const size_t index = next_;
  const auto sink = [this, index](GenerateEvent event) {
    asio::post(context_, [this, item = Item{index, std::move(event), Clock::now()}]() mutable {
      deliver(std::move(item));
    });
  };
  const auto id = scheduler_.submit(make_(index), sink);
  if (!id) return false;
  ids_.push_back(*id);
  ++next_;
  ++running_;
  return true;
}

void Generation::deliver(Item item) {
  if (item.event.finish) --running_;
  pending_bytes_ += bytes_of(item.event);
  items_.push_back(std::move(item));
  if (pending_bytes_ > pending_limit_ && !overflowed_) {
    // The prompt's logprobs come all at once: they do not tell of a slow client.
    overflowed_ = items_.size() > 1;
    if (overflowed_) cancel();
  }
  wake_.cancel();
}

/// Hands more to the scheduler. A request that it refuses now was validated before: that is a failure.
void Generation::refill() {
  while (next_ < count_ && running_ < at_once_) {
    try {
      if (!submit_next()) return;
    } catch (const InputError& e) {
      GenerateEvent failed;
      failed.finish = GenerateEvent::Finish::kFailed;
      failed.error = e.what();
      items_.push_back({next_++, std::move(failed), Clock::now()});
    }
  }
}

asio::awaitable<std::optional<Generation::Item>> Generation::next() {
  refill();
  while (items_.empty()) {
    if (running_ == 0 && next_ == count_) co_return std::nullopt;
    const bool retries = running_ == 0;
    if (retries) wake_.expires_after(kRetry);
    else wake_.expires_at(Clock::time_point::max());
    boost::system::error_code ignored;
    co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    refill();
  }
  Item item = std::move(items_.front());
  items_.pop_front();
  pending_bytes_ -= bytes_of(item.event);
  co_return item;
}

void Generation::cancel() {
  count_ = next_;
  for (const Scheduler::Id id : ids_) scheduler_.cancel(id);
}

}  // namespace stamp

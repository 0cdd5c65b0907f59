// The scheduler's threads: what is accepted ends, once, with the answer of the request alone.
#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <random>
#include <thread>

#include "kernels/error.h"
#include "tests/engine/scheduled.h"

namespace stamp {
namespace {

using testing::HasSubstr;
using Finish = GenerateEvent::Finish;

/// Waits for one request's events.
class Answer {
 public:
  Scheduler::Sink sink() {
    return [this](GenerateEvent event) {
      const std::lock_guard lock(mutex_);
      outcome_.add(std::move(event));
      changed_.notify_all();
    };
  }
  const Outcome& wait() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::minutes(2), [&] { return outcome_.ended; }));
    return outcome_;
  }
  void wait_for_token() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::minutes(2), [&] { return !outcome_.tokens.empty(); }));
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Outcome outcome_;
};

/// Holds the scheduler's thread inside a sink, so that what others submit meanwhile stays where it is.
class Gate {
 public:
  Scheduler::Sink sink() {
    return [this](GenerateEvent event) {
      std::unique_lock lock(mutex_);
      closed_ = true;
      ended_ = ended_ || event.finish;
      changed_.notify_all();
      changed_.wait(lock, [&] { return open_; });
    };
  }
  /// Until the thread is held.
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return closed_; });
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  bool ended() {
    const std::lock_guard lock(mutex_);
    return ended_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool closed_ = false, open_ = false, ended_ = false;
};

ScheduledRequest counting(std::string_view prompt, int64_t max_tokens = 128) {
  return {.generate = {.prompt = bytes_of(prompt), .max_tokens = max_tokens}};
}

/// Says nothing but digits for as long as the context lasts.
ScheduledRequest endless() { return counting("0", 1'000'000); }

TEST(Scheduler, StreamsTheTextOfEachRequestAndSaysWhyItEnded) {
  TinyEngine tiny(counting_model());
  Scheduler scheduler(tiny, {});
  Answer ended, cut, stopped, empty;
  ScheduledRequest stops = counting("a");
  stops.generate.stops = {"mno"};
  ASSERT_TRUE(scheduler.submit(counting("w"), ended.sink()));
  ASSERT_TRUE(scheduler.submit(counting("a", 3), cut.sink()));
  ASSERT_TRUE(scheduler.submit(std::move(stops), stopped.sink()));
  ASSERT_TRUE(scheduler.submit(counting("a", 0), empty.sink()));
  EXPECT_EQ(ended.wait().text, "xyz");
  EXPECT_EQ(ended.wait().finish, Finish::kStop);
  EXPECT_EQ(ended.wait().tokens.back(), TinyModel::kEos);
  EXPECT_EQ(cut.wait().text, "bcd");
  EXPECT_EQ(cut.wait().finish, Finish::kLength);
  EXPECT_EQ(stopped.wait().text, "bcdefghijkl");
  EXPECT_EQ(stopped.wait().finish, Finish::kStop);
  EXPECT_EQ(empty.wait().text, "");
  EXPECT_EQ(empty.wait().finish, Finish::kLength);
  EXPECT_TRUE(empty.wait().tokens.empty());
}

TEST(Scheduler, AnswersFromSeveralThreadsAreThoseOfEachRequestAlone) {
  TinyEngine tiny(random_model(), {.context = 256, .cache_tokens = 1024}),
      other(random_model(), {.context = 256});
  std::vector<Outcome> truth;
  for (uint32_t i = 0; i < 12; ++i)
    truth.push_back(alone(other, random_request(other, 20 + 9 * i, 40, i + 1)));
  Scheduler scheduler(tiny, {.parallel = 5});
  std::vector<Answer> answers(truth.size());
  std::vector<std::thread> clients;
  for (uint32_t t = 0; t < 3; ++t)
    clients.emplace_back([&, t] {
      for (uint32_t i = t; i < 12; i += 3)
        ASSERT_TRUE(scheduler.submit(random_request(other, 20 + 9 * i, 40, i + 1), answers[i].sink()));
    });
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < truth.size(); ++i) expect_same(answers[i].wait(), truth[i]);
}

TEST(Scheduler, TheQueueIsBounded) {
  TinyEngine tiny(counting_model());
  Scheduler scheduler(tiny, {.parallel = 2, .queue = 3});
  Gate gate;
  ASSERT_TRUE(scheduler.submit(counting("a"), gate.sink()));
  gate.wait();
  std::vector<Answer> answers(4);
  for (Answer& answer : answers) EXPECT_TRUE(scheduler.submit(counting("a"), answer.sink()));
  EXPECT_FALSE(scheduler.submit(counting("a"), [](GenerateEvent) { FAIL() << "was refused"; }));
  EXPECT_EQ(scheduler.stats().waiting, 4);
  gate.open();
  for (Answer& answer : answers) EXPECT_EQ(answer.wait().finish, Finish::kStop);
  scheduler.drain();
  EXPECT_FALSE(scheduler.submit(counting("a"), [](GenerateEvent) { FAIL() << "was drained"; }));
}

TEST(Scheduler, ADecodingRequestCanBeCancelled) {
  TinyEngine tiny(counting_model());
  Scheduler scheduler(tiny, {});
  Answer answer, other;
  Gate gate;
  const auto id = scheduler.submit(
      endless(), [hear = answer.sink(), hold = gate.sink(), tokens = size_t{0}](GenerateEvent event) mutable {
        tokens += event.tokens.size();
        hear(event);
        if (tokens >= 5) hold(std::move(event));
      });
  ASSERT_TRUE(scheduler.submit(endless(), other.sink()));
  gate.wait();
  scheduler.cancel(*id);
  gate.open();
  EXPECT_EQ(answer.wait().finish, Finish::kCancelled);
  EXPECT_GE(answer.wait().tokens.size(), 5u);
  EXPECT_EQ(other.wait().finish, Finish::kLength);
  scheduler.cancel(*id);    // it has ended: nothing happens
  scheduler.cancel(12345);  // nor was there ever such a one
}

TEST(Scheduler, AQueuedRequestCanBeCancelledBeforeAnyWork) {
  TinyEngine tiny(counting_model());
  Scheduler scheduler(tiny, {.parallel = 1});
  Gate gate;
  ASSERT_TRUE(scheduler.submit(counting("a", 3), gate.sink()));
  gate.wait();
  Answer answer;
  const auto id = scheduler.submit(counting("a"), answer.sink());
  scheduler.cancel(*id);
  gate.open();
  EXPECT_EQ(answer.wait().finish, Finish::kCancelled);
  EXPECT_TRUE(answer.wait().tokens.empty());
  scheduler.drain();
  EXPECT_EQ(scheduler.stats().prompt_tokens, 1);
}

TEST(Scheduler, APrefillingRequestCanBeCancelledBetweenItsChunks) {
  TinyEngine tiny(counting_model(), {.cache_tokens = 1024, .prefill_chunk = 128});
  Scheduler scheduler(tiny, {.step_tokens = 72, .prefix_cache = false});
  Gate gate;
  ASSERT_TRUE(scheduler.submit(counting("a", 3), gate.sink()));
  gate.wait();
  Answer answer;
  const auto id = scheduler.submit(counting(std::string(500, '0')), answer.sink());
  Answer after;  // comes after the first chunk, whose sequence it cancels from the scheduler's own thread
  ASSERT_TRUE(scheduler.submit(counting("a", 1), [&, sink = after.sink()](GenerateEvent event) {
    scheduler.cancel(*id);
    sink(std::move(event));
  }));
  gate.open();
  EXPECT_EQ(answer.wait().finish, Finish::kCancelled);
  EXPECT_EQ(after.wait().finish, Finish::kLength);
  scheduler.drain();
  EXPECT_EQ(scheduler.stats().prompt_tokens, 2) << "the cancelled prompt was computed to its end";
  EXPECT_EQ(scheduler.stats().free_pages, scheduler.stats().total_pages);
}

TEST(Scheduler, ItsEndCancelsWhatIsLeft) {
  TinyEngine tiny(counting_model(), {.context = 200'000});  // more than could be said meanwhile
  Answer running, queued;
  {
    Scheduler scheduler(tiny, {.parallel = 1});
    ASSERT_TRUE(scheduler.submit(endless(), running.sink()));
    ASSERT_TRUE(scheduler.submit(endless(), queued.sink()));
    running.wait_for_token();
  }
  EXPECT_EQ(running.wait().finish, Finish::kCancelled);
  EXPECT_EQ(queued.wait().finish, Finish::kCancelled);
  EXPECT_EQ(tiny->cache().free_pages(), tiny->cache().max_tokens() / kBlock);
}

TEST(Scheduler, DrainReturnsWhenAllHaveEnded) {
  TinyEngine tiny(counting_model());
  Scheduler scheduler(tiny, {.parallel = 2});
  std::atomic<int> ended{0};
  for (int i = 0; i < 7; ++i)
    ASSERT_TRUE(scheduler.submit(counting("a"), [&](const GenerateEvent& e) { ended += e.finish ? 1 : 0; }));
  scheduler.drain();
  EXPECT_EQ(ended, 7);
  scheduler.drain();  // again: nothing to wait for
}

TEST(Scheduler, RefusesWhatCanNeverBeAnswered) {
  TinyEngine tiny(counting_model(), {.context = 100});
  Scheduler scheduler(tiny, {});
  const auto refusal = [&](ScheduledRequest request) -> std::string {
    try {
      scheduler.submit(std::move(request), [](GenerateEvent) { FAIL() << "was refused"; });
    } catch (const InputError& e) {
      return e.what();
    }
    return "was accepted";
  };
  EXPECT_THAT(refusal({}), HasSubstr("the prompt is empty"));
  EXPECT_THAT(refusal(counting(std::string(101, 'a'))),
              HasSubstr("101 tokens do not fit the context of 100"));
  EXPECT_THAT(refusal({.generate = {.prompt = {TinyModel::kVocab}}}), HasSubstr("token id 264"));
  EXPECT_THAT(refusal({.generate = {.prompt = {1}, .sampling = {.top_p = 2}}}), HasSubstr("top_p"));
  EXPECT_THAT(refusal({.generate = {.prompt = {1}}, .top_logprobs = 1000}), HasSubstr("1000"));
  EXPECT_THROW(Scheduler(tiny, {.parallel = 500}), InputError);
  EXPECT_THROW(Scheduler(tiny, {.parallel = 0}), InputError);
  EXPECT_THROW(Scheduler(tiny, {.step_tokens = 64}), InputError);
}

/// A thousand requests of four threads over a cache that is too small for those that run, a third of them
/// cancelled at any time.
TEST(Scheduler, NothingIsLostUnderLoad) {
  TinyEngine tiny(random_model(), {.context = 256, .cache_tokens = 512, .prefill_chunk = 128});
  Scheduler scheduler(tiny, {.parallel = 6, .queue = 40, .step_tokens = 100});
  constexpr int kThreads = 4, kEach = 250;
  std::atomic<int> finished{0}, cancelled{0}, refused{0};
  std::vector<std::thread> clients;
  for (int t = 0; t < kThreads; ++t)
    clients.emplace_back([&, t] {
      std::mt19937 rng(static_cast<uint32_t>(t));
      for (int i = 0; i < kEach; ++i) {
        const auto prompt = std::vector<int32_t>(1 + rng() % 200, int32_t(rng() % 3));
        const int64_t tokens = rng() % 30;
        const bool scores = rng() % 8 == 0;
        const int top = int(rng() % 4) - 1;
        std::optional<Scheduler::Id> id;
        while (!id) {
          id = scheduler.submit({.generate = {.prompt = prompt, .max_tokens = tokens, .ignore_eos = true},
                                 .top_logprobs = top,
                                 .prompt_logprobs = scores},
                                [&](const GenerateEvent& event) {
                                  if (event.finish)
                                    ++(*event.finish == Finish::kCancelled ? cancelled : finished);
                                  EXPECT_EQ(event.error, "");
                                });
          if (!id) {
            ++refused;
            std::this_thread::yield();
          }
        }
        if (rng() % 3 == 0) scheduler.cancel(*id);
      }
    });
  for (std::thread& client : clients) client.join();
  scheduler.drain();
  EXPECT_EQ(finished + cancelled, kThreads * kEach);
  EXPECT_GT(finished, kThreads * kEach / 2);
  EXPECT_GT(cancelled, 0);
  EXPECT_GT(refused, 0);
  const Scheduler::Stats stats = scheduler.stats();
  EXPECT_GT(stats.preemptions, 0);
  EXPECT_GT(stats.cached_tokens, 0);
  EXPECT_EQ(stats.free_pages, stats.total_pages);
  EXPECT_EQ(stats.running + stats.waiting, 0);
}

}  // namespace
}  // namespace stamp

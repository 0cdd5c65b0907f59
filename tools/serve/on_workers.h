#pragma once
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <type_traits>
#include <utility>

namespace stamp {

/// Runs work() on a thread of the pool, so that the server's thread goes on meanwhile.
template <class Work, class Result = std::invoke_result_t<Work>>
boost::asio::awaitable<Result> on_workers(boost::asio::thread_pool& pool, Work work) {
  auto run = [work = std::move(work)]() -> boost::asio::awaitable<Result> { co_return work(); };
  co_return co_await boost::asio::co_spawn(pool, std::move(run), boost::asio::use_awaitable);
}

}  // namespace stamp

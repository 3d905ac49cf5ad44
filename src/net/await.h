// How coroutines wait: `auto [failure, ...] = co_await operation(..., kAwait)`. A network error is a value,
// never thrown.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace nullbox::net {

constexpr auto kAwait = boost::asio::as_tuple(boost::asio::use_awaitable);

} // namespace nullbox::net

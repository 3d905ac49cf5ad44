// Asio as egress uses it: coroutines that give values, one thread. Internal.
//
// A coroutine never throws a network error: operations are awaited with kAwait and give a tuple that begins
// with the error code.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/udp.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/error.h"
#include "egress/net/address.h"
#include "net/await.h"

namespace nullbox::egress {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;
using ErrorCode = boost::system::error_code;

template <typename T = void>
using Task = asio::awaitable<T>;

using net::kAwait;

inline Error asio_error(const ErrorCode& code, std::string_view what) {
    return errno_error(code.value(), what);
}

// False: cancelled, which ends the wait early.
inline Task<bool> sleep_for(asio::steady_timer& timer, std::chrono::steady_clock::duration time) {
    timer.expires_after(time);
    auto [code] = co_await timer.async_wait(kAwait);
    co_return !code;
}

asio::ip::address to_asio(const IpAddress& address);
IpAddress from_asio(const asio::ip::address& address);

} // namespace nullbox::egress

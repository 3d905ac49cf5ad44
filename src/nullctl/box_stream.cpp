#include "nullctl/box_stream.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/write.hpp>
#include <csignal>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "net/await.h"

namespace nullbox::nullctl {

namespace asio = boost::asio;
namespace beast = boost::beast;

using net::kAwait;
constexpr size_t kPieceBytes = size_t{32} << 10;

struct BoxStream::Carrier {
    Carrier(asio::io_context& its_context, UpgradedConnection its_connection)
        : context(its_context), connection(std::move(its_connection)), local(context) {}
    asio::awaitable<void> down();
    asio::awaitable<void> up();
    beast::tcp_stream& lower() { return beast::get_lowest_layer(*connection.stream); }

    asio::io_context& context;
    UpgradedConnection connection;
    asio::local::stream_protocol::socket local;
    std::string problem;
    bool leaving = false; // we have
};

// From the box to us.
asio::awaitable<void> BoxStream::Carrier::down() {
    std::string piece(kPieceBytes, '\0');
    for (;;) {
        size_t count = asio::buffer_copy(asio::buffer(piece), connection.buffer.data());
        connection.buffer.consume(count);
        if (count == 0) {
            auto [ended, read] = co_await connection.stream->async_read_some(asio::buffer(piece), kAwait);
            if (ended && ended != asio::error::eof && ended != asio::ssl::error::stream_truncated && !leaving)
                problem = ended.message();
            if (ended) break;
            count = read;
        }
        auto [refused, written] =
            co_await asio::async_write(local, asio::buffer(piece.data(), count), kAwait);
        if (refused) break;
    }
    beast::error_code ignored;
    local.shutdown(asio::socket_base::shutdown_both, ignored); // what was written is still there to read
}

asio::awaitable<void> BoxStream::Carrier::up() {
    std::string piece(kPieceBytes, '\0');
    for (;;) {
        auto [ended, count] = co_await local.async_read_some(asio::buffer(piece), kAwait);
        if (ended) break;
        auto [unsent, sent] =
            co_await asio::async_write(*connection.stream, asio::buffer(piece.data(), count), kAwait);
        if (unsent && problem.empty()) problem = unsent.message();
        if (unsent) break;
    }
    leaving = true;
    lower().close();
}

Result<std::unique_ptr<BoxStream>> BoxStream::carry(asio::io_context& context,
                                                    UpgradedConnection connection) {
    auto pair = TRY(make_socket_pair(SOCK_STREAM));
    std::unique_ptr<BoxStream> out(new BoxStream);
    out->ours_ = std::move(pair.first);
    out->carrier_ = std::make_unique<Carrier>(context, std::move(connection));
    auto& carrier = *out->carrier_;
    beast::error_code failure;
    carrier.local.assign(asio::local::stream_protocol(), pair.second.get(), failure);
    if (failure) return error(failure.message());
    (void)pair.second.release();
    carrier.lower().expires_never();
    // A box that is gone without a word is found out in two minutes.
    int on = 1, idle_s = 60, between_s = 15, times = 4;
    int socket = carrier.lower().socket().native_handle();
    ::setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &between_s, sizeof between_s);
    ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
    asio::co_spawn(context, carrier.down(), asio::detached);
    asio::co_spawn(context, carrier.up(), asio::detached);
    // Signals are for whoever waits for them, not for this thread.
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    out->thread_ = std::thread([&context] {
        context.restart();
        context.run();
    });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return out;
}

std::string BoxStream::close() {
    ours_.reset();
    if (thread_.joinable()) thread_.join();
    return carrier_->problem;
}

BoxStream::~BoxStream() {
    if (carrier_) close();
}

} // namespace nullbox::nullctl

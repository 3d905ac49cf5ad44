// Commands and copies in agents: cage gives a stream to the guest, and the bytes of the connection are
// carried to it and back as they are. What they mean is between nullctl and agent-init; a guest that writes
// nonsense writes it to the operator's program, which expects that. Each direction holds one piece, and waits
// for whoever does not read; who leaves ends both.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/text.h"
#include "gate/roles.h"
#include "gate/session.h"
#include "net/await.h"

namespace nullbox::gate {

namespace json = boost::json;
using asio::posix::stream_descriptor;

using net::kAwait;
constexpr size_t kPieceBytes = size_t{32} << 10;
constexpr std::chrono::seconds kLookAtClient{5};

asio::awaitable<Response> Session::exec(Head& head, const Target& target, bool& over) {
    auto refuse = [](unsigned status, std::string_view name, std::string_view message) {
        auto response = refusal(status, name, message);
        response.body_unread = true;
        return response;
    };
    if (who_.role < kExecRole)
        co_return refuse(403, "NotAllowed",
                         cat(target.first, " needs the role ", role_name(kExecRole), "; ", who_.name, " is ",
                             role_name(who_.role)));
    if (!beast::iequals(head.get()[http::field::upgrade], kExecProtocol))
        co_return refuse(426, "BadRequest", cat("this needs \"Upgrade: ", kExecProtocol, "\""));
    if (house_.counts.execs >= house_.limits.execs)
        co_return refuse(429, "TooMany", cat(house_.counts.execs, " commands and copies run; wait"));
    struct Place {
        size_t& count;
        explicit Place(size_t& of) : count(of) { count++; }
        ~Place() { count--; }
    } place(house_.counts.execs);

    json::object parameters;
    auto read = co_await read_parameters(head, true, parameters);
    if (read.status != 200) co_return read;
    if (parameters.contains("name"))
        co_return refusal(400, "BadRequest", "\"name\" is in the target; leave it out");
    parameters["name"] = target.second;
    auto opened = co_await house_.backend.call("io.nullbox.cage", target.first == "exec" ? "Exec" : "Copy",
                                               std::move(parameters), std::chrono::seconds(30));
    if (!opened.has_value() || !opened->error.empty()) co_return from_service(std::move(opened));
    if (opened->fds.size() != 2)
        co_return refusal(502, "ServiceBroke", "cage did not say where the stream is");
    over = true;
    Fd lease = std::move(opened->fds[1]); // closed when this ends: cage sees that nobody is there any more
    auto what = cat(who_.name, ": ", target.first, "/", target.second);
    log_info(cat(what, ": 101"));
    co_await relay(std::move(opened->fds[0]));
    log_info(cat(what, ": ended"));
    co_return Response{};
}

// A peer that vanished without a word is found out in two minutes, whether or not anything is said.
static void keep_alive(int socket) {
    int idle_s = 60, between_s = 15, times = 4;
    ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &between_s, sizeof between_s);
    ::setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof times);
}

// From the guest, until its end; the other way in a coroutine of its own, which is over when this returns.
asio::awaitable<void> Session::relay(Fd stream) {
    auto& context = house_.backend.context();
    auto second = stream.duplicate();
    if (!second.has_value() || !set_nonblocking(stream.get()).has_value()) co_return;
    stream_descriptor guest(context, stream.release());
    guest_ = &guest;
    lower().expires_never(); // a terminal may be quiet for hours, and a reader may take its time
    keep_alive(lower().socket().native_handle());
    std::string out = cat(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ", kExecProtocol, "\r\n\r\n");
    auto [refused, written] = co_await asio::async_write(stream_, asio::buffer(out), kAwait);
    bool carrying = true;
    Signal carried(context);
    asio::co_spawn(context, relay_to_guest(std::move(*second)), [&](const std::exception_ptr&) {
        carrying = false;
        carried.raise();
    });
    out.resize(kPieceBytes);
    while (!refused && !closed_) {
        auto [ended, count] = co_await guest.async_read_some(asio::buffer(out), kAwait);
        if (ended) break;
        auto [unsent, sent] = co_await asio::async_write(stream_, asio::buffer(out.data(), count), kAwait);
        if (unsent) break;
    }
    // Its other descriptor is the other coroutine's: this ends the stream itself.
    ::shutdown(guest.native_handle(), SHUT_RDWR);
    guest_ = nullptr;
    if (!closed_) lower().cancel();
    while (carrying) co_await carried.wait(std::chrono::hours(1));
}

bool Session::client_left() {
    tcp_info info{};
    socklen_t size = sizeof info;
    return ::getsockopt(lower().socket().native_handle(), IPPROTO_TCP, TCP_INFO, &info, &size) < 0 ||
           info.tcpi_state != TCP_ESTABLISHED;
}

// To the guest, until the client leaves, which ends the stream, or the guest does.
asio::awaitable<void> Session::relay_to_guest(Fd stream) {
    // Shared with the timer, which may have gone off already when we leave.
    auto guest = std::make_shared<stream_descriptor>(house_.backend.context(), stream.release());
    asio::steady_timer timer(house_.backend.context());
    std::string piece(kPieceBytes, '\0');
    for (;;) {
        size_t count = asio::buffer_copy(asio::buffer(piece), buffer_.data()); // what came with the request
        buffer_.consume(count);
        if (count == 0) {
            auto [left, read] = co_await stream_.async_read_some(asio::buffer(piece), kAwait);
            if (left) break;
            count = read;
        }
        std::string_view bytes(piece.data(), count);
        while (!bytes.empty()) {
            ssize_t sent =
                ::send(guest->native_handle(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent >= 0) {
                bytes.remove_prefix(static_cast<size_t>(sent));
            } else if (errno == EAGAIN) {
                // While the guest does not read, neither do we; the client may be gone meanwhile.
                timer.expires_after(kLookAtClient);
                timer.async_wait([guest](const beast::error_code& failure) {
                    if (!failure) guest->cancel();
                });
                (void)co_await guest->async_wait(stream_descriptor::wait_write, kAwait);
                timer.cancel();
                if (closed_ || client_left()) {
                    ::shutdown(guest->native_handle(), SHUT_RDWR);
                    co_return;
                }
            } else if (errno != EINTR) {
                co_return; // its last words are still on their way to the client
            }
        }
    }
    ::shutdown(guest->native_handle(), SHUT_RDWR);
}

} // namespace nullbox::gate

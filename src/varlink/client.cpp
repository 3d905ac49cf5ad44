#include "varlink/client.h"

#include <algorithm>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <optional>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/loop.h" // Clock
#include "base/passing.h"
#include "base/text.h"
#include "varlink/answer.h"
#include "varlink/message.h"
#include "varlink/server.h" // kMaxMessageBytes

namespace nullbox::varlink {

namespace json = boost::json;

// connect() waits when the service's backlog is full.
constexpr timeval kConnectLimit{.tv_sec = 5, .tv_usec = 0};

using Deadline = std::optional<Clock::time_point>; // nothing: no limit

struct Client::Impl {
    Result<> wait_for(short events, Deadline deadline);
    Result<> send(std::string_view bytes, std::vector<Fd> fds, Deadline deadline);
    Result<Reply> receive(Deadline deadline);
    Result<Answer> exchange(const Request& request, std::vector<Fd> fds, Deadline deadline,
                            const std::function<bool(const json::object&)>* each);

    std::string path;
    Fd socket;
    MessageReader reader{kMaxMessageBytes};
    std::vector<Fd> arrived; // descriptors of the answer that is awaited
};

Result<Client> Client::connect(const std::string& socket_path) {
    sockaddr_un address{.sun_family = AF_UNIX};
    if (socket_path.size() >= sizeof address.sun_path)
        return nullbox::error(cat("connect to ", socket_path, ": the path is too long"));
    std::ranges::copy(socket_path, address.sun_path);
    auto impl = std::make_unique<Impl>();
    impl->path = socket_path;
    impl->socket = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!impl->socket) return errno_error("make a socket");
    ::setsockopt(impl->socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kConnectLimit, sizeof kConnectLimit);
    if (::connect(impl->socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
        return errno_error(errno == EAGAIN ? ETIMEDOUT : errno, cat("connect to ", socket_path));
    TRY(set_nonblocking(impl->socket.get()));
    return Client(std::move(impl));
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Result<> Client::Impl::wait_for(short events, Deadline deadline) {
    for (;;) {
        int wait_ms = -1;
        if (deadline) {
            auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now()).count();
            if (left <= 0) return errno_error(ETIMEDOUT, "no answer in time");
            wait_ms = static_cast<int>(std::min<int64_t>(left, 60'000));
        }
        pollfd polled{.fd = socket.get(), .events = events};
        int count = ::poll(&polled, 1, wait_ms);
        if (count > 0) return {};
        if (count < 0 && errno != EINTR) return errno_error("wait for the socket");
    }
}

Result<> Client::Impl::send(std::string_view bytes, std::vector<Fd> fds, Deadline deadline) {
    while (!bytes.empty()) {
        ssize_t count = send_with_fds(socket.get(), bytes, fds);
        if (count >= 0) {
            bytes.remove_prefix(static_cast<size_t>(count));
            fds.clear();
        } else if (errno == EAGAIN)
            TRY(wait_for(POLLOUT, deadline));
        else if (errno != EINTR)
            return errno_error("send the request");
    }
    return {};
}

Result<Reply> Client::Impl::receive(Deadline deadline) {
    for (;;) {
        if (auto message = TRY(reader.next())) return parse_reply(*message);
        char bytes[16 << 10];
        auto [count, fds, fds_lost] = receive_with_fds(socket.get(), bytes);
        for (auto& fd : fds) arrived.push_back(std::move(fd));
        if (count > 0)
            reader.feed({bytes, static_cast<size_t>(count)});
        else if (count == 0)
            return nullbox::error("the service closed the connection");
        else if (errno == EAGAIN)
            TRY(wait_for(POLLIN, deadline));
        else if (errno != EINTR)
            return errno_error("receive the answer");
    }
}

Error varlink_error(const Reply& reply) {
    const auto* message = reply.parameters.if_contains("message");
    if (message && message->is_string()) {
        const auto* parameter = reply.parameters.if_contains("parameter");
        auto which = parameter && parameter->is_string()
                         ? cat(std::string_view(parameter->get_string()), ": ")
                         : std::string();
        return nullbox::error(cat(*reply.error, ": ", which, std::string_view(message->get_string())));
    }
    if (reply.parameters.empty()) return nullbox::error(*reply.error);
    return nullbox::error(cat(*reply.error, ": ", json::serialize(reply.parameters)));
}

// The last answer. A failure that leaves the stream in the middle of a message or of a call closes it, so
// that the next call cannot take the old answer for its own.
Result<Answer> Client::Impl::exchange(const Request& request, std::vector<Fd> fds, Deadline deadline,
                                      const std::function<bool(const json::object&)>* each) {
    if (!socket) return nullbox::error("the connection was closed by an earlier failure; connect again");
    auto failed = [this](Error failure) {
        socket.reset();
        return failure;
    };
    if (auto sent = send(encode(request), std::move(fds), deadline); !sent.has_value())
        return failed(sent.error());
    for (;;) {
        auto reply = receive(deadline);
        if (!reply.has_value()) return failed(reply.error());
        auto brought = std::exchange(arrived, {});
        if (reply->error) return varlink_error(*reply);
        if (reply->continues && !each)
            return failed(nullbox::error("the service answers more than once, which was not asked for"));
        bool wanted = !each || (*each)(reply->parameters);
        if (!reply->continues) return Answer{std::move(reply->parameters), std::move(brought)};
        if (!wanted) {
            socket.reset();
            return Answer{};
        }
    }
}

Result<json::object> Client::call(std::string_view method, const json::object& parameters,
                                  std::chrono::milliseconds limit) {
    return TRY(call_with_fds(method, parameters, {}, limit)).parameters;
}

Result<Answer> Client::call_with_fds(std::string_view method, const json::object& parameters,
                                     std::vector<Fd> fds, std::chrono::milliseconds limit) {
    Request request{.method = std::string(method), .parameters = parameters};
    return impl_->exchange(request, std::move(fds), Clock::now() + limit, nullptr);
}

Result<> Client::call_more(std::string_view method, const json::object& parameters,
                           const std::function<bool(const json::object&)>& each,
                           std::optional<std::chrono::milliseconds> limit) {
    Request request{.method = std::string(method), .parameters = parameters, .more = true};
    TRY(impl_->exchange(request, {}, limit ? Deadline(Clock::now() + *limit) : std::nullopt, &each));
    return {};
}

} // namespace nullbox::varlink

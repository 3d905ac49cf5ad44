#include "gate/door.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <list>

#include "base/log.h"
#include "base/text.h"
#include "gate/session.h"
#include "net/await.h"

namespace nullbox::gate {

using asio::ip::tcp;

using net::kAwait;
constexpr std::chrono::milliseconds kAcceptPause{100}; // when there are no descriptors left
constexpr std::chrono::seconds kQuiet{1};              // between lines about strangers

// Strangers can knock as often as they like; what they do to the log is bounded.
class Refusals {
public:
    void say(std::string_view text) {
        auto now = Clock::now();
        if (now - last_ < kQuiet) {
            silent_++;
            return;
        }
        log_warning(silent_ ? cat(text, " (and ", silent_, " more like it)") : std::string(text));
        last_ = now;
        silent_ = 0;
    }

private:
    Clock::time_point last_{};
    uint64_t silent_ = 0;
};

struct Door::Impl : std::enable_shared_from_this<Door::Impl> {
    Impl(asio::io_context& context, Loop& loop, Operators& operators, DoorOptions options)
        : house{.backend = Backend(context, loop, std::move(options.run_folder)),
                .operators = operators,
                .limits = options.limits},
          acceptor(context) {}
    Result<> listen(const net::Identity& identity, uint16_t port);
    Result<> bind(tcp protocol, uint16_t port);
    asio::awaitable<void> accept();
    asio::awaitable<void> entertain(std::shared_ptr<Session> session);
    void admit(tcp::socket socket);
    bool trusts(std::string_view key);

    House house;
    asio::ssl::context tls{asio::ssl::context::tls_server};
    std::function<bool(std::string_view)> judge = [this](std::string_view key) { return trusts(key); };
    tcp::acceptor acceptor;
    std::list<std::shared_ptr<Session>> handshakes, sessions; // oldest first
    Refusals refusals;
    bool closed = false;
    std::function<void()> all_left; // while it winds down
    asio::steady_timer patience{acceptor.get_executor()};
};

bool Door::Impl::trusts(std::string_view key) {
    if (house.operators.find(key)) return true;
    refusals.say(cat("refused a key that is no operator's: ", net::fingerprint(key),
                     "; if it should be one, add it to [operators] of the machine configuration"));
    return false;
}

// One socket for both families, or IPv4 alone where the kernel has no IPv6.
Result<> Door::Impl::bind(tcp protocol, uint16_t port) {
    beast::error_code failure;
    acceptor.open(protocol, failure);
    if (!failure && protocol == tcp::v6()) acceptor.set_option(asio::ip::v6_only(false), failure);
    if (!failure) acceptor.set_option(tcp::acceptor::reuse_address(true), failure);
    if (!failure) acceptor.bind(tcp::endpoint(protocol, port), failure);
    if (!failure) acceptor.listen(asio::socket_base::max_listen_connections, failure);
    if (!failure) return {};
    beast::error_code ignored;
    acceptor.close(ignored);
    return errno_error(failure.value(), cat("listen on TCP port ", port));
}

Result<> Door::Impl::listen(const net::Identity& identity, uint16_t port) {
    TRY(net::use_tls(tls.native_handle(), identity, judge));
    auto both = bind(tcp::v6(), port);
    if (!both.has_value() && both.error().code == EAFNOSUPPORT) both = bind(tcp::v4(), port);
    TRY(std::move(both));
    asio::co_spawn(
        acceptor.get_executor(), [self = shared_from_this()] { return self->accept(); }, asio::detached);
    return {};
}

asio::awaitable<void> Door::Impl::accept() {
    asio::steady_timer pause(acceptor.get_executor());
    while (!closed) {
        tcp::socket socket(acceptor.get_executor());
        auto [failure] = co_await acceptor.async_accept(socket, kAwait);
        if (closed) co_return;
        if (!failure) {
            admit(std::move(socket));
            continue;
        }
        refusals.say(cat("accept a connection: ", failure.message()));
        pause.expires_after(kAcceptPause);
        (void)co_await pause.async_wait(kAwait);
    }
}

// An IPv6 peer has a /64 to itself; an IPv4 peer may come as ::ffff:a.b.c.d.
static std::string peer_of(const tcp::socket& socket) {
    beast::error_code failure;
    auto address = socket.remote_endpoint(failure).address();
    if (failure) return "";
    if (address.is_v4()) return address.to_string();
    auto six = address.to_v6();
    if (six.is_v4_mapped()) return asio::ip::make_address_v4(asio::ip::v4_mapped, six).to_string();
    auto bytes = six.to_bytes();
    std::fill(bytes.begin() + 8, bytes.end(), uint8_t{0});
    return cat(asio::ip::address_v6(bytes).to_string(), "/64");
}

void Door::Impl::admit(tcp::socket socket) {
    auto peer = peer_of(socket);
    if (peer.empty()) return; // gone already
    auto same = [&](const auto& list) {
        return static_cast<size_t>(
            std::ranges::count_if(list, [&](const auto& session) { return session->peer() == peer; }));
    };
    if (same(handshakes) + same(sessions) >= house.limits.of_one_peer) {
        house.counts.refused++;
        return refusals.say(cat("refused ", peer, ": it has too many connections"));
    }
    // The oldest goes, and those that have been shown out already are on their way.
    size_t open = static_cast<size_t>(
        std::ranges::count_if(handshakes, [](const auto& one) { return !one->closed(); }));
    if (open >= house.limits.handshakes)
        (*std::ranges::find_if(handshakes, [](const auto& one) { return !one->closed(); }))->close();
    beast::error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::keep_alive(true), ignored);
    auto session = std::make_shared<Session>(std::move(socket), std::move(peer), tls, house);
    asio::co_spawn(
        acceptor.get_executor(), [self = shared_from_this(), session] { return self->entertain(session); },
        [](const std::exception_ptr& failure) {
            if (!failure) return;
            try {
                std::rethrow_exception(failure);
            } catch (const std::exception& thrown) {
                log_error(cat("a connection ended in an exception: ", printable(thrown.what())));
            }
        });
}

asio::awaitable<void> Door::Impl::entertain(std::shared_ptr<Session> session) {
    // Wherever this coroutine ends, and if it is destroyed where it waits.
    struct Place {
        Impl& impl;
        std::list<std::shared_ptr<Session>>& list;
        std::list<std::shared_ptr<Session>>::iterator at;
        size_t& count;
        Place(Impl& house, std::list<std::shared_ptr<Session>>& of, std::shared_ptr<Session> who,
              size_t& counter)
            : impl(house), list(of), at(of.insert(of.end(), std::move(who))), count(counter) {
            count++;
        }
        ~Place() {
            list.erase(at);
            count--;
            if (impl.sessions.empty() && impl.all_left) std::exchange(impl.all_left, nullptr)();
        }
    };
    {
        Place place(*this, handshakes, session, house.counts.handshakes);
        if (!co_await session->handshake()) {
            house.counts.refused++;
            refusals.say(cat("refused ", session->peer(), ": ", session->why_refused()));
            co_await session->linger();
            co_return;
        }
    }
    if (sessions.size() >= house.limits.connections) {
        refusals.say(
            cat("refused ", session->who().name, " from ", session->peer(), ": too many connections"));
        house.counts.refused++;
        co_return session->close();
    }
    Place place(*this, sessions, session, house.counts.connections);
    co_await session->serve();
}

Door::Door(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Door::~Door() {
    impl_->closed = true;
    impl_->all_left = nullptr;
    beast::error_code ignored;
    impl_->acceptor.close(ignored);
    for (auto* list : {&impl_->handshakes, &impl_->sessions})
        for (const auto& session : std::vector(list->begin(), list->end())) session->close();
}

Result<std::unique_ptr<Door>> Door::open(asio::io_context& context, Loop& loop, const net::Identity& identity,
                                         Operators& operators, DoorOptions options) {
    auto port = options.port;
    auto impl = std::make_shared<Impl>(context, loop, operators, std::move(options));
    TRY(impl->listen(identity, port));
    return std::unique_ptr<Door>(new Door(std::move(impl)));
}

uint16_t Door::port() const {
    beast::error_code failure;
    return impl_->acceptor.local_endpoint(failure).port();
}

const DoorCounts& Door::counts() const { return impl_->house.counts; }

void Door::operators_changed() {
    for (const auto& session : std::vector(impl_->sessions.begin(), impl_->sessions.end())) {
        const auto* known = impl_->house.operators.find(session->who().public_key);
        if (known && *known == session->who()) continue;
        log_info(cat("connection of ", session->who().name,
                     " ended: ", known ? "another role now" : "struck off"));
        session->close();
    }
}

void Door::wind_down(std::chrono::milliseconds limit, std::function<void()> done) {
    impl_->closed = impl_->house.winding_down = true;
    beast::error_code ignored;
    impl_->acceptor.close(ignored);
    impl_->all_left = std::move(done);
    for (const auto& session : std::vector(impl_->sessions.begin(), impl_->sessions.end()))
        if (!session->answering()) session->close();
    impl_->patience.expires_after(impl_->sessions.empty() ? std::chrono::milliseconds(0) : limit);
    impl_->patience.async_wait([impl = impl_](const beast::error_code& failure) {
        if (!failure && impl->all_left) std::exchange(impl->all_left, nullptr)();
    });
}

} // namespace nullbox::gate

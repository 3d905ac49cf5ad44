#include "ctxgraph/guest_server.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <cerrno>
#include <list>
#include <map>
#include <sys/socket.h>

#include "base/log.h"
#include "base/text.h"
#include "ctxgraph/wire.h"
#include "net/await.h"

namespace nullbox::ctxgraph {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using ErrorCode = boost::system::error_code;

using net::kAwait;
constexpr size_t kPeekBytes = 4096;
constexpr auto kLinger = std::chrono::seconds(2);
constexpr size_t kMaxLingerBytes = size_t{2} << 20;

using Stream = beast::basic_stream<asio::local::stream_protocol>;
using Head = http::request_parser<http::empty_body>;

namespace {

// What one agent has open. Requests beyond the limit wait here, in the order they came.
struct AgentUse {
    size_t connections = 0, requests = 0, watches = 0;
    std::list<asio::steady_timer*> waiting;
};

// A place among an agent's requests that are being answered.
class Place {
public:
    explicit Place(std::shared_ptr<AgentUse> use) : use_(std::move(use)) {}
    Place(Place&& other) noexcept : use_(std::move(other.use_)) {}
    Place& operator=(Place&&) = delete;
    ~Place() {
        if (!use_) return;
        use_->requests--;
        if (!use_->waiting.empty()) use_->waiting.front()->cancel();
    }

private:
    std::shared_ptr<AgentUse> use_;
};

// A request that waits for a place; the timer never fires, it is cancelled.
struct Turn {
    Turn(asio::io_context& context, std::shared_ptr<AgentUse> its_use)
        : timer(context, asio::steady_timer::time_point::max()), use(std::move(its_use)),
          place(use->waiting.insert(use->waiting.end(), &timer)) {}
    ~Turn() { use->waiting.erase(place); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

    asio::steady_timer timer;
    std::shared_ptr<AgentUse> use;
    std::list<asio::steady_timer*>::iterator place;
};

} // namespace

struct GuestServer::State {
    State(asio::io_context& its_context, Memory& its_memory, GuestLimits its_limits)
        : context(its_context), memory(its_memory), limits(its_limits) {}

    asio::io_context& context;
    Memory& memory;
    GuestLimits limits;
    std::map<std::string, std::shared_ptr<AgentUse>> agents;
    size_t connections = 0, watches = 0;
};

namespace {

using State = GuestServer::State;

class Connection : public std::enable_shared_from_this<Connection> {
public:
    Connection(std::shared_ptr<State> state, asio::local::stream_protocol::socket socket, Access access,
               std::shared_ptr<AgentUse> use)
        : state_(std::move(state)), stream_(std::move(socket)), access_(std::move(access)),
          use_(std::move(use)) {
        state_->connections++;
        use_->connections++;
        buffer_.max_size(state_->limits.head_bytes + (size_t{64} << 10));
    }
    ~Connection() {
        state_->connections--;
        if (--use_->connections == 0) state_->agents.erase(access_.author);
    }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    asio::awaitable<void> run() {
        auto self = shared_from_this();
        while (co_await one_request()) {
        }
        co_await leave();
    }

private:
    const GuestLimits& limits() const { return state_->limits; }

    asio::awaitable<bool> one_request();
    asio::awaitable<bool> read_head(Head& head);
    asio::awaitable<bool> go_on_if_asked(const Head& head);
    asio::awaitable<Place> take_place();
    asio::awaitable<Response> ask(const Request& request);
    asio::awaitable<bool> write(const Response& response, bool keep_alive);
    asio::awaitable<bool> refuse(const Response& response);
    asio::awaitable<void> leave();

    asio::awaitable<void> watch(const WatchRequest& request);
    asio::awaitable<bool> send_feed(const WatchRequest& request, uint64_t& position);
    asio::awaitable<bool> send_line(std::string_view line);
    asio::awaitable<void> notice_the_end(std::shared_ptr<asio::steady_timer> timer,
                                         std::shared_ptr<bool> over);

    std::shared_ptr<State> state_;
    Stream stream_;
    Access access_;
    std::shared_ptr<AgentUse> use_;
    beast::flat_buffer buffer_;
};

// The idle time ends with the first byte; from there the whole request must come in its own time.
asio::awaitable<bool> Connection::read_head(Head& head) {
    if (buffer_.size() == 0) {
        stream_.expires_after(limits().idle);
        auto [failure, count] = co_await stream_.async_read_some(buffer_.prepare(kPeekBytes), kAwait);
        if (failure) co_return false;
        buffer_.commit(count);
    }
    head.header_limit(static_cast<uint32_t>(limits().head_bytes));
    head.body_limit(limits().body_bytes);
    stream_.expires_after(limits().request);
    auto [failure, count] = co_await http::async_read_header(stream_, buffer_, head, kAwait);
    if (!failure) co_return true;
    if (failure == http::error::header_limit || failure == http::error::buffer_overflow)
        (void)co_await refuse(refusal(431, "too_large", "the request's head is too long"));
    else if (failure == http::error::body_limit)
        (void)co_await refuse(
            refusal(413, "too_large", cat("a body has at most ", limits().body_bytes, " bytes")));
    else if (failure.category() == make_error_code(http::error::bad_target).category() &&
             failure != http::error::end_of_stream && failure != http::error::partial_message)
        (void)co_await refuse(refusal(400, "invalid", cat("no HTTP/1.1 request: ", failure.message())));
    co_return false;
}

asio::awaitable<bool> Connection::go_on_if_asked(const Head& head) {
    if (head.is_done() || !beast::iequals(head.get()[http::field::expect], "100-continue")) co_return true;
    static constexpr std::string_view kGoOn = "HTTP/1.1 100 Continue\r\n\r\n";
    auto [failure, count] = co_await asio::async_write(stream_, asio::buffer(kGoOn), kAwait);
    co_return !failure;
}

asio::awaitable<Place> Connection::take_place() {
    while (use_->requests >= limits().requests_of_agent) {
        Turn turn(state_->context, use_);
        (void)co_await turn.timer.async_wait(kAwait);
    }
    use_->requests++;
    // Several places may have become free for one wake-up.
    if (use_->requests < limits().requests_of_agent && !use_->waiting.empty())
        use_->waiting.front()->cancel();
    co_return Place(use_);
}

Request to_request(const http::request<http::string_body>& message) {
    Request request{.method = std::string(message.method_string()), .target = std::string(message.target())};
    for (const auto& field : message) request.headers.emplace_back(field.name_string(), field.value());
    return request;
}

// False: the connection ends.
asio::awaitable<bool> Connection::one_request() {
    Head head;
    if (!co_await read_head(head)) co_return false;
    auto place = co_await take_place();
    stream_.expires_after(limits().request);
    if (!co_await go_on_if_asked(head)) co_return false;
    http::request_parser<http::string_body> whole(std::move(head));
    auto [failure, count] = co_await http::async_read(stream_, buffer_, whole, kAwait);
    if (failure == http::error::body_limit)
        co_return co_await refuse(
            refusal(413, "too_large", cat("a body has at most ", limits().body_bytes, " bytes")));
    if (failure) co_return co_await refuse(refusal(400, "invalid", "the body does not end as it should"));
    bool modern = whole.get().version() == 11, keep_alive = modern && whole.get().keep_alive();
    auto request = to_request(whole.get());
    request.body = std::move(whole.get().body());
    auto response = co_await ask(request);
    if (!response.watch) co_return co_await write(response, keep_alive) && keep_alive;
    if (!modern) co_return co_await refuse(refusal(400, "invalid", "a watch needs HTTP/1.1"));
    if (use_->watches >= limits().watches_of_agent)
        co_return co_await write(
            refusal(429, "too_many",
                    cat("an agent has at most ", limits().watches_of_agent, " watches at a time")),
            keep_alive) &&
            keep_alive;
    {
        auto freed = std::move(place); // a watch may last for days
    }
    co_await watch(*response.watch);
    co_return false;
}

// answer() may call back at once or after a commit; either way we go on from the context, not from its stack.
asio::awaitable<Response> Connection::ask(const Request& request) {
    stream_.expires_never();
    auto start = [&](auto handler) {
        auto kept = std::make_shared<decltype(handler)>(std::move(handler));
        auto& context = state_->context;
        answer(state_->memory, access_, request, [kept, &context](Response response) {
            asio::post(context,
                       [kept, response = std::move(response)]() mutable { (*kept)(std::move(response)); });
        });
    };
    co_return co_await asio::async_initiate<const asio::use_awaitable_t<>, void(Response)>(
        start, asio::use_awaitable);
}

asio::awaitable<bool> Connection::write(const Response& response, bool keep_alive) {
    http::response<http::string_body> message(static_cast<http::status>(response.status), 11);
    for (const auto& [name, value] : response.headers) message.set(name, value);
    if (!response.body.empty()) message.set(http::field::content_type, "application/json");
    message.set(http::field::cache_control, "no-store");
    message.keep_alive(keep_alive);
    message.body() = response.body;
    message.prepare_payload();
    stream_.expires_after(limits().write);
    auto [failure, count] = co_await http::async_write(stream_, message, kAwait);
    co_return !failure;
}

asio::awaitable<bool> Connection::refuse(const Response& response) {
    (void)co_await write(response, false);
    co_return false;
}

// Closing with bytes unread would take the last answer from the peer.
asio::awaitable<void> Connection::leave() {
    ErrorCode ignored;
    stream_.socket().shutdown(asio::socket_base::shutdown_send, ignored);
    stream_.expires_after(kLinger);
    buffer_.clear();
    for (size_t seen = 0; seen < kMaxLingerBytes;) {
        auto [failure, count] = co_await stream_.async_read_some(buffer_.prepare(kPeekBytes), kAwait);
        if (failure) break;
        seen += count;
    }
    stream_.close();
}

std::string chunk_of(std::string_view line) {
    auto size = hex(line.size() + 1);
    return cat(std::string_view(size).substr(2), "\r\n", line, "\n\r\n");
}

asio::awaitable<bool> Connection::send_line(std::string_view line) {
    auto chunk = chunk_of(line);
    stream_.expires_after(limits().write);
    auto [failure, count] = co_await asio::async_write(stream_, asio::buffer(chunk), kAwait);
    stream_.expires_never();
    co_return !failure;
}

asio::awaitable<bool> Connection::send_feed(const WatchRequest& request, uint64_t& position) {
    for (bool more = true; more;) {
        auto feed = state_->memory.feed(access_, request.space, request.prefix, position);
        if (!feed.has_value()) {
            (void)co_await send_line(refusal(feed.error()).body);
            co_return false;
        }
        position = feed->position;
        more = feed->more;
        for (const auto& entry : feed->entries) {
            std::string line = "{\"entry\":";
            append_entry(line, entry);
            if (!co_await send_line(line + "}")) co_return false;
        }
    }
    co_return true;
}

// Whatever the peer sends or does ends a watch: it has nothing more to say.
asio::awaitable<void> Connection::notice_the_end(std::shared_ptr<asio::steady_timer> timer,
                                                 std::shared_ptr<bool> over) {
    auto self = shared_from_this();
    (void)co_await stream_.socket().async_wait(asio::socket_base::wait_read, kAwait);
    *over = true;
    timer->cancel();
}

asio::awaitable<void> Connection::watch(const WatchRequest& request) {
    use_->watches++;
    state_->watches++;
    // The timer is the heartbeat; news cut it short.
    auto timer = std::make_shared<asio::steady_timer>(state_->context);
    auto over = std::make_shared<bool>(false), news = std::make_shared<bool>(true);
    auto watcher = state_->memory.watch(request.space, [timer, news] {
        *news = true;
        timer->cancel();
    });
    asio::co_spawn(state_->context, notice_the_end(timer, over), asio::detached);
    static constexpr std::string_view kHead = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
                                              "Cache-Control: no-store\r\nConnection: close\r\n"
                                              "Transfer-Encoding: chunked\r\n\r\n";
    stream_.expires_after(limits().write);
    auto [failure, count] = co_await asio::async_write(stream_, asio::buffer(kHead), kAwait);
    auto begin =
        state_->memory.feed(access_, request.space, request.prefix, std::nullopt); // where we are now
    uint64_t position = request.after.value_or(begin.has_value() ? begin->position : 0);
    bool going = !failure && begin.has_value() &&
                 co_await send_line(cat("{\"watching\":{\"position\":", position, "}}"));
    while (going && !*over) {
        if (std::exchange(*news, false)) {
            going = co_await send_feed(request, position);
            continue;
        }
        timer->expires_after(limits().heartbeat);
        auto [cancelled] = co_await timer->async_wait(kAwait);
        if (!cancelled && !*over && !*news)
            going = co_await send_line(cat("{\"heartbeat\":{\"position\":", position, "}}"));
    }
    state_->memory.unwatch(watcher);
    use_->watches--;
    state_->watches--;
}

Result<> check_stream(int fd) {
    auto option = [&](int name) {
        int value = -1;
        socklen_t size = sizeof value;
        return ::getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
    };
    if (option(SO_DOMAIN) == AF_UNIX && option(SO_TYPE) == SOCK_STREAM && option(SO_ACCEPTCONN) == 0)
        return {};
    return Error{.code = EINVAL, .message = "the descriptor is not a connected Unix stream socket"};
}

} // namespace

GuestServer::GuestServer(asio::io_context& context, Memory& memory, GuestLimits limits)
    : state_(std::make_shared<State>(context, memory, limits)) {}
GuestServer::~GuestServer() = default;

size_t GuestServer::connections() const { return state_->connections; }
size_t GuestServer::watches() const { return state_->watches; }

Result<> GuestServer::serve(Fd stream, Access access) {
    TRY(check_stream(stream.get()));
    auto& use = state_->agents[access.author];
    if (!use) use = std::make_shared<AgentUse>();
    if (use->connections >= state_->limits.connections_of_agent)
        return Error{.code = EAGAIN,
                     .message = cat(access.author, " has ", use->connections, " connections open")};
    if (state_->connections >= state_->limits.connections) {
        if (use->connections == 0) state_->agents.erase(access.author);
        return Error{.code = EAGAIN, .message = cat("there are ", state_->connections, " connections open")};
    }
    asio::local::stream_protocol::socket socket(state_->context);
    ErrorCode failure;
    socket.assign(asio::local::stream_protocol(), stream.get(), failure);
    if (failure) return errno_error(failure.value(), "take the stream over");
    (void)stream.release();
    auto connection = std::make_shared<Connection>(state_, std::move(socket), std::move(access), use);
    asio::co_spawn(
        state_->context, [connection] { return connection->run(); },
        [](const std::exception_ptr& thrown) {
            if (thrown) log_error("a guest's connection ended by an exception: out of memory?");
        });
    return {};
}

} // namespace nullbox::ctxgraph

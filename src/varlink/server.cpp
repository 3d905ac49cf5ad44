#include "varlink/server.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cerrno>
#include <deque>
#include <exception>
#include <map>
#include <set>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/text.h"
#include "varlink/message.h"
#include "varlink/service_interface.h"

namespace nullbox::varlink {

namespace json = boost::json;
using namespace std::chrono_literals;

constexpr int kBacklog = 32;
constexpr size_t kReadBytes = size_t{64} << 10;
// One connection gets this many requests answered before the loop serves others.
constexpr int kRequestsPerRound = 16;
constexpr int kAcceptsPerRound = 16;
// With this much unread, further requests of the connection wait: pipelining is slowed, not punished.
constexpr size_t kPauseBytes = size_t{64} << 10;
constexpr auto kAcceptPause = 100ms;

struct Call::State {
    std::weak_ptr<Connection> connection;
    Peer peer;
    std::string method;
    json::object parameters;
    std::vector<Fd> fds;
    bool more = false, oneway = false, answered = false;
    bool first_answer();
    bool stream_refused = false; // the rest of the stream is expected, and dropped
};

struct Server::Impl {
    Impl(Loop& its_loop, std::string its_path, ServiceInfo its_info, InterfaceTable its_interface,
         Patience its_patience)
        : loop(its_loop), path(std::move(its_path)), info(std::move(its_info)),
          interface(std::move(its_interface)), patience(its_patience) {
        for (const auto& method : interface.methods) methods.emplace(method.name, &method);
    }
    ~Impl();
    Result<> open();
    void accept_some();
    void accept_one(Fd socket);
    void pause_accepting(int code);
    void forget(const std::shared_ptr<Connection>& connection);
    void note_refusal(const Peer& peer, std::string_view method);
    json::object describe() const;

    Loop& loop;
    std::string path;
    ServiceInfo info;
    InterfaceTable interface;
    Patience patience;
    std::map<std::string_view, const Method*> methods;
    Fd listener;
    Watch watch, accept_retry;
    dev_t device = 0; // of the socket file, so that only our own is removed
    ino_t inode = 0;
    std::set<std::shared_ptr<Connection>> connections;
    bool accept_failing = false; // and said so
    Clock::time_point last_refusal_log{};
    uint64_t refusals_since = 0;
};

// One client. Requests are taken one at a time: the next waits in the reader until the last is answered.
// Kept by the server and, for the time of one callback, by that callback; a Call holds it weakly.
class Connection : public std::enable_shared_from_this<Connection> {
public:
    Connection(Server::Impl& server, Fd socket, Peer peer)
        : server_(&server), socket_(std::move(socket)), peer_(peer), reader_(kMaxMessageBytes) {}
    Result<> start();
    void close();
    bool connected() const { return socket_ && !peer_left_; }
    const Peer& peer() const { return peer_; }
    // An answer of the request in progress; the last one lets the next request start.
    void answer(const Call::State& call, const Reply& reply, std::vector<Fd> fds = {});

private:
    void on_events(uint32_t events);
    void read_some();
    void serve();
    void serve_soon();
    void dispatch(Request request);
    void dispatch_own(Call call, std::string_view method);
    void run_handler(const Method& method, Call call);
    void refuse_stream(std::string_view why);
    void queue(const Reply& reply, std::vector<Fd> fds = {});
    ssize_t send_some();
    void flush();
    void give_up_on_stalled();
    void settle();
    size_t unread() const { return out_.size() - sent_; }

    Server::Impl* server_;
    Fd socket_;
    Watch watch_, soon_;
    Watch deadline_; // for taking a byte of what is unread
    Watch grace_;    // for taking all of it, after nonsense
    Peer peer_;
    MessageReader reader_;
    std::vector<Fd> arrived_; // descriptors of the request that is next
    std::string out_;
    size_t sent_ = 0; // bytes of out_ that the peer has taken
    struct Parcel {
        size_t at; // the byte of out_ that they go with
        std::vector<Fd> fds;
    };
    std::deque<Parcel> parcels_;
    uint32_t events_ = 0;       // as last set
    bool busy_ = false;         // a request is being answered
    bool serving_ = false;      // serve() is on the stack
    bool end_of_input_ = false; // the peer will send no more
    bool peer_left_ = false;    // nor read any more
    bool closing_ = false;      // what is queued goes out, then the end
};

// --- Connection

Result<> Connection::start() {
    events_ = EPOLLIN;
    watch_ = TRY(server_->loop.watch(socket_.get(), events_, [weak = weak_from_this()](uint32_t events) {
        if (auto self = weak.lock()) self->on_events(events);
    }));
    return {};
}

void Connection::close() {
    if (!socket_) return;
    auto self = shared_from_this();
    watch_.drop();
    soon_.drop();
    deadline_.drop();
    grace_.drop();
    socket_.reset();
    server_->forget(self);
}

void Connection::on_events(uint32_t events) {
    if (events & EPOLLOUT) flush();
    if (!socket_) return;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_some();
    if (!socket_) return;
    if (events & (EPOLLHUP | EPOLLERR)) {
        // Nobody reads answers any more, but requests sent before (oneway ones) still count. The kernel
        // reports the hang-up for as long as the descriptor is watched, so it is not watched any longer.
        while (!end_of_input_ && reader_.buffered() <= kMaxMessageBytes) {
            size_t before = reader_.buffered();
            read_some();
            if (reader_.buffered() == before) break;
        }
        end_of_input_ = peer_left_ = true;
        watch_.drop();
    }
    serve();
}

void Connection::read_some() {
    if (end_of_input_ || closing_ || reader_.buffered() > kMaxMessageBytes) return;
    char bytes[kReadBytes];
    auto [count, fds, fds_lost] = receive_with_fds(socket_.get(), bytes);
    for (auto& fd : fds) arrived_.push_back(std::move(fd));
    if (fds_lost || arrived_.size() > kMaxPassedFds) {
        arrived_.clear();
        return refuse_stream(cat("at most ", kMaxPassedFds, " descriptors may go with a request"));
    }
    if (count > 0)
        reader_.feed({bytes, static_cast<size_t>(count)});
    else if (count == 0)
        end_of_input_ = true;
    else if (errno != EAGAIN && errno != EINTR)
        end_of_input_ = peer_left_ = true;
}

// Starts the requests that have arrived, one after the other while each is answered at once.
void Connection::serve() {
    serving_ = true;
    for (int i = 0; i < kRequestsPerRound && socket_ && !busy_ && !closing_ && unread() < kPauseBytes; i++) {
        auto message = reader_.next();
        if (!message.has_value()) {
            refuse_stream(message.error().message);
            break;
        }
        if (!*message) break;
        auto request = parse_request(**message);
        if (request.has_value())
            dispatch(*std::move(request));
        else
            refuse_stream(request.error().message);
    }
    serving_ = false;
    settle();
}

// After anything that changed: close if there is nothing left to do, else wait for the right events.
void Connection::settle() {
    if (!socket_) return;
    bool more_waits = !closing_ && !busy_ && reader_.has_message();
    if (peer_left_ && !more_waits) return close();
    if (end_of_input_ && !busy_ && !more_waits) closing_ = true;
    if (closing_ && unread() == 0) return close();
    if (more_waits && unread() < kPauseBytes) serve_soon();
    if (!watch_) return;
    bool room = !end_of_input_ && !closing_ && reader_.buffered() <= kMaxMessageBytes;
    uint32_t events = (room ? uint32_t{EPOLLIN} : 0) | (unread() > 0 ? uint32_t{EPOLLOUT} : 0);
    if (events == events_) return;
    events_ = events;
    if (!watch_.set_events(events).has_value()) close();
}

void Connection::serve_soon() {
    if (soon_) return;
    soon_ = server_->loop.after(0ms, [weak = weak_from_this()] {
        auto self = weak.lock();
        if (!self || !self->socket_) return;
        self->soon_.drop();
        self->serve();
    });
}

// What the peer sends is not Varlink: it is told why, and that was all.
void Connection::refuse_stream(std::string_view why) {
    closing_ = true;
    grace_ = server_->loop.after(server_->patience.closing, [this] { close(); });
    queue({.parameters = json::object{{"message", printable(why, 256)}}, .error = "io.nullbox.BadMessage"});
}

void Connection::dispatch(Request request) {
    auto state = std::make_unique<Call::State>();
    state->connection = weak_from_this();
    state->peer = peer_;
    state->method = printable(request.method, 256);
    state->parameters = std::move(request.parameters);
    state->more = request.more;
    state->oneway = request.oneway;
    state->fds = std::exchange(arrived_, {});
    std::string name = state->method;
    Call call(std::move(state));
    busy_ = true;

    if (request.upgrade)
        return call.error("org.varlink.service.MethodNotImplemented",
                          json::object{{"method", name}, {"message", "there is nothing to upgrade to"}});
    size_t dot = name.rfind('.');
    auto interface = std::string_view(name).substr(0, dot == std::string::npos ? 0 : dot);
    auto method = std::string_view(name).substr(dot == std::string::npos ? 0 : dot + 1);
    if (interface == kServiceInterface) return dispatch_own(std::move(call), method);
    if (interface != server_->interface.name)
        return call.error("org.varlink.service.InterfaceNotFound", json::object{{"interface", interface}});
    auto found = server_->methods.find(method);
    if (found == server_->methods.end())
        return call.error("org.varlink.service.MethodNotFound", json::object{{"method", name}});
    const auto& allowed = found->second->allowed_uids;
    if (!allowed.empty() && std::ranges::find(allowed, peer_.uid) == allowed.end()) {
        server_->note_refusal(peer_, name);
        return call.error("org.varlink.service.PermissionDenied",
                          json::object{{"method", name},
                                       {"uid", peer_.uid},
                                       {"message", cat("uid ", peer_.uid, " may not call ", name)}});
    }
    if (!found->second->handle)
        return call.error("org.varlink.service.MethodNotImplemented", json::object{{"method", name}});
    run_handler(*found->second, std::move(call));
}

void Connection::run_handler(const Method& method, Call call) {
    // Boost.JSON throws on a wrong access or out of memory; the Call then answers by being dropped.
    try {
        method.handle(std::move(call));
    } catch (const std::exception& failure) {
        log_error(cat("handler of ", method.name, ": ", failure.what()));
    }
}

void Connection::dispatch_own(Call call, std::string_view method) {
    if (method == "GetInfo") return call.reply(server_->describe());
    if (method != "GetInterfaceDescription")
        return call.error("org.varlink.service.MethodNotFound",
                          json::object{{"method", cat(kServiceInterface, ".", method)}});
    const auto* wanted = call.parameters().if_contains("interface");
    if (!wanted || !wanted->is_string())
        return call.invalid_parameter("interface", "must be a text: the interface's name");
    std::string_view name = wanted->get_string();
    if (name == kServiceInterface) return call.reply(json::object{{"description", kServiceDescription}});
    if (name == server_->interface.name)
        return call.reply(json::object{{"description", server_->interface.description}});
    call.error("org.varlink.service.InterfaceNotFound", json::object{{"interface", printable(name, 256)}});
}

void Connection::answer(const Call::State& call, const Reply& reply, std::vector<Fd> fds) {
    if (!socket_) return;
    if (!reply.continues) busy_ = false;
    if (!call.oneway && !peer_left_) queue(reply, std::move(fds));
    if (!serving_) {
        // Not from here: this may be deep inside the service.
        if (!busy_ && socket_ && reader_.has_message()) serve_soon();
        settle();
    }
}

void Connection::queue(const Reply& reply, std::vector<Fd> fds) {
    auto message = encode(reply);
    if (message.size() > kMaxMessageBytes + 1) {
        log_error(cat("an answer of ", message.size(), " bytes is over the limit of ", kMaxMessageBytes));
        message = encode(Reply{.parameters = json::object{{"message", "the answer is too large"}},
                               .error = "io.nullbox.Internal"});
        fds.clear();
    }
    if (unread() + message.size() > kMaxQueuedBytes) {
        log_warning(cat("closing the connection of uid ", peer_.uid, " pid ", peer_.pid,
                        ": it does not read its answers"));
        return close();
    }
    if (sent_ > 0 && sent_ >= out_.size() / 2) {
        out_.erase(0, sent_);
        for (auto& parcel : parcels_) parcel.at -= sent_;
        sent_ = 0;
    }
    if (!fds.empty()) parcels_.push_back({out_.size(), std::move(fds)});
    out_ += message;
    flush();
}

// Up to the next byte that descriptors go with; from there, with them.
ssize_t Connection::send_some() {
    auto left = std::span<const char>(out_).subspan(sent_);
    if (parcels_.empty()) return send_with_fds(socket_.get(), left, {});
    if (parcels_.front().at > sent_)
        return send_with_fds(socket_.get(), left.first(parcels_.front().at - sent_), {});
    ssize_t count = send_with_fds(socket_.get(), left, parcels_.front().fds);
    if (count > 0) parcels_.pop_front();
    return count;
}

void Connection::flush() {
    size_t before = unread();
    while (unread() > 0) {
        ssize_t count = send_some();
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) break;
        if (count < 0) { // gone; requests that it sent before are still served
            peer_left_ = true;
            out_.clear();
            parcels_.clear();
            sent_ = 0;
            break;
        }
        sent_ += static_cast<size_t>(count);
    }
    if (unread() == 0) {
        out_.clear();
        sent_ = 0;
        deadline_.drop();
    } else if (!deadline_ || unread() < before) {
        deadline_ = server_->loop.after(server_->patience.stalled, [this] { give_up_on_stalled(); });
    }
}

// A socket is reported writable only when it is nearly empty; a slow reader may have made less room than
// that. Such room counts.
void Connection::give_up_on_stalled() {
    auto self = shared_from_this();
    size_t before = unread();
    flush();
    if (unread() == before) return close();
    if (socket_) settle();
}

// --- Server

Server::Impl::~Impl() {
    watch.drop();
    accept_retry.drop();
    // A handler may keep Calls, which then find their connection gone.
    while (!connections.empty()) (*connections.begin())->close();
    struct stat status{};
    if (listener && ::lstat(path.c_str(), &status) == 0 && status.st_dev == device && status.st_ino == inode)
        ::unlink(path.c_str());
}

Result<> Server::Impl::open() {
    sockaddr_un address{.sun_family = AF_UNIX};
    if (path.size() >= sizeof address.sun_path)
        return error(
            cat("listen at ", path, ": the path is longer than ", sizeof address.sun_path - 1, " bytes"));
    std::ranges::copy(path, address.sun_path);
    struct stat status{};
    if (::lstat(path.c_str(), &status) == 0) {
        if (!S_ISSOCK(status.st_mode))
            return error(cat("listen at ", path, ": something that is no socket is there; remove it"));
        if (::unlink(path.c_str()) < 0) return errno_error(cat("remove the old socket ", path));
    }
    Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return errno_error("make a socket");
    if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
        return errno_error(cat("bind ", path));
    if (::chmod(path.c_str(), 0666) < 0) return errno_error(cat("set the mode of ", path));
    if (::lstat(path.c_str(), &status) < 0) return errno_error(cat("look at ", path));
    device = status.st_dev;
    inode = status.st_ino;
    listener = std::move(socket);
    if (::listen(listener.get(), kBacklog) < 0) return errno_error(cat("listen at ", path));
    watch = TRY(loop.watch(listener.get(), EPOLLIN, [this](uint32_t) { accept_some(); }));
    return {};
}

void Server::Impl::accept_some() {
    for (int i = 0; i < kAcceptsPerRound; i++) {
        Fd socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (socket) {
            accept_failing = false;
            accept_one(std::move(socket));
        } else if (errno == EAGAIN)
            return;
        else if (errno != EINTR && errno != ECONNABORTED)
            return pause_accepting(errno);
    }
}

// Out of descriptors or memory: the client stays in the backlog, where it would wake us without end.
void Server::Impl::pause_accepting(int code) {
    if (!std::exchange(accept_failing, true)) log_warning(errno_error(code, cat("accept at ", path)).message);
    if (!watch.set_events(0).has_value()) return;
    accept_retry = loop.after(kAcceptPause, [this] {
        if (watch.set_events(EPOLLIN).has_value()) accept_some();
    });
}

void Server::Impl::accept_one(Fd socket) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0) return;
    Peer peer{.uid = credentials.uid, .gid = credentials.gid, .pid = credentials.pid};
    auto of_this_uid =
        std::ranges::count_if(connections, [&](const auto& other) { return other->peer().uid == peer.uid; });
    if (connections.size() >= kMaxConnections || static_cast<size_t>(of_this_uid) >= kMaxConnectionsOfOneUid)
        return; // closes it
    auto connection = std::make_shared<Connection>(*this, std::move(socket), peer);
    if (connection->start().has_value()) connections.insert(connection);
}

void Server::Impl::forget(const std::shared_ptr<Connection>& connection) { connections.erase(connection); }

// A refusal is worth a line; a flood of them is not worth a flood of lines.
void Server::Impl::note_refusal(const Peer& peer, std::string_view method) {
    refusals_since++;
    auto now = Clock::now();
    if (now - last_refusal_log < 1s) return;
    log_warning(cat("refused ", method, " to uid ", peer.uid, " pid ", peer.pid,
                    refusals_since > 1 ? cat(" (", refusals_since, " refusals since the last such line)")
                                       : std::string()));
    last_refusal_log = now;
    refusals_since = 0;
}

json::object Server::Impl::describe() const {
    return {{"vendor", "NullBox"},
            {"product", info.product},
            {"version", info.version},
            {"url", ""},
            {"interfaces", json::array{kServiceInterface, interface.name}}};
}

Result<std::unique_ptr<Server>> Server::listen(Loop& loop, std::string path, ServiceInfo info,
                                               InterfaceTable interface, Patience patience) {
    auto impl =
        std::make_unique<Impl>(loop, std::move(path), std::move(info), std::move(interface), patience);
    TRY(impl->open());
    return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

// --- Call

Call::Call(std::unique_ptr<State> state) : state_(std::move(state)) {}
Call::Call(Call&&) noexcept = default;

Call& Call::operator=(Call&& other) noexcept {
    Call old(std::move(*this)); // answers, if nobody did
    state_ = std::move(other.state_);
    return *this;
}

Call::~Call() {
    // A stream whose peer left is dropped as it should be.
    if (!state_ || state_->answered || !connected()) return;
    log_error(cat("nobody answered ", state_->method));
    error("io.nullbox.Internal", "the service did not answer this request");
}

const json::object& Call::parameters() const { return state_->parameters; }
const Peer& Call::peer() const { return state_->peer; }
bool Call::wants_more() const { return state_->more; }
std::vector<Fd> Call::take_fds() { return std::exchange(state_->fds, {}); }

bool Call::connected() const {
    auto connection = state_->connection.lock();
    return connection && connection->connected();
}

bool Call::State::first_answer() {
    if (answered && !stream_refused) log_error(cat("a second answer to ", method, " was dropped"));
    return !std::exchange(answered, true);
}

void Call::reply(json::object parameters) {
    if (!state_->first_answer()) return;
    if (auto connection = state_->connection.lock())
        connection->answer(*state_, Reply{.parameters = std::move(parameters)});
}

void Call::reply(json::object parameters, std::vector<Fd> fds) {
    CHECK(fds.size() <= kMaxPassedFds);
    if (!state_->first_answer()) return;
    if (auto connection = state_->connection.lock())
        connection->answer(*state_, Reply{.parameters = std::move(parameters)}, std::move(fds));
}

void Call::reply_continues(json::object parameters) {
    if (state_->answered) return;
    if (!state_->more) {
        state_->stream_refused = true;
        return error("org.varlink.service.ExpectedMore", "this method answers more than once; set \"more\"");
    }
    if (auto connection = state_->connection.lock())
        connection->answer(*state_, Reply{.parameters = std::move(parameters), .continues = true});
}

void Call::error(std::string_view name, json::object parameters) {
    if (!state_->first_answer()) return;
    if (auto connection = state_->connection.lock())
        connection->answer(*state_, Reply{.parameters = std::move(parameters), .error = std::string(name)});
}

void Call::error(std::string_view name, std::string_view message) {
    error(name, json::object{{"message", message}});
}

void Call::invalid_parameter(std::string_view parameter, std::string_view message) {
    error("org.varlink.service.InvalidParameter",
          json::object{{"parameter", printable(parameter, 256)}, {"message", printable(message, 1024)}});
}

} // namespace nullbox::varlink

#include "varlink/pending.h"

#include <algorithm>
#include <cerrno>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/passing.h"
#include "base/text.h"
#include "varlink/message.h"
#include "varlink/server.h" // kMaxMessageBytes

namespace nullbox::varlink {

using Each = std::function<void(Result<Answer>, bool)>;

struct PendingCall::State : std::enable_shared_from_this<PendingCall::State> {
    Result<> open(const std::string& path);
    void begin(Loop& loop, const BackgroundCall& call);
    void on_events(uint32_t events);
    void send();
    void listen();
    void receive();
    void take_answers();
    void fail(Error why);
    void finish();

    Each each;
    bool stream = false, over = false, refusals = false, paused = false;
    std::string what; // for messages: the method
    Fd socket;
    std::string out;
    std::vector<Fd> fds, arrived;
    MessageReader reader{kMaxMessageBytes};
    Watch watch, timer;
};

PendingCall::PendingCall() = default;
PendingCall::PendingCall(PendingCall&&) noexcept = default;

Result<> PendingCall::State::open(const std::string& path) {
    sockaddr_un address{.sun_family = AF_UNIX};
    if (path.size() >= sizeof address.sun_path)
        return error(cat("connect to ", path, ": the path is too long"));
    std::ranges::copy(path, address.sun_path);
    socket = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return errno_error("make a socket");
    // A Unix socket connects at once or fails; EAGAIN is a full backlog, a failure like the others.
    if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
        return errno_error(cat("connect to ", path));
    return {};
}

void PendingCall::State::begin(Loop& loop, const BackgroundCall& call) {
    auto weak = weak_from_this();
    auto opened = open(call.socket_path);
    if (opened.has_value()) {
        auto watched = loop.watch(socket.get(), EPOLLIN | EPOLLOUT, [weak](uint32_t events) {
            if (auto self = weak.lock()) self->on_events(events);
        });
        if (watched.has_value())
            watch = *std::move(watched);
        else
            opened = watched.error();
    }
    if (!opened.has_value()) {
        timer = loop.after(Clock::duration::zero(), [weak, why = opened.error()] {
            if (auto self = weak.lock()) self->fail(why);
        });
    } else if (!stream) {
        timer = loop.after(call.limit, [weak] {
            if (auto self = weak.lock()) self->fail(Error{.code = ETIMEDOUT, .message = "no answer in time"});
        });
    }
}

void PendingCall::State::on_events(uint32_t events) {
    if (events & EPOLLOUT) send();
    if (!over && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive();
}

void PendingCall::State::send() {
    while (!out.empty()) {
        ssize_t count = send_with_fds(socket.get(), out, fds);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) return;
        if (count < 0) return fail(errno_error("send the request"));
        fds.clear();
        out.erase(0, static_cast<size_t>(count));
    }
    listen();
}

void PendingCall::State::listen() {
    if (over || !watch) return;
    uint32_t events = (paused ? 0u : unsigned{EPOLLIN}) | (out.empty() ? 0u : unsigned{EPOLLOUT});
    if (auto changed = watch.set_events(events); !changed.has_value()) fail(changed.error());
}

void PendingCall::State::receive() {
    char bytes[16 << 10];
    auto [count, brought, fds_lost] = receive_with_fds(socket.get(), bytes);
    for (auto& fd : brought) arrived.push_back(std::move(fd));
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count < 0) return fail(errno_error("receive the answer"));
    if (count == 0) return fail(nullbox::error("the service closed the connection"));
    reader.feed({bytes, static_cast<size_t>(count)});
    take_answers();
}

void PendingCall::State::take_answers() {
    auto self = shared_from_this(); // each() may give the call up
    while (!over) {
        auto message = reader.next();
        if (!message.has_value()) return fail(message.error());
        if (!*message) return;
        auto reply = parse_reply(**message);
        if (!reply.has_value()) return fail(reply.error());
        if (reply->error && !refusals) return fail(varlink_error(*reply));
        if (reply->continues && !stream)
            return fail(nullbox::error("the service answers more than once, which was not asked for"));
        bool last = !reply->continues;
        if (last) finish();
        each(Answer{std::move(reply->parameters), std::exchange(arrived, {}), reply->error.value_or("")},
             last);
    }
}

void PendingCall::State::fail(Error why) {
    finish();
    each(with_context(std::move(why), what), true);
}

void PendingCall::State::finish() {
    over = true;
    watch.drop();
    timer.drop();
    socket.reset();
}

PendingCall& PendingCall::operator=(PendingCall&& other) noexcept {
    if (this != &other) {
        if (state_) state_->finish();
        state_ = std::move(other.state_);
    }
    return *this;
}

PendingCall::~PendingCall() {
    if (state_) state_->finish();
}

void PendingCall::pause() {
    if (!state_ || state_->paused) return;
    state_->paused = true;
    state_->listen();
}

void PendingCall::resume() {
    if (!state_ || !state_->paused) return;
    state_->paused = false;
    state_->listen();
}

PendingCall start_call(Loop& loop, BackgroundCall call, bool stream, Each each) {
    PendingCall pending;
    pending.state_ = std::make_shared<PendingCall::State>();
    auto& state = *pending.state_;
    state.stream = stream;
    state.refusals = call.refusals_as_answers;
    state.what = call.method;
    state.out =
        encode(Request{.method = call.method, .parameters = std::move(call.parameters), .more = stream});
    state.fds = std::move(call.fds);
    // The caller may drop the PendingCall while it is told: what it is told with lives on until then.
    state.each = [shared = std::make_shared<Each>(std::move(each))](Result<Answer> answer, bool last) {
        auto kept = shared;
        (*kept)(std::move(answer), last);
    };
    state.begin(loop, call);
    return pending;
}

PendingCall call_in_background(Loop& loop, BackgroundCall call, std::function<void(Result<Answer>)> done) {
    return start_call(loop, std::move(call), false,
                      [done = std::move(done)](Result<Answer> answer, bool) { done(std::move(answer)); });
}

PendingCall follow_in_background(Loop& loop, BackgroundCall call, Each each) {
    return start_call(loop, std::move(call), true, std::move(each));
}

} // namespace nullbox::varlink

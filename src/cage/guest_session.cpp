#include "cage/guest_session.h"

#include <cerrno>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/text.h"

namespace nullbox::cage {

using namespace guest_link;

// 8 MB/s an agent: far beyond any log, and little enough that many floods leave cage time to answer.
constexpr auto kWindow = std::chrono::milliseconds(50);
constexpr size_t kBytesPerWindow = size_t{400} << 10;

Result<std::unique_ptr<GuestSession>> GuestSession::make(Loop& loop, Fd stream, GuestEvents events) {
    std::unique_ptr<GuestSession> session(new GuestSession(loop, std::move(stream), std::move(events)));
    TRY(set_nonblocking(session->stream_.get()));
    session->watch_ = TRY(loop.watch(session->stream_.get(), EPOLLIN,
                                     [self = session.get()](uint32_t ready) { self->on_ready(ready); }));
    return session;
}

Result<> GuestSession::send(const HostFrame& frame) {
    auto bytes = TRY(encode(frame));
    if (stage_ == Stage::Over || !stream_) return error("the guest's link is closed");
    to_send_.insert(to_send_.end(), bytes.begin(), bytes.end());
    TRY(flush());
    set_interest();
    return {};
}

Result<> GuestSession::flush() {
    while (!to_send_.empty()) {
        ssize_t count = ::send(stream_.get(), to_send_.data(), to_send_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {};
        if (count < 0) return errno_error("send to the guest");
        to_send_.erase(to_send_.begin(), to_send_.begin() + count);
    }
    return {};
}

void GuestSession::set_interest() {
    if (watch_) (void)watch_.set_events((paused_ ? 0U : EPOLLIN) | (to_send_.empty() ? 0U : EPOLLOUT));
}

void GuestSession::on_ready(uint32_t ready) {
    if (ready & EPOLLOUT) (void)flush(); // a link that is gone shows in the read
    if (ready & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        read_some();
        if (stage_ == Stage::Over) return;
    }
    set_interest();
}

bool GuestSession::read_some() {
    std::byte chunk[65536];
    ssize_t count = ::recv(stream_.get(), chunk, sizeof chunk, MSG_DONTWAIT);
    if (count < 0 && errno == EINTR) return true;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (count <= 0) {
        finish();
        events_.closed();
        return false;
    }
    pace(static_cast<size_t>(count));
    reader_.feed(std::span(chunk).first(static_cast<size_t>(count)));
    take_frames();
    return stage_ != Stage::Over;
}

void GuestSession::pace(size_t bytes) {
    auto now = Clock::now();
    if (now - window_start_ >= kWindow) window_start_ = now, window_bytes_ = 0;
    window_bytes_ += bytes;
    if (window_bytes_ < kBytesPerWindow || paused_) return;
    paused_ = true;
    pace_timer_ = loop_.at(window_start_ + kWindow, [this] {
        paused_ = false;
        set_interest();
    });
}

void GuestSession::drain() {
    while (stage_ != Stage::Over && stream_ && read_some()) {
    }
}

void GuestSession::take_frames() {
    while (stage_ != Stage::Over) {
        auto frame = reader_.next();
        if (!frame) return complain(frame.error().message);
        if (!*frame) return;
        handle(**frame);
    }
}

void GuestSession::handle(const GuestFrame& frame) {
    // agent-init may fail at any stage after Hello.
    if (const auto* failure = std::get_if<Failure>(&frame); failure && stage_ != Stage::Hello) {
        finish();
        return events_.failed(*failure);
    }
    if (const auto* hello = std::get_if<Hello>(&frame); hello && stage_ == Stage::Hello) {
        if (hello->version != kVersion)
            return complain(
                cat("agent-init speaks version ", hello->version, " of the link, cage ", kVersion));
        stage_ = Stage::Started;
        return events_.hello(*hello);
    }
    if (const auto* started = std::get_if<Started>(&frame); started && stage_ == Stage::Started) {
        stage_ = Stage::Output;
        return events_.started(*started);
    }
    if (const auto* output = std::get_if<Output>(&frame); output && stage_ == Stage::Output)
        return events_.output(*output);
    if (const auto* health = std::get_if<Health>(&frame); health && stage_ == Stage::Output)
        return events_.health(*health);
    if (const auto* ended = std::get_if<ExecEnded>(&frame); ended && stage_ == Stage::Output) {
        if (events_.exec_ended) events_.exec_ended(*ended);
        return;
    }
    if (const auto* exited = std::get_if<Exited>(&frame); exited && stage_ == Stage::Output) {
        finish();
        return events_.exited(*exited);
    }
    complain("a frame out of order");
}

void GuestSession::complain(std::string_view message) {
    finish();
    events_.nonsense(cat("nonsense on the guest's link: ", message));
}

// Closing our end is what agent-init waits for before it ends the machine.
void GuestSession::finish() {
    stage_ = Stage::Over;
    pace_timer_.drop();
    watch_.drop();
    stream_.reset();
}

} // namespace nullbox::cage

#include "agent_init/health_probe.h"

#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"

namespace nullbox::agent_init {

using guest_link::CheckHealth;
using guest_link::Health;

constexpr size_t kMaxStatusLine = 1024;
// A server whose answer is cut off complains in its log: the rest is read, up to here.
constexpr size_t kMostDrainedBytes = size_t{64} << 10;

static std::string in_words(int code) {
    return code == ECONNREFUSED ? "connection refused" : std::string(std::strerror(code));
}

std::optional<Health> judge_status_line(std::string_view answer) {
    constexpr std::string_view kBegin = "HTTP/1.";
    auto end = answer.find('\n');
    if (end == std::string_view::npos && answer.size() < kMaxStatusLine) return std::nullopt;
    auto line = answer.substr(0, std::min(end, kMaxStatusLine));
    if (line.ends_with('\r')) line.remove_suffix(1);
    auto digits = line.size() >= 12 ? line.substr(9, 3) : "";
    auto code = parse_number(digits, 100, 599);
    if (!line.starts_with(kBegin) || line.size() < 12 || line[8] != ' ' || !code ||
        (line.size() > 12 && line[12] != ' '))
        return Health{.says = "answered, but not in HTTP"};
    return Health{.good = *code / 100 == 2, .says = cat("answered ", *code)};
}

std::unique_ptr<HealthProbe> HealthProbe::begin(Loop& loop, CheckHealth check, Told told) {
    std::unique_ptr<HealthProbe> probe(new HealthProbe(loop, std::move(check), std::move(told)));
    probe->connect();
    return probe;
}

void HealthProbe::connect() {
    timer_ = loop_.after(std::chrono::milliseconds(check_.timeout_ms), [this] {
        if (told_) return tell(false, cat("no answer within ", check_.timeout_ms / 1000, " s"));
        close();
    });
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(check_.port);
    socket_ = Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    bool begun =
        socket_ && (::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 ||
                    errno == EINPROGRESS);
    int failed = begun ? 0 : errno;
    if (begun) {
        auto watch = loop_.watch(socket_.get(), EPOLLOUT, [this](uint32_t) { on_connected(); });
        if (watch) {
            watch_ = *std::move(watch);
            return;
        }
        failed = ENOMEM;
    }
    // Not from within begin().
    timer_ = loop_.after(std::chrono::milliseconds(0), [this, failed] { tell(false, in_words(failed)); });
}

void HealthProbe::on_connected() {
    int failed = 0;
    socklen_t size = sizeof failed;
    if (::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &failed, &size) < 0) failed = errno;
    if (failed) return tell(false, in_words(failed));
    if (!check_.http) return tell(true, "accepts connections");
    auto request = cat("GET ", check_.path, " HTTP/1.1\r\nHost: 127.0.0.1:", check_.port,
                       "\r\nUser-Agent: nullbox-health\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    // A fresh socket takes so little at once.
    ssize_t sent = ::send(socket_.get(), request.data(), request.size(), MSG_NOSIGNAL);
    if (sent < 0) return tell(false, in_words(errno));
    watch_.drop();
    auto watch = loop_.watch(socket_.get(), EPOLLIN, [this](uint32_t) { on_answer(); });
    if (!watch) return tell(false, watch.error().message);
    watch_ = *std::move(watch);
}

void HealthProbe::on_answer() {
    char chunk[4096];
    ssize_t count = ::recv(socket_.get(), chunk, sizeof chunk, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
        int failed = count < 0 && errno != ECONNRESET ? errno : 0; // a close with our request unread
        if (told_) return tell(false, failed ? in_words(failed) : "closed the connection without an answer");
        return close();
    }
    drained_bytes_ += static_cast<size_t>(count);
    if (!told_) {
        if (drained_bytes_ > kMostDrainedBytes) close();
        return;
    }
    answer_.append(chunk, std::min(static_cast<size_t>(count), kMaxStatusLine));
    if (auto health = judge_status_line(answer_)) {
        auto told = std::exchange(told_, nullptr); // the rest of the answer is read and forgotten
        health->number = check_.number;
        told(*std::move(health)); // may drop us
    }
}

void HealthProbe::tell(bool good, std::string says) {
    close();
    auto told = std::exchange(told_, nullptr);
    says.resize(std::min(says.size(), guest_link::kMaxHealthText));
    if (told) told({.number = check_.number, .good = good, .says = std::move(says)}); // may drop us
}

void HealthProbe::close() {
    timer_.drop();
    watch_.drop();
    socket_.reset();
}

} // namespace nullbox::agent_init

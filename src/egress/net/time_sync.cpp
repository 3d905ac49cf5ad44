#include "egress/net/time_sync.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <netinet/in.h>
#include <optional>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/timex.h>

#include "base/log.h"
#include "base/text.h"
#include "egress/net/sntp.h"

namespace nullbox::egress {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr nanoseconds kSlewAtMost = milliseconds(500); // adjtime(3) does 0.5 ms a second
constexpr nanoseconds kMaxLaterStep = seconds(1000);
constexpr nanoseconds kAgree = seconds(2); // two servers mean the same time
constexpr seconds kFirstPause{2};
constexpr size_t kMaxServers = 16, kMaxAddresses = 4;

SystemClock SystemClock::real() {
    auto now = [] {
        timespec time{};
        ::clock_gettime(CLOCK_REALTIME, &time);
        return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
    };
    auto step = [](int64_t now_ns) -> Result<> {
        timespec time{.tv_sec = now_ns / 1'000'000'000, .tv_nsec = now_ns % 1'000'000'000};
        if (::clock_settime(CLOCK_REALTIME, &time) < 0)
            return errno_error("set the clock (needs CAP_SYS_TIME)");
        return {};
    };
    auto slew = [](nanoseconds by) -> Result<> {
        timex change{};
        change.modes = ADJ_OFFSET_SINGLESHOT;
        change.offset = std::chrono::duration_cast<microseconds>(by).count();
        if (::adjtimex(&change) < 0) return errno_error("slew the clock (needs CAP_SYS_TIME)");
        return {};
    };
    return {.now_ns = now, .step = step, .slew = slew};
}

// One round asks the servers in turn until one answer is believed; then comes a long pause, else a growing
// one.
class TimeSync::Impl {
public:
    Impl(Loop& loop, Lookup lookup, SystemClock clock, Options options)
        : loop_(loop), lookup_(std::move(lookup)), clock_(std::move(clock)), options_(options) {}

    void start(std::vector<std::string> servers);
    TimeStatus status_;
    std::function<void()> changed_;

private:
    void round();
    void next_server();
    void next_address();
    Result<> ask(const IpAddress& address);
    void answered();
    void failed(std::string_view why);
    Result<> correct(nanoseconds offset);
    void end_round(Clock::duration pause);
    void drop_socket();

    Loop& loop_;
    Lookup lookup_;
    SystemClock clock_;
    Options options_;
    std::vector<std::string> servers_;
    size_t server_ = 0;
    std::vector<IpAddress> addresses_;
    uint64_t cookie_ = 0;
    int64_t asked_ns_ = 0;
    Clock::time_point asked_{};
    seconds pause_ = kFirstPause;
    std::string why_not_;
    std::optional<nanoseconds> doubted_; // a large offset that one server of this round has said
    std::shared_ptr<int> generation_ = std::make_shared<int>(); // lookups of earlier ones find it gone
    Fd socket_;
    Watch socket_watch_, timer_; // after what they watch: dropped first
};

void TimeSync::Impl::start(std::vector<std::string> servers) {
    if (servers.size() > kMaxServers) servers.resize(kMaxServers);
    servers_ = std::move(servers);
    generation_ = std::make_shared<int>();
    pause_ = kFirstPause;
    drop_socket();
    timer_.drop();
    round();
}

void TimeSync::Impl::drop_socket() {
    socket_watch_.drop();
    socket_.reset();
}

void TimeSync::Impl::round() {
    if (servers_.empty()) {
        status_.problem = "no time server is known";
        if (changed_) changed_();
        return;
    }
    server_ = 0;
    doubted_.reset();
    next_server();
}

void TimeSync::Impl::end_round(Clock::duration pause) {
    drop_socket();
    timer_ = loop_.after(pause, [this] { round(); });
    if (changed_) changed_();
}

void TimeSync::Impl::next_server() {
    if (server_ == servers_.size()) {
        end_round(pause_);
        pause_ = std::min(pause_ * 2, options_.poll);
        return;
    }
    const auto& name = servers_[server_++];
    status_.server = name;
    addresses_.clear();
    if (auto address = IpAddress::parse(name)) {
        addresses_.push_back(*address);
        next_address();
        return;
    }
    auto answer = [this, alive = std::weak_ptr(generation_)](Result<std::vector<IpAddress>> found) {
        if (alive.expired()) return;
        if (!found) return failed(found.error().message);
        addresses_ = std::move(*found);
        if (addresses_.size() > kMaxAddresses) addresses_.resize(kMaxAddresses);
        std::ranges::reverse(addresses_); // taken from the back
        next_address();
    };
    lookup_(name, std::move(answer));
}

void TimeSync::Impl::next_address() {
    if (addresses_.empty()) return next_server();
    auto address = addresses_.back();
    addresses_.pop_back();
    if (auto asked = ask(address); !asked) failed(asked.error().message);
}

void TimeSync::Impl::failed(std::string_view why) {
    drop_socket();
    status_.problem = cat("time server ", status_.server, ": ", why);
    next_address();
}

static std::pair<sockaddr_storage, socklen_t> socket_name(const IpAddress& address, uint16_t port) {
    sockaddr_storage name{};
    if (address.v6) {
        auto* v6 = reinterpret_cast<sockaddr_in6*>(&name);
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        std::copy(address.bytes.begin(), address.bytes.end(), v6->sin6_addr.s6_addr);
        return {name, sizeof *v6};
    }
    auto* v4 = reinterpret_cast<sockaddr_in*>(&name);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    std::copy_n(address.bytes.begin(), 4, reinterpret_cast<uint8_t*>(&v4->sin_addr.s_addr));
    return {name, sizeof *v4};
}

Result<> TimeSync::Impl::ask(const IpAddress& address) {
    drop_socket();
    Fd fd(::socket(address.v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) return errno_error("open a socket");
    auto [name, size] = socket_name(address, options_.port);
    // Connected: only that address answers, and its refusals are told.
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&name), size) < 0) return errno_error(address.text());
    if (::getrandom(&cookie_, sizeof cookie_, 0) != sizeof cookie_) return errno_error("random number");
    auto request = encode_sntp_request(cookie_);
    asked_ns_ = clock_.now_ns();
    asked_ = Clock::now();
    if (::send(fd.get(), request.data(), request.size(), 0) < 0)
        return errno_error(cat("ask ", address.text()));
    socket_watch_ = TRY(loop_.watch(fd.get(), EPOLLIN, [this](uint32_t) { answered(); }));
    socket_ = std::move(fd);
    timer_ = loop_.after(options_.timeout, [this] { failed(why_not_); });
    why_not_ = "no answer";
    return {};
}

void TimeSync::Impl::answered() {
    std::array<std::byte, 512> buffer;
    ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count < 0) return failed(errno_error("no answer").message);
    auto answer = parse_sntp_answer(std::span(buffer).first(static_cast<size_t>(count)), cookie_);
    if (!answer) { // may be a forgery: the real one may still come
        why_not_ = answer.error().message;
        return;
    }
    // The way there and back by the clock that nobody sets.
    auto took = std::chrono::duration_cast<nanoseconds>(Clock::now() - asked_).count();
    nanoseconds offset(answer->offset_ns(asked_ns_, asked_ns_ + took));
    if (auto corrected = correct(offset); !corrected) return failed(corrected.error().message);
    status_.synchronised = true;
    status_.offset = std::chrono::duration_cast<microseconds>(offset);
    status_.last_answer = Clock::now();
    status_.problem.clear();
    pause_ = kFirstPause;
    end_round(options_.poll);
}

static nanoseconds distance(nanoseconds a, nanoseconds b) { return a < b ? b - a : a - b; }

Result<> TimeSync::Impl::correct(nanoseconds offset) {
    int64_t now_ns = clock_.now_ns(), then_ns = now_ns + offset.count();
    if (then_ns / 1'000'000'000 < options_.not_before_s)
        return error("says a time before this image was built; it is not believed");
    if (distance(offset, nanoseconds(0)) <= kSlewAtMost) return clock_.slew(offset);
    bool large = status_.synchronised && distance(offset, nanoseconds(0)) > kMaxLaterStep;
    bool confirmed = doubted_ && distance(*doubted_, offset) <= kAgree;
    bool can_ask_others = server_ < servers_.size() || !addresses_.empty();
    if (large && !confirmed && (doubted_ || can_ask_others)) {
        doubted_ = offset;
        return error(cat("our clock would be wrong by ", offset.count() / 1'000'000'000,
                         " s; it is not believed unless a second server says so"));
    }
    log_info(cat("the clock is set by ", offset.count() / 1'000'000, " ms, as ", status_.server, " says"));
    TRY(clock_.slew(nanoseconds(0))); // what is left of an earlier correction is about another time
    return clock_.step(then_ns);
}

TimeSync::TimeSync(Loop& loop, Lookup lookup, SystemClock clock, Options options)
    : impl_(std::make_unique<Impl>(loop, std::move(lookup), std::move(clock), options)) {}
TimeSync::~TimeSync() = default;
void TimeSync::start(std::vector<std::string> servers) { impl_->start(std::move(servers)); }
const TimeStatus& TimeSync::status() const { return impl_->status_; }
void TimeSync::on_change(std::function<void()> changed) { impl_->changed_ = std::move(changed); }

} // namespace nullbox::egress

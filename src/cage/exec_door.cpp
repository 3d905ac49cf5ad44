#include "cage/exec_door.h"

#include <algorithm>
#include <cerrno>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/text.h"

namespace nullbox::cage {

using namespace guest_link;

constexpr size_t kMostShown = 1000;

std::string shown(const std::vector<std::string>& command) {
    std::string out;
    for (const auto& argument : command) {
        if (out.size() > kMostShown) break;
        bool plain = !argument.empty() && std::ranges::all_of(argument, [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                   std::string_view("_-./:=,+@%").contains(c);
        });
        out += out.empty() ? "" : " ";
        if (plain) {
            out += argument;
        } else {
            out += '\'';
            for (char c : argument) out += c == '\'' ? "'\\''" : std::string(1, c);
            out += '\'';
        }
    }
    return printable(out, kMostShown);
}

// "exec 3 by alice", and what it is.
static std::pair<std::string, std::string> described(const ExecOrder& order, uint32_t number) {
    auto user = [](const std::string& name) { return name.empty() ? "" : cat(" as ", name); };
    if (const auto* exec = std::get_if<ExecRequest>(&order.what))
        return {cat("exec ", number, " by ", order.operator_name),
                cat(shown(exec->command), user(exec->user), exec->terminal ? ", with a terminal" : "")};
    const auto& copy = std::get<CopyRequest>(order.what);
    return {cat("copy ", number, " by ", order.operator_name),
            cat(copy.direction == Direction::OutOfGuest ? "out of " : "into ", copy.path, user(copy.user))};
}

static Result<> say_request(int stream, ExecOrder& order, uint32_t number) {
    std::visit([&](auto& request) { request.number = number; }, order.what);
    auto frame = std::visit([](const auto& request) { return CallerFrame(request); }, order.what);
    auto bytes = TRY(encode(frame).context("command and environment are too long"));
    // The pair is new and empty: what does not fit now is too long.
    size_t sent = 0;
    while (sent < bytes.size()) {
        ssize_t count = ::send(stream, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno_error("hand over the command");
        sent += static_cast<size_t>(count);
    }
    return {};
}

Result<ExecDoor::Opened> ExecDoor::open(ExecOrder order,
                                        const std::function<Result<>(uint32_t, Fd)>& connect) {
    if (full())
        return error(cat(kMaxExecAtOnce, " commands and copies run in it already, the most at a time: wait"));
    uint32_t number = next_++;
    auto pair = TRY(make_socket_pair(SOCK_STREAM | SOCK_NONBLOCK));
    auto lease = TRY(make_pipe());
    TRY(say_request(pair.first.get(), order, number));
    auto watch = TRY(loop_.watch(lease.read.get(), EPOLLIN, [this, number](uint32_t) { on_left(number); }));
    TRY(connect(kExecPort, std::move(pair.second)));
    auto [title, what] = described(order, number);
    auto& one = running_[number];
    one.title = title;
    one.since = Clock::now();
    one.lease = std::move(lease.read);
    one.lease_watch = std::move(watch);
    say_(cat(title, ": ", what));
    return Opened{.stream = std::move(pair.first), .lease = std::move(lease.write)};
}

// Whatever happens to it, it means that: nothing is ever written there.
void ExecDoor::on_left(uint32_t number) {
    auto& one = running_.at(number);
    one.left = true;
    one.lease_watch.drop();
    one.last_word = loop_.after(word_of_end_, [this, number] {
        auto& late = running_.at(number);
        if (!std::exchange(late.told, true))
            say_(cat(late.title, ": its caller is gone, and the guest has not told of its end"));
        finish_if_over(number);
    });
    finish_if_over(number);
}

void ExecDoor::ended(const ExecEnded& ended) {
    auto found = running_.find(ended.number);
    if (found == running_.end() || found->second.told) return; // the guest may say what it likes
    auto& one = found->second;
    one.told = true;
    auto tenths = (Clock::now() - one.since) / std::chrono::milliseconds(100);
    say_(cat(one.title, ended.by_signal ? ": ended by signal " : ": exited ", ended.value, " after ",
             tenths / 10, ".", tenths % 10, " s", one.left ? ", its caller had left" : ""));
    finish_if_over(ended.number);
}

void ExecDoor::finish_if_over(uint32_t number) {
    auto found = running_.find(number);
    if (found != running_.end() && found->second.left && found->second.told) running_.erase(found);
}

void ExecDoor::close_all() {
    for (const auto& [number, one] : running_)
        if (!one.told) say_(cat(one.title, ": ended with the agent"));
    running_.clear();
}

} // namespace nullbox::cage

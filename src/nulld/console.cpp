#include "nulld/console.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/text.h"

namespace nullbox::nulld {

constexpr size_t kQueueBytes = size_t{64} << 10;
// In one go: a virtual console takes what one write brings, and the CPU waits until the host has taken it.
constexpr size_t kWriteBytes = 2048;

Console::Console(Loop& loop, const std::string& path, std::function<void()> enter_pressed)
    : loop_(loop), fd_(::open(path.c_str(), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)),
      enter_pressed_(std::move(enter_pressed)) {
    if (!fd_) return;
    termios settings{};
    if (::tcgetattr(fd_.get(), &settings) == 0) {
        // Typed characters are not shown: nothing here reads them but Enter.
        settings.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ISIG);
        // Nor is what is printed edited: the terminal would cut it up at each line's end.
        settings.c_oflag &= ~static_cast<tcflag_t>(OPOST);
        ::tcsetattr(fd_.get(), TCSANOW, &settings);
    }
    auto watch = loop_.watch(fd_.get(), EPOLLIN, [this](uint32_t events) {
        if (events & (EPOLLERR | EPOLLHUP)) return watch_.drop(); // a console that went away: stay calm
        if (events & EPOLLIN) read_keys();
        if (events & EPOLLOUT) write_some();
    });
    if (watch) watch_ = std::move(*watch);
}

void Console::read_keys() {
    char keys[64];
    ssize_t count = ::read(fd_.get(), keys, sizeof keys);
    if (count == 0) return watch_.drop();
    if (count > 0 && std::string_view(keys, static_cast<size_t>(count)).contains('\n')) enter_pressed_();
}

// With the carriage return that a terminal wants.
static std::string for_terminal(std::string_view lines) {
    std::string text;
    for (char one : lines) {
        if (one == '\n') text += '\r';
        text += one;
    }
    return text;
}

void Console::print(std::string_view lines) {
    if (!fd_) return;
    auto text = for_terminal(lines);
    if (queue_.size() + text.size() > kQueueBytes) {
        auto count = static_cast<uint64_t>(std::ranges::count(lines, '\n'));
        dropped_ += count;
        dropped_total_ += count;
        return;
    }
    if (uint64_t count = std::exchange(dropped_, 0))
        queue_ +=
            for_terminal(cat("(", count, " lines had no place on this console; they are in the log)\n"));
    queue_ += text;
    write_soon();
}

// Once a round, whatever was printed in it.
void Console::write_soon() {
    if (!soon_ && !wants_write_)
        soon_ = loop_.after(std::chrono::seconds(0), [this] {
            soon_.drop();
            write_some();
        });
}

void Console::write_some() {
    ssize_t count = ::write(fd_.get(), queue_.data(), std::min(queue_.size(), kWriteBytes));
    if (count > 0) queue_.erase(0, static_cast<size_t>(count));
    bool wants_write = !queue_.empty();
    if (watch_ && wants_write != wants_write_ &&
        watch_.set_events(EPOLLIN | (wants_write ? EPOLLOUT : 0u)).has_value())
        wants_write_ = wants_write;
}

void Console::drain(std::chrono::milliseconds most) {
    auto end = Clock::now() + most;
    while (fd_ && !queue_.empty() && Clock::now() < end) {
        pollfd ready{.fd = fd_.get(), .events = POLLOUT, .revents = 0};
        ::poll(&ready, 1, 50);
        write_some();
    }
    if (fd_) ::ioctl(fd_.get(), TCSBRK, 1); // tcdrain: the line's own buffer
}

} // namespace nullbox::nulld

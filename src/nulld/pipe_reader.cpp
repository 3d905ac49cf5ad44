#include "nulld/pipe_reader.h"

#include <cerrno>
#include <sys/epoll.h>
#include <unistd.h>

namespace nullbox::nulld {

PipeReader::PipeReader(Loop& loop, Fd pipe, Callbacks callbacks)
    : loop_(loop), pipe_(std::move(pipe)), callbacks_(std::move(callbacks)), window_began_(Clock::now()) {
    auto watch = loop_.watch(pipe_.get(), EPOLLIN, [this](uint32_t) {
        if (read_once()) limit();
    });
    if (watch) watch_ = std::move(*watch);
}

bool PipeReader::read_once() {
    char buffer[kBytesPerRound];
    ssize_t count = pipe_ ? ::read(pipe_.get(), buffer, sizeof buffer) : 0;
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (count > 0) {
        window_bytes_ += static_cast<size_t>(count);
        auto began = Clock::now();
        callbacks_.bytes({buffer, static_cast<size_t>(count)});
        window_time_ += Clock::now() - began;
        return true;
    }
    watch_.drop();
    pause_.drop();
    pipe_.reset();
    // Moved out: the callback may destroy this reader.
    if (auto end = std::exchange(callbacks_.end, nullptr)) end();
    return false;
}

void PipeReader::limit() {
    auto now = Clock::now();
    if (now - window_began_ >= kWindow) new_window();
    if ((window_bytes_ < kBytesPerWindow && window_time_ < kTimePerWindow) || !watch_) return;
    if (!watch_.set_events(0)) return;
    pause_ = loop_.at(now + kWindow, [this] {
        new_window();
        (void)watch_.set_events(EPOLLIN);
    });
}

void PipeReader::new_window() {
    window_began_ = Clock::now();
    window_bytes_ = 0;
    window_time_ = {};
}

void PipeReader::drain(size_t most_bytes) {
    for (size_t done = 0; done < most_bytes && pipe_; done += kBytesPerRound)
        if (!read_once()) return;
}

} // namespace nullbox::nulld

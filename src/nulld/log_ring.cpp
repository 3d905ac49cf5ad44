#include "nulld/log_ring.h"

#include <utility>

namespace nullbox::nulld {

void LineSplitter::feed(std::string_view bytes, const std::function<void(std::string_view)>& each) {
    while (!bytes.empty()) {
        size_t end = bytes.find('\n');
        partial_ += bytes.substr(0, end);
        bytes.remove_prefix(end == std::string_view::npos ? bytes.size() : end + 1);
        size_t most = kMaxLineBytes - kContinued.size();
        while (partial_.size() > kMaxLineBytes) {
            each(partial_.substr(0, most).append(kContinued));
            partial_.erase(0, most);
        }
        if (end == std::string_view::npos) return;
        if (partial_.ends_with('\r')) partial_.pop_back();
        each(partial_);
        partial_.clear();
    }
}

void LineSplitter::finish(const std::function<void(std::string_view)>& each) {
    if (!partial_.empty()) each(partial_);
    partial_.clear();
}

// What a line costs beyond its text: a service that prints empty lines must not get them for nothing.
constexpr size_t kLineOverhead = 64;

void LogRing::add(LogLine line) {
    bytes_ += line.text.size() + kLineOverhead;
    lines_.push_back(std::move(line));
    while (lines_.size() > kMaxLines || bytes_ > kMaxBytes) {
        bytes_ -= lines_.front().text.size() + kLineOverhead;
        lines_.pop_front();
        forgotten_++;
    }
}

} // namespace nullbox::nulld

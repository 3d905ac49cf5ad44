#include "cage/log_ring.h"

#include <algorithm>

#include "base/text.h"

namespace nullbox::cage {

constexpr size_t kMaxLineBytes = size_t{16} << 10;
constexpr size_t kEntryBytes = 64; // what an entry costs beside its text, so that empty lines count too

std::string_view log_stream_name(LogStream stream) {
    switch (stream) {
    case LogStream::Stdout:
        return "stdout";
    case LogStream::Stderr:
        return "stderr";
    case LogStream::Vm:
        return "vm";
    case LogStream::Cage:
        return "cage";
    }
    return "unknown";
}

const LogLine& LogRing::append(LogLine line) {
    line.sequence = next_++;
    line.text = printable(line.text, kMaxLineBytes);
    bytes_ += line.text.size() + kEntryBytes;
    lines_.push_back(std::move(line));
    while (lines_.size() > 1 && (lines_.size() > max_lines_ || bytes_ > max_bytes_)) {
        bytes_ -= lines_.front().text.size() + kEntryBytes;
        lines_.pop_front();
    }
    return lines_.back();
}

std::vector<LogLine> LogRing::last(size_t count, const Wanted& wanted) const {
    std::vector<LogLine> out;
    for (auto line = lines_.rbegin(); line != lines_.rend() && out.size() < count; ++line)
        if (!wanted || wanted(*line)) out.push_back(*line);
    std::ranges::reverse(out);
    return out;
}

} // namespace nullbox::cage

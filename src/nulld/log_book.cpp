#include "nulld/log_book.h"

#include <algorithm>
#include <ctime>
#include <utility>

#include "base/text.h"

namespace nullbox::nulld {

int64_t uptime_ms() {
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

static int64_t wall_ms() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

std::string_view tone_sequence(Tone tone) {
    switch (tone) {
    case Tone::Plain:
        return "";
    case Tone::Quiet:
        return "\x1b[2m";
    case Tone::Good:
        return "\x1b[32m";
    case Tone::Warning:
        return "\x1b[33m";
    case Tone::Bad:
        return "\x1b[1;31m";
    }
    return "";
}

std::string time_stamp(int64_t uptime_ms) {
    std::string seconds = cat(uptime_ms / 1000), milliseconds = cat(1000 + uptime_ms % 1000);
    std::string padding(seconds.size() < 4 ? 4 - seconds.size() : 0, ' ');
    return cat("[", padding, seconds, ".", std::string_view(milliseconds).substr(1), "]");
}

std::string LogBook::on_one_line(std::string_view source, const LogLine& line, Tone tone) const {
    std::string stamp = cat(time_stamp(line.uptime_ms), " ", source, ":");
    if (!colour_) return cat(stamp, " ", line.text, "\n");
    return cat(tone_sequence(Tone::Quiet), stamp, "\x1b[0m ", tone_sequence(tone), line.text,
               tone == Tone::Plain ? "\n" : "\x1b[0m\n");
}

bool LogBook::take_share(ConsoleShare& share, int64_t now_ms) {
    int64_t earned = (now_ms - share.refilled_ms) * ConsoleShare::kLinesPerSecond / 1000;
    if (earned > 0) {
        share.left = std::min(share.left + earned, ConsoleShare::kBurst);
        share.refilled_ms = now_ms;
    }
    if (share.left == 0) {
        share.held_back++;
        return false;
    }
    share.left--;
    return true;
}

void LogBook::show(const std::string& source, const LogLine& line, Tone tone) {
    auto& share = shares_[source];
    if (!take_share(share, line.uptime_ms)) return;
    if (uint64_t held_back = std::exchange(share.held_back, 0)) {
        LogLine said{.uptime_ms = line.uptime_ms,
                     .text =
                         cat("(", held_back, " more lines came too fast to be shown; they are in the log)")};
        console_.print(on_one_line(source, said, Tone::Quiet));
    }
    console_.print(on_one_line(source, line, tone));
}

void LogBook::add(const std::string& source, std::string_view text, Tone tone, bool on_console,
                  std::optional<int64_t> happened_ms) {
    int64_t now = uptime_ms(), when = happened_ms.value_or(now);
    LogLine line{.number = next_number_++,
                 .uptime_ms = when,
                 .time_ms = wall_ms() - (now - when),
                 .text = printable(text, kMaxLineBytes)};
    if (on_console) show(source, line, tone);
    if (!std::exchange(telling_, true)) {
        std::erase_if(followers_, [&](Follower& each) { return !each(source, line); });
        telling_ = false;
    }
    rings_[source].add(std::move(line));
}

bool LogBook::knows(std::string_view source) const { return rings_.contains(source); }

uint64_t LogBook::forgotten(std::string_view source) const {
    uint64_t count = 0;
    for (const auto& [name, ring] : rings_)
        if (source.empty() || source == name) count += ring.forgotten();
    return count;
}

std::vector<BookLine> LogBook::newest(std::string_view source, size_t most, uint64_t after) const {
    std::vector<BookLine> out;
    for (const auto& [name, ring] : rings_) {
        if (!source.empty() && source != name) continue;
        for (const auto& line : ring.lines())
            if (line.number > after) out.push_back({.source = name, .line = &line});
    }
    std::ranges::sort(out, {}, [](const BookLine& each) { return each.line->number; });
    if (out.size() > most) out.erase(out.begin(), out.end() - static_cast<ptrdiff_t>(most));
    return out;
}

Result<> LogBook::follow(Follower follower) {
    if (followers_.size() >= kMaxFollowers)
        return error(cat("at most ", kMaxFollowers, " may follow the log at a time"));
    followers_.push_back(std::move(follower));
    return {};
}

} // namespace nullbox::nulld

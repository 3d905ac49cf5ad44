#include "nulld/kernel_log.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/text.h"
#include "sandbox/seccomp.h"

namespace nullbox::nulld {

constexpr int kRecordsPerRound = 64;

std::optional<KernelMessage> parse_kernel_message(std::string_view record) {
    size_t semicolon = record.find(';');
    auto priority = parse_number(record.substr(0, record.find(',')), 0, 1 << 16);
    if (semicolon == std::string_view::npos || !priority) return std::nullopt;
    auto fields = split(record.substr(0, semicolon), ',');
    auto microseconds = fields.size() > 2 ? parse_number(fields[2], 0, INT64_MAX) : std::nullopt;
    auto text = record.substr(semicolon + 1);
    return KernelMessage{.level = static_cast<int>(*priority & 7),
                         .uptime_ms = microseconds.value_or(0) / 1000,
                         .text = text.substr(0, text.find('\n'))};
}

// The value of " key=" in an audit record, without quotes.
static std::string_view field(std::string_view text, std::string_view key) {
    size_t at = text.find(key);
    if (at == std::string_view::npos) return {};
    auto value = text.substr(at + key.size());
    value = value.substr(0, value.find(' '));
    if (value.starts_with('"') && value.ends_with('"') && value.size() >= 2)
        value = value.substr(1, value.size() - 2);
    return value;
}

std::optional<std::string> explain_seccomp(std::string_view text) {
    if (!text.contains("type=1326")) return std::nullopt;
    auto call = parse_number(field(text, " syscall="), 0, 100'000);
    if (!call) return std::nullopt;
    return cat(field(text, " comm="), " (pid ", field(text, " pid="), ") made the system call ",
               sandbox::syscall_name(static_cast<int>(*call)), ", which its seccomp filter does not allow");
}

KernelLog::KernelLog(Loop& loop, LogBook& log)
    : log_(log), fd_(::open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
    log_.make("kernel");
    if (!fd_) return;
    auto watch = loop.watch(fd_.get(), EPOLLIN, [this](uint32_t) { read_some(); }, -1);
    if (watch) watch_ = std::move(*watch);
}

void KernelLog::read_some() {
    char record[8192];
    for (int i = 0; i < kRecordsPerRound; i++) {
        ssize_t count = ::read(fd_.get(), record, sizeof record);
        if (count < 0 && errno == EPIPE) continue; // overwritten before it was read
        if (count <= 0) return;
        auto message = parse_kernel_message({record, static_cast<size_t>(count)});
        if (!message) continue;
        // The kernel prints what is urgent on the console itself.
        log_.add("kernel", message->text, Tone::Plain, false, message->uptime_ms);
        if (auto explained = explain_seccomp(message->text)) log_.add("nulld", *explained, Tone::Bad);
    }
}

} // namespace nullbox::nulld

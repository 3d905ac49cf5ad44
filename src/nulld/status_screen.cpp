#include "nulld/status_screen.h"

#include <algorithm>

#include "base/text.h"
#include "nulld/log_book.h" // tones

namespace nullbox::nulld {

constexpr size_t kMaxProblems = 6;
constexpr size_t kMaxAddresses = 4;

static std::string duration(int64_t ms) {
    int64_t seconds = ms / 1000;
    if (seconds < 120) return cat(seconds, " s");
    if (seconds < 7200) return cat(seconds / 60, " min");
    if (seconds < 172'800) return cat(seconds / 3600, " h");
    return cat(seconds / 86'400, " days");
}

static std::string megabytes(uint64_t bytes) {
    uint64_t mb = bytes >> 20;
    return mb < 10'000 ? cat(mb, " MB") : cat(mb >> 10, " GB");
}

namespace {
class Block {
public:
    explicit Block(const ScreenStyle& style) : style_(style) {}

    void rule(std::string_view title) {
        std::string line = style_.plain ? "-- " : "\xe2\x94\x8c\xe2\x94\x80 "; // corner and line
        if (title.empty())
            line = style_.plain ? "-----" : "\xe2\x94\x94\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80";
        line += paint(title.empty() ? Tone::Quiet : Tone::Good, title);
        if (!title.empty()) line += ' ';
        for (size_t column = title.empty() ? 5 : 4 + title.size(); column < style_.width; column++)
            line += style_.plain ? "-" : "\xe2\x94\x80";
        out_ += line + "\n";
    }
    // A label, then text that is wrapped under itself.
    void row(std::string_view label, std::string_view text, Tone tone = Tone::Plain) {
        constexpr size_t kLabel = 11;
        size_t room = style_.width > kLabel + 20 ? style_.width - kLabel - 2 : 20;
        do {
            auto part = wrapped(text, room);
            std::string padded(label.substr(0, kLabel - 1));
            padded.resize(kLabel, ' ');
            out_ += cat(style_.plain ? "| " : "\xe2\x94\x82 ", paint(Tone::Quiet, padded), paint(tone, part),
                        "\n");
            text.remove_prefix(part.size());
            text = text.substr(std::min(text.find_first_not_of(' '), text.size()));
            label = {};
        } while (!text.empty());
    }
    std::string take() && { return std::move(out_); }

private:
    // The part of text that fits, cut at a space if there is one, never inside a UTF-8 sequence.
    static std::string_view wrapped(std::string_view text, size_t room) {
        if (text.size() <= room) return text;
        size_t cut = text.rfind(' ', room);
        if (cut == std::string_view::npos || cut < room / 2) {
            cut = room;
            while (cut > 1 && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) cut--;
        }
        return text.substr(0, cut);
    }
    std::string paint(Tone tone, std::string_view text) const {
        if (style_.plain || tone == Tone::Plain || text.empty()) return std::string(text);
        return cat(tone_sequence(tone), text, "\x1b[0m");
    }
    ScreenStyle style_;
    std::string out_;
};
} // namespace

static Tone tone_of(const ServiceStatus& service) {
    if (service.failed || service.crash_loop) return Tone::Bad;
    switch (service.actual) {
    case Actual::Up:
        return Tone::Good;
    case Actual::Down:
        return Tone::Quiet;
    case Actual::Waiting:
    case Actual::Starting:
    case Actual::Stopping:
    case Actual::Clearing:
    case Actual::Delayed:
        return Tone::Warning;
    }
    return Tone::Plain;
}

static void service_rows(Block& block, const ServiceStatus& service) {
    std::string text = service.description;
    if (service.restarts)
        text += cat(" (restarted ", service.restarts, service.restarts == 1 ? " time)" : " times)");
    block.row(service.name, text, tone_of(service));
    if (!service.status_text.empty()) block.row("", service.status_text);
    if (!service.last_error.empty())
        block.row("", cat("last error: ", service.last_error), service.failed ? Tone::Bad : Tone::Warning);
}

static std::string machine_line(const SystemStatus& status) {
    std::string line = cat(status.hostname, ", up ", duration(status.uptime_ms));
    if (status.ready_ms) line += cat(", ready after ", *status.ready_ms, " ms");
    return line;
}

static std::string address_line(const SystemStatus& status) {
    if (status.addresses.empty()) return "no network";
    std::string line;
    for (size_t i = 0; i < status.addresses.size() && i < kMaxAddresses; i++)
        line += cat(i ? ", " : "", status.addresses[i]);
    if (status.addresses.size() > kMaxAddresses) line += ", ...";
    return line;
}

static std::string data_line(const SystemStatus& status) {
    if (status.data_device.empty()) return "no data partition: /var is memory, nothing there is kept";
    return cat(status.data_device, ", ", megabytes(status.data_free_bytes), " of ",
               megabytes(status.data_total_bytes), " free");
}

std::string render_status(const SystemStatus& status, const ScreenStyle& style) {
    Block block(style);
    block.rule(cat("NullBox ", kVersion));
    block.row("machine",
              status.shutting_down ? cat(machine_line(status), ", shutting down") : machine_line(status));
    block.row("network", address_line(status));
    block.row("data", data_line(status), status.data_device.empty() ? Tone::Warning : Tone::Plain);
    for (const auto& service : status.services) service_rows(block, service);
    if (status.services.empty()) block.row("services", "none is configured", Tone::Bad);
    for (size_t i = 0; i < status.problems.size() && i < kMaxProblems; i++)
        block.row(i ? "" : "problems", status.problems[i], Tone::Bad);
    if (status.problems.size() > kMaxProblems)
        block.row("", cat("and ", status.problems.size() - kMaxProblems, " more in the log"), Tone::Bad);
    block.row("keys", "Enter shows this again. Power button: off, Ctrl-Alt-Del: restart", Tone::Quiet);
    block.rule("");
    return std::move(block).take();
}

std::string status_key(const SystemStatus& status) {
    std::string key = cat(status.hostname, "\n", status.data_device, "\n", status.shutting_down, "\n");
    for (const auto& address : status.addresses) key += cat(address, "\n");
    for (const auto& service : status.services) {
        auto description = service.actual == Actual::Delayed ? std::string("delayed") : service.description;
        key += cat(service.name, ":", description, ":", service.status_text, ":", service.last_error, "\n");
    }
    for (const auto& problem : status.problems) key += cat(problem, "\n");
    return key;
}

} // namespace nullbox::nulld

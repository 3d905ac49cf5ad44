// virtio-console and virtio-rng (virtio 1.2, sections 5.3 and 5.4).
#include "guest.h"

namespace nullbox::hostile {

namespace {
void console_without_a_newline() {
    Guest guest(Kind::Console);
    guest.start();
    guest.put_text(Guest::kData, std::string(1 << 20, 'x'));
    for (int i = 0; i < 300; ++i) {
        guest.ring(1).add({{Guest::kData, 4096}});
        guest.kick(1);
        guest.serve();
    }
    equal(guest.lines.size(), 300 * 4096 / ConsoleDevice::kMostLineBytes, "lines");
    guest.works();
}
void console_floods() {
    Guest guest(Kind::Console);
    guest.start();
    guest.put_text(Guest::kData, std::string(4096, '\n'));
    for (int round = 0; round < 100; ++round) {
        for (int i = 0; i < Guest::kQueueLength; ++i) guest.ring(1).add({{Guest::kData, 4096}});
        guest.kick(1);
        guest.serve();
    }
    equal(guest.lines.size(), 0, "lines of nothing");
    guest.works();
}
void console_every_byte() {
    Guest guest(Kind::Console);
    guest.start();
    std::string bytes = "\x1b[2J\x1b]0;owned\x07\r\xc2\x9b"
                        "2J";
    for (int i = 0; i < 256; ++i) bytes += static_cast<char>(i);
    guest.put_text(Guest::kData, bytes);
    guest.ring(1).add({{Guest::kData, static_cast<uint32_t>(bytes.size())}});
    guest.kick(1);
    guest.serve();
    for (const auto& line : guest.lines) {
        auto shown = printable(line, ConsoleDevice::kMostLineBytes); // as the machine writes it into a log
        for (char byte : shown)
            expect((static_cast<unsigned char>(byte) >= ' ' || byte == '\t') && byte != '\x7f',
                   "a control character in the log");
        expect(!shown.contains("\xc2\x9b"), "a control sequence of one character in the log");
    }
    guest.works();
}
void console_cut() {
    Guest guest(Kind::Console);
    guest.start();
    guest.put_text(Guest::kData, std::string(8192, 'y'));
    guest.ring(1).add({{Guest::kData, 3 << 20}}); // the first page counts
    guest.ring(1).add({{Guest::kAnswer, 4096, true}});
    guest.ring(1).add({{Guest::kData, 0}, {Guest::kAnswer, 0, true}});
    guest.kick(1);
    guest.serve();
    equal(guest.ring(1).used_index(), 3, "requests served");
    equal(guest.lines.size(), 4096 / ConsoleDevice::kMostLineBytes, "lines");
    guest.works();
}
void console_input_queue() {
    Guest guest(Kind::Console);
    guest.start();
    for (int round = 0; round < 200; ++round) {
        guest.ring(0).offer(static_cast<uint16_t>(round * 999));
        guest.ring(0).set_index(static_cast<uint16_t>(round * 7777));
        guest.kick(0);
        guest.serve();
        guest.works();
    }
}
void rng_huge() {
    Guest guest(Kind::Rng);
    guest.start();
    guest.put(Guest::kAnswer + 256, uint64_t{0});
    guest.ring(0).add({{Guest::kAnswer, 2 << 20, true}});
    guest.kick(0);
    guest.serve();
    equal(guest.ring(0).take().written, 256, "random bytes at once");
    equal(guest.get<uint64_t>(Guest::kAnswer + 256), 0, "bytes behind them");
    guest.works();
}
void rng_floods() {
    Guest guest(Kind::Rng);
    guest.start();
    for (int round = 0; round < 200; ++round) {
        for (int i = 0; i < Guest::kQueueLength; ++i) guest.ring(0).add({{Guest::kAnswer, 4096, true}});
        guest.kick(0);
        // Not all at once: others have their turn in between.
        guest.notified = false;
        guest.transport->process();
        guest.serve();
    }
    guest.works();
}
void rng_over_its_own_rings() {
    Guest guest(Kind::Rng);
    guest.start();
    for (int round = 0; round < 200; ++round) {
        if (guest.read(kStatus) & kNeedsReset) guest.restart();
        guest.ring(0).add({{guest.ring(0).descriptors(), 512, true}});
        guest.ring(0).add({{guest.ring(0).used(), 256, true}});
        guest.ring(0).add({{guest.ring(0).available(), 256, true}});
        guest.kick(0);
        guest.serve();
    }
    guest.works_after_reset();
}

constexpr Case kCases[] = {
    {"console: a megabyte without a newline", console_without_a_newline},
    {"console: newlines in a flood", console_floods},
    {"console: escape sequences and every byte", console_every_byte},
    {"console: far more than a page at once, nothing, the wrong direction", console_cut},
    {"console: nonsense in the queue to the guest", console_input_queue},
    {"rng: two megabytes at once", rng_huge},
    {"rng: requests in a flood", rng_floods},
    {"rng: random bytes over its own rings", rng_over_its_own_rings},
};
} // namespace

std::span<const Case> small_device_cases() { return kCases; }

} // namespace nullbox::hostile

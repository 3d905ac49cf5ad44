// Addresses and ports: holes, edges, noise. The buses are what a vCPU's exits go to.
#include "cage/vmm/ports.h"
#include "guest.h"

namespace nullbox::hostile {

namespace {
constexpr size_t kWidths[] = {1, 2, 4, 8};

void holes() {
    Guest guest(Kind::Rng);
    guest.start();
    auto before = guest.page->bytes;
    std::array<std::byte, 8> bytes{};
    for (uint64_t address :
         {uint64_t{0}, Guest::kDevice - 8, Guest::kDevice - 1, Guest::kDevice + kRegisterPageBytes,
          Guest::kDevice + 0x10'0000, uint64_t{0xfec0'0000}, uint64_t{0xfee0'0000}, uint64_t{0xffff'fff8},
          kHighMemoryStart, UINT64_MAX - 7, UINT64_MAX})
        for (size_t width : kWidths) {
            guest.write_bytes(address, std::span(bytes).first(width));
            std::array<std::byte, 8> seen{};
            guest.bus.read(address, std::span(seen).first(width));
            for (size_t i = 0; i < width; ++i)
                expect(seen[i] == std::byte{0xff}, "a hole reads as something");
        }
    expect(guest.page->bytes == before, "a write to a hole changed a register");
    guest.works();
}
void edges() {
    Guest guest(Kind::Rng);
    guest.start();
    auto before = guest.page->bytes;
    std::array<std::byte, 8> bytes{};
    for (size_t width : kWidths)
        for (uint64_t over = 1; over < width; ++over) { // across both edges of the page
            guest.write_bytes(Guest::kDevice - over, std::span(bytes).first(width));
            guest.write_bytes(Guest::kDevice + kRegisterPageBytes - over, std::span(bytes).first(width));
        }
    expect(guest.page->bytes == before, "a write over an edge changed a register");
    guest.works();
}
struct Ports {
    VmEndReport end = *VmEndReport::make();
    ResetPort reset{end};
    EarlyConsole console;
    IoBus bus;
    Ports() {
        bus.add({.start = ResetPort::kPort, .length = 1, .handler = &reset});
        bus.add({.start = EarlyConsole::kPort, .length = 8, .handler = &console});
    }
    bool ended() const {
        uint64_t count = 0;
        return ::read(end.wake_fd(), &count, sizeof count) == sizeof count;
    }
};
void port_noise() {
    Ports ports;
    Random random(3);
    for (uint64_t port = 0; port < 0x10000; ++port)
        for (size_t width : {1u, 2u, 4u}) {
            std::array<std::byte, 4> bytes{};
            for (auto& byte : bytes)
                byte = static_cast<std::byte>(random.below(0x20)); // nothing that a console shows
            if (bytes[0] == std::byte{'\n'}) bytes[0] = {};
            ports.bus.write(port, std::span(bytes).first(width));
            ports.bus.read(port, std::span(bytes).first(width));
            bool answered = width == 1 && (port == ResetPort::kPort ||
                                           (port >= EarlyConsole::kPort && port < EarlyConsole::kPort + 8));
            for (size_t i = 0; i < width && !answered && port + width <= EarlyConsole::kPort; ++i)
                expect(bytes[i] == std::byte{0xff}, cat("port ", port, " reads as something"));
        }
    expect(!ports.ended(), "noise has ended the machine");
}
void reset_port() {
    Ports ports;
    for (int value = 0; value < 256; ++value) {
        auto byte = static_cast<std::byte>(value);
        if (value != 0xfe) ports.bus.write(ResetPort::kPort, std::span(&byte, 1));
    }
    std::array<std::byte, 4> wide{std::byte{0xfe}, std::byte{0xfe}, std::byte{0xfe}, std::byte{0xfe}};
    for (size_t width : {2u, 4u})
        for (uint64_t port = ResetPort::kPort - 3; port <= ResetPort::kPort; ++port)
            ports.bus.write(port, std::span(wide).first(width));
    expect(!ports.ended(), "something else than 0xfe in one byte has ended the machine");
    // A string of them, as OUTSB sends it: the first counts, and once.
    for (int i = 0; i < 4096; ++i) ports.bus.write(ResetPort::kPort, std::span(wide).first(1));
    expect(ports.ended(), "0xfe does not end the machine");
    expect(std::string_view(ports.end.message().text) == "the guest has reset the machine", "its reason");
    ports.end.report(VmEnd::GuestFault, "later");
    expect(ports.end.message().reason == VmEnd::Shutdown, "a later reason has taken its place");
}
void early_console() {
    Ports ports;
    for (int value = 0; value < 256; ++value) {
        bool shown = (value >= ' ' && value <= '~') || value == '\n';
        auto byte = static_cast<std::byte>(value);
        for (uint64_t port = EarlyConsole::kPort; port < EarlyConsole::kPort + 8; ++port)
            if (!shown || port != EarlyConsole::kPort) ports.bus.write(port, std::span(&byte, 1));
    }
    std::byte status{};
    ports.bus.read(EarlyConsole::kPort + 5, std::span(&status, 1));
    expect(status == std::byte{0x60}, "its line status");
}
void long_reasons() { // what a VM ended with is cut, never beyond its place
    for (size_t bytes : {0u, 1u, 239u, 240u, 241u, 5000u}) {
        auto end = *VmEndReport::make();
        std::string text(bytes, 't');
        end.report(VmEnd::GuestFault, text, text);
        size_t shown = ::strnlen(end.message().text, sizeof end.message().text);
        equal(shown, std::min<size_t>(2 * bytes, sizeof end.message().text - 1), "bytes of a reason");
    }
}

constexpr Case kCases[] = {
    {"bus: addresses where nothing is", holes},
    {"bus: accesses over the edges of a device", edges},
    {"ports: every port, every width", port_noise},
    {"ports: the reset port, and strings to it", reset_port},
    {"ports: control characters to the early console", early_console},
    {"reasons: too long for their place", long_reasons},
};
} // namespace

std::span<const Case> bus_cases() { return kCases; }

} // namespace nullbox::hostile

// The two PC ports we answer.
#pragma once

#include <unistd.h>

#include "cage/vmm/io_bus.h"
#include "cage/vmm/vm_end.h"

namespace nullbox::cage {

// The keyboard controller's command port: 0xfe resets a PC. Reads as ready.
class ResetPort final : public IoHandler {
public:
    static constexpr uint64_t kPort = 0x64;
    explicit ResetPort(VmEndReport& end) : end_(end) {}
    std::string_view name() const override { return "reset"; }
    void read(uint64_t, std::span<std::byte> data) override { data.front() = std::byte{0}; }
    void write(uint64_t, std::span<const std::byte> data) override {
        if (data.front() == std::byte{0xfe}) end_.report(VmEnd::Shutdown, "the guest has reset the machine");
    }

private:
    VmEndReport& end_;
};

// A serial port just real enough for a kernel's earlyprintk, straight to stderr: for when a guest does not
// come as far as its console. Only with the kernel's log switched on.
class EarlyConsole final : public IoHandler {
public:
    static constexpr uint64_t kPort = 0x3f8;
    std::string_view name() const override { return "early console"; }
    void read(uint64_t offset, std::span<std::byte> data) override {
        constexpr uint64_t kLineStatus = 5;
        constexpr std::byte kTransmitterEmpty{0x60};
        data.front() = offset == kLineStatus ? kTransmitterEmpty : std::byte{0};
    }
    void write(uint64_t offset, std::span<const std::byte> data) override {
        auto byte = static_cast<char>(data.front());
        bool printable = (byte >= ' ' && byte <= '~') || byte == '\n';
        if (offset == 0 && printable) (void)!::write(STDERR_FILENO, &byte, 1);
    }
};

} // namespace nullbox::cage

// Who answers a guest's access to a port or a device address. An access that nobody answers reads as all ones
// and writes nothing, as on a real machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace nullbox::cage {

// Called on vCPU threads, on several at once. offset and data are guest-controlled; data is 1, 2, 4 or 8
// bytes.
class IoHandler {
public:
    virtual ~IoHandler() = default;
    virtual std::string_view name() const = 0;
    virtual void read(uint64_t offset, std::span<std::byte> data) = 0;
    virtual void write(uint64_t offset, std::span<const std::byte> data) = 0;
};

class IoBus {
public:
    struct Range {
        uint64_t start, length;
        IoHandler* handler; // outlives the bus
    };
    void add(Range range) { ranges_.push_back(range); }

    void read(uint64_t address, std::span<std::byte> data) const;
    void write(uint64_t address, std::span<const std::byte> data) const;

private:
    const Range* find(uint64_t address, size_t length) const;
    std::vector<Range> ranges_; // complete before the first vCPU runs
};

} // namespace nullbox::cage

// Netlink messages (netlink(7), RFC 3549): a writer of headers with nested attributes, and readers that check
// every length before use. What the kernel sends is trusted in meaning, never in size. Numbers are in host
// order unless a name says network_; nf_tables wants network order nearly everywhere. Pure: no system calls.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nullbox::egress {

constexpr size_t kMaxAttributes = 1024; // of one level, when reading

template <std::unsigned_integral T>
constexpr T network_order(T value) {
    if constexpr (sizeof(T) == 1) return value;
    if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
    if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
    if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}

class AttributeWriter {
public:
    AttributeWriter& bytes(uint16_t type, std::span<const std::byte> value);
    AttributeWriter& text(uint16_t type, std::string_view value); // with its NUL
    template <std::unsigned_integral T>
    AttributeWriter& number(uint16_t type, T value) {
        return bytes(type, std::as_bytes(std::span(&value, 1)));
    }
    template <std::unsigned_integral T>
    AttributeWriter& network_number(uint16_t type, T value) {
        return number(type, network_order(value));
    }
    template <typename Body>
    AttributeWriter& nest(uint16_t type, Body&& body) {
        size_t start = begin(type | kNested);
        body(*this);
        end(start);
        return *this;
    }
    // Attributes written elsewhere, or a fixed header: padded, not wrapped.
    AttributeWriter& raw(std::span<const std::byte> value);
    std::span<const std::byte> view() const { return out_; }

    static constexpr uint16_t kNested = 0x8000; // NLA_F_NESTED

private:
    size_t begin(uint16_t type);
    void end(size_t start);
    std::vector<std::byte> out_;
};

// One request. label: what it does, in words for the error message.
struct NetlinkMessage {
    uint16_t type = 0;
    uint16_t flags = 0; // NLM_F_REQUEST is always added
    std::string label;
    AttributeWriter body;

    template <typename Header>
    static NetlinkMessage make(uint16_t type, uint16_t flags, std::string label, const Header& header) {
        NetlinkMessage message{.type = type, .flags = flags, .label = std::move(label)};
        message.body.raw(std::as_bytes(std::span(&header, 1)));
        return message;
    }
    void append_to(std::vector<std::byte>& out, uint32_t sequence, uint16_t more_flags = 0) const;
};

struct NetlinkView {
    uint16_t type = 0, flags = 0;
    uint32_t sequence = 0, port = 0;
    std::span<const std::byte> payload;

    // The fixed header that the payload begins with; the rest is what attributes() reads.
    template <typename Header>
    std::optional<Header> header() const {
        Header header;
        if (payload.size() < sizeof header) return std::nullopt;
        std::memcpy(&header, payload.data(), sizeof header);
        return header;
    }
    std::span<const std::byte> after(size_t header_bytes) const;
};

// Every message of one datagram.
Result<std::vector<NetlinkView>> split_datagram(std::span<const std::byte> datagram);

class Attributes {
public:
    // Of a type that comes twice, find() gives the first; all() gives every one in order.
    static Result<Attributes> parse(std::span<const std::byte> bytes);

    struct Attribute {
        uint16_t type = 0;
        std::span<const std::byte> value;
    };
    const std::vector<Attribute>& all() const { return all_; }
    std::optional<std::span<const std::byte>> find(uint16_t type) const;
    // Of exactly T's size, or nothing.
    template <std::unsigned_integral T>
    std::optional<T> number(uint16_t type) const {
        auto value = find(type);
        if (!value || value->size() != sizeof(T)) return std::nullopt;
        T out;
        std::memcpy(&out, value->data(), sizeof out);
        return out;
    }
    template <std::unsigned_integral T>
    std::optional<T> network_number(uint16_t type) const {
        auto value = number<T>(type);
        return value ? std::optional(network_order(*value)) : std::nullopt;
    }
    std::string text(uint16_t type) const;          // up to its NUL; empty if absent
    Result<Attributes> nested(uint16_t type) const; // absent: an empty one

private:
    std::vector<Attribute> all_;
};

// An NLMSG_ERROR: error 0 is the acknowledgement. text is the kernel's own explanation (extended ack).
struct NetlinkAck {
    int error = 0; // errno
    uint32_t sequence = 0;
    std::string text;
};
Result<NetlinkAck> parse_ack(const NetlinkView& view);

} // namespace nullbox::egress

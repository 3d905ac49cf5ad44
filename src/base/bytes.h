// Little-endian fields in byte buffers, bounds-checked: the reader and writer of every binary format NullBox
// parses. A reader that runs past its end turns failed() and yields zeros from then on, so a parser checks
// once at the end.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

namespace nullbox {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "NullBox runs on little-endian machines");

class ByteReader {
public:
    explicit ByteReader(std::span<const std::byte> bytes) : bytes_(bytes) {}

    template <std::unsigned_integral T>
    T number() {
        T value{};
        if (auto field = take(sizeof(T)); !field.empty()) std::memcpy(&value, field.data(), sizeof(T));
        return value;
    }
    // Exactly count bytes, or an empty span and failed().
    std::span<const std::byte> take(size_t count) {
        if (failed_ || count > bytes_.size()) {
            failed_ = true;
            return {};
        }
        auto field = bytes_.first(count);
        bytes_ = bytes_.subspan(count);
        return field;
    }
    std::span<const std::byte> rest() const { return bytes_; }
    bool failed() const { return failed_; }

private:
    std::span<const std::byte> bytes_;
    bool failed_ = false;
};

class ByteWriter {
public:
    template <std::unsigned_integral T>
    ByteWriter& number(T value) {
        return bytes({reinterpret_cast<const std::byte*>(&value), sizeof value});
    }
    ByteWriter& bytes(std::span<const std::byte> field) {
        out_.insert(out_.end(), field.begin(), field.end());
        return *this;
    }
    std::span<const std::byte> view() const { return out_; }
    std::vector<std::byte> take() && { return std::move(out_); }

private:
    std::vector<std::byte> out_;
};

inline std::string_view as_text(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

} // namespace nullbox

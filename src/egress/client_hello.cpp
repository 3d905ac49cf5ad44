#include "egress/client_hello.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/text.h"

namespace nullbox::egress {

constexpr uint8_t kAlertRecord = 21, kHandshakeRecord = 22;
constexpr uint8_t kClientHello = 1, kServerHello = 2;
constexpr size_t kMaxRecordBytes = size_t{16} << 10;
constexpr size_t kHandshakeHeaderBytes = 4;
constexpr uint16_t kServerNameExtension = 0, kEncryptedHelloExtension = 0xfe0d;
// Earlier drafts of the same thing.
constexpr std::array<uint16_t, 5> kEncryptedNames = {0xffce, 0xfe08, 0xfe09, 0xfe0a,
                                                     kEncryptedHelloExtension};

// SHA-256 of "HelloRetryRequest", in place of a ServerHello's random.
constexpr std::array<uint8_t, 32> kRetryRandom = {
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c};

std::string alert_record(Alert alert) {
    return {static_cast<char>(kAlertRecord), 3, 3, 0, 2, 2, static_cast<char>(alert)};
}

static uint8_t at(std::span<const std::byte> bytes, size_t i) { return static_cast<uint8_t>(bytes[i]); }

namespace {
// Big-endian fields, vectors with a length before them.
class Reader {
public:
    explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}
    uint32_t number(size_t size) {
        uint32_t value = 0;
        for (auto b : take(size)) value = value << 8 | static_cast<uint8_t>(b);
        return value;
    }
    std::span<const std::byte> take(size_t count) {
        if (failed_ || count > bytes_.size()) {
            failed_ = true;
            return {};
        }
        auto field = bytes_.first(count);
        bytes_ = bytes_.subspan(count);
        return field;
    }
    std::span<const std::byte> vector(size_t length_bytes) { return take(number(length_bytes)); }
    bool empty() const { return bytes_.empty(); }
    bool failed() const { return failed_; }

private:
    std::span<const std::byte> bytes_;
    bool failed_ = false;
};
} // namespace

static Result<std::string> read_server_name(std::span<const std::byte> extension) {
    Reader reader(extension);
    Reader list(reader.vector(2));
    auto type = list.number(1);
    auto name = list.vector(2);
    // One name of the only type there is. A second one would be a second opinion about where this goes.
    if (reader.failed() || list.failed() || !reader.empty() || !list.empty() || type != 0 || name.empty())
        return error("the server name in the TLS hello is malformed");
    return std::string(reinterpret_cast<const char*>(name.data()), name.size());
}

static Result<> read_extensions(std::span<const std::byte> bytes, ClientHello& hello) {
    Reader reader(bytes);
    std::vector<uint32_t> seen;
    while (!reader.empty()) {
        auto type = reader.number(2);
        auto extension = reader.vector(2);
        if (reader.failed()) return error("the TLS hello's extensions are malformed");
        if (std::ranges::find(seen, type) != seen.end())
            return error(cat("the TLS hello has extension ", type, " twice"));
        seen.push_back(type);
        if (type == kServerNameExtension) hello.server_name = TRY(read_server_name(extension));
        if (std::ranges::find(kEncryptedNames, type) != kEncryptedNames.end()) hello.encrypted_hello = true;
    }
    return {};
}

static Result<ClientHello> read_hello(std::span<const std::byte> body) {
    Reader reader(body);
    ClientHello hello;
    reader.take(2 + 32);    // legacy version, random
    (void)reader.vector(1); // session id
    auto suites = reader.vector(2);
    auto compressions = reader.vector(1);
    if (reader.failed() || suites.empty() || suites.size() % 2 != 0 || compressions.empty())
        return error("the TLS hello is malformed");
    if (reader.empty()) return hello; // extensions are optional up to TLS 1.2
    auto extensions = reader.vector(2);
    if (reader.failed() || !reader.empty()) return error("the TLS hello is malformed");
    TRY(read_extensions(extensions, hello));
    return hello;
}

Result<std::optional<ClientHello>> parse_client_hello(std::span<const std::byte> stream) {
    std::vector<std::byte> message;
    size_t taken = 0;
    for (;;) {
        auto rest = stream.subspan(taken);
        if (!rest.empty() && at(rest, 0) != kHandshakeRecord) return error("this is not TLS");
        if (rest.size() >= 2 && at(rest, 1) != 3) return error("this is not TLS");
        if (rest.size() < kRecordHeaderBytes) return std::nullopt;
        size_t size = size_t{at(rest, 3)} << 8 | at(rest, 4);
        if (size == 0 || size > kMaxRecordBytes) return error("a TLS record of the hello has a wrong length");
        if (taken + kRecordHeaderBytes + size > kMaxHelloBytes) return error("the TLS hello is too long");
        if (rest.size() < kRecordHeaderBytes + size) return std::nullopt;
        auto fragment = rest.subspan(kRecordHeaderBytes, size);
        message.insert(message.end(), fragment.begin(), fragment.end());
        taken += kRecordHeaderBytes + size;
        if (at(message, 0) != kClientHello) return error("the first TLS message is no hello");
        if (message.size() < kHandshakeHeaderBytes) continue;
        size_t body = size_t{at(message, 1)} << 16 | size_t{at(message, 2)} << 8 | at(message, 3);
        if (body > kMaxHelloBytes) return error("the TLS hello is too long");
        if (message.size() < kHandshakeHeaderBytes + body) continue;
        // A second message in the same record would be read by the server and not by us.
        if (message.size() > kHandshakeHeaderBytes + body) return error("the TLS hello is followed by more");
        auto hello = TRY(read_hello(std::span(message).subspan(kHandshakeHeaderBytes)));
        hello.bytes = taken;
        return hello;
    }
}

std::optional<bool> is_retry_request(std::span<const std::byte> stream) {
    constexpr size_t kRandomAt = kRecordHeaderBytes + kHandshakeHeaderBytes + 2;
    if (stream.empty()) return std::nullopt;
    if (at(stream, 0) != kHandshakeRecord) return false;
    if (stream.size() > kRecordHeaderBytes && at(stream, kRecordHeaderBytes) != kServerHello) return false;
    if (stream.size() < kRandomAt + kRetryRandom.size()) return std::nullopt;
    auto random = stream.subspan(kRandomAt, kRetryRandom.size());
    return std::ranges::equal(random, kRetryRandom, {}, [](std::byte b) { return static_cast<uint8_t>(b); });
}

} // namespace nullbox::egress

// The first message of a TLS client (RFC 8446 section 4.1.2, RFC 5246; the server name is RFC 6066 section
// 3), read without answering: which server it asks for, and whether it hides another behind it (ECH, 0xfe0d).
// Pure; every byte is an agent's. The message may come in pieces and in several TLS records; it is at most
// kMaxHelloBytes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/error.h"

namespace nullbox::egress {

constexpr size_t kMaxHelloBytes = size_t{32} << 10;
constexpr size_t kRecordHeaderBytes = 5;

// The alert that goes with a refusal (RFC 8446 section 6).
enum class Alert : uint8_t {
    UnexpectedMessage = 10,
    HandshakeFailure = 40,
    DecodeError = 50,
    AccessDenied = 49,
    InternalError = 80,
    UnrecognizedName = 112,
};
// One whole record: fatal alert. Goes out in clear, before any handshake.
std::string alert_record(Alert alert);

struct ClientHello {
    std::optional<std::string> server_name; // as sent; guest-controlled
    bool encrypted_hello = false;           // ECH is in it, a real one or a dummy: nobody can tell
    size_t bytes = 0;                       // of the stream that the message's records take
};

// Nothing: more bytes are needed. An error: this is no ClientHello, or one that nobody honest sends.
Result<std::optional<ClientHello>> parse_client_hello(std::span<const std::byte> stream);

// Whether a server's first record asks the client for a second ClientHello (RFC 8446 section 4.1.4), which
// then must be checked as the first was. Nothing: more bytes are needed.
std::optional<bool> is_retry_request(std::span<const std::byte> stream);

} // namespace nullbox::egress

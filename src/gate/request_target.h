// Where a request goes: the method and target of an HTTP request line, and the digest of an upload. Pure;
// what a client sends is hostile. There is no percent-decoding and no normal form: a target is exactly one of
// the few texts that mean something, or it is unknown.
//
//     POST /v1/io.nullbox.cage/List        POST /v1/io.nullbox.cage/Logs?more=1
//     PUT  /v1/upload/app/researcher       GET  /v1/openapi.json
//     POST /v1/exec/researcher             POST /v1/copy/researcher
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace nullbox::gate {

struct Target {
    enum class Kind { Call, Upload, Exec, Description, WrongVerb, Unknown };
    Kind kind = Kind::Unknown;
    // Call: interface and method. Upload: kind and name. Exec: "exec" or "copy", and the agent. WrongVerb:
    // the verb that would be right, and nothing.
    std::string first, second;
    bool more = false;
};

Target parse_target(std::string_view verb, std::string_view target);

// RFC 9530, Repr-Digest: the member sha-256 as 64 hexadecimal digits; nothing if it is not there or not
// right.
std::optional<std::string> parse_digest(std::string_view header);

} // namespace nullbox::gate

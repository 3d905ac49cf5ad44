// Heads of HTTP/1.x messages (RFC 9112, RFC 9110): the request or status line and the fields, read strictly.
// Pure. What two readers could understand differently is refused, not repaired: bare LF, folded lines, blanks
// before a colon, two lengths, a length beside Transfer-Encoding. So nobody behind us sees another message
// than the one that was checked here (request smuggling).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nullbox::egress::http {

constexpr size_t kMaxHeadBytes = size_t{32} << 10;
constexpr size_t kMaxFields = 128;

struct Field {
    std::string name, value; // as sent; compare names with same_name()
};
bool same_name(std::string_view one, std::string_view other); // ASCII case does not count

class Fields {
public:
    void add(std::string name, std::string value) { fields_.push_back({std::move(name), std::move(value)}); }
    void remove(std::string_view name);
    size_t count(std::string_view name) const;
    // The first one's value, or nothing.
    std::optional<std::string_view> find(std::string_view name) const;
    // Whether a comma-separated list in any field of that name holds the token, in any case.
    bool has_token(std::string_view name, std::string_view token) const;
    std::vector<std::string> tokens(std::string_view name) const;
    std::vector<Field>& all() { return fields_; }
    const std::vector<Field>& all() const { return fields_; }

private:
    std::vector<Field> fields_;
};

// How long a body is.
struct Framing {
    enum class Kind : uint8_t { None, Length, Chunked, UntilClose } kind = Kind::None;
    uint64_t length = 0;
    bool operator==(const Framing&) const = default;
};

struct RequestHead {
    std::string method, target;
    int minor = 1; // HTTP/1.minor, 0 or 1
    Fields fields;
    Framing framing;
    bool keep_alive() const;
};

struct ResponseHead {
    int minor = 1;
    unsigned status = 0;
    std::string reason;
    Fields fields;
    // The body's length depends on the request's method too.
    Result<Framing> framing(std::string_view method) const;
    bool keep_alive() const;
};

// Where the head ends in the bytes, its empty line included; nothing: more bytes are needed (up to
// kMaxHeadBytes).
std::optional<size_t> head_end(std::string_view bytes);
// The whole head, with its empty line.
Result<RequestHead> parse_request(std::string_view head);
Result<ResponseHead> parse_response(std::string_view head);
// "name: value" lines and the empty one.
std::string encode(const RequestHead& head);
std::string encode(const ResponseHead& head);

} // namespace nullbox::egress::http

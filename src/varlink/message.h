// Varlink messages as bytes (varlink.org/Protocol): one JSON object ended by NUL. Pure: no system calls.
// What comes from a peer is hostile: a message's length and nesting are bounded, UTF-8 must be valid.
// Internal to src/varlink, its tests, and gate, where a call's parameters come over HTTP.
#pragma once

#include <boost/json/object.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace nullbox::varlink {

constexpr size_t kMaxNesting = 16;

// Cuts a byte stream into messages.
class MessageReader {
public:
    explicit MessageReader(size_t most_bytes) : most_bytes_(most_bytes) {}
    void feed(std::string_view bytes) { buffer_ += bytes; }
    // The next whole message without its NUL, valid until the next call; nothing when more bytes are needed;
    // an error when the stream holds a longer message than allowed.
    Result<std::optional<std::string_view>> next();
    bool has_message(); // next() would give a message or an error
    size_t buffered() const { return buffer_.size() - start_; }

private:
    std::optional<size_t> find_end();
    std::string buffer_;
    size_t most_bytes_;
    size_t start_ = 0;   // of the message that is not yet given out
    size_t scanned_ = 0; // no NUL between start_ and here: each byte is looked at once
};

struct Request {
    std::string method;
    boost::json::object parameters;
    bool more = false, oneway = false, upgrade = false;
};

struct Reply {
    boost::json::object parameters;
    bool continues = false;
    std::optional<std::string> error;
};

Result<boost::json::object> parse_object(std::string_view text);
Result<Request> parse_request(std::string_view text);
Result<Reply> parse_reply(std::string_view text);
// With the NUL.
std::string encode(const Request& request);
std::string encode(const Reply& reply);

} // namespace nullbox::varlink

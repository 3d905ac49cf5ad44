// Paths of HTTP requests as rules of a manifest compare them. One reading only: a path that a server could
// read otherwise (another path behind an encoding, a dot segment, a parameter) has no normal form, and no
// pattern matches it. Pure.
//
// The normal form is that of RFC 3986 sections 6.2.2.1 and 6.2.2.2: what need not be encoded is not, and
// hexadecimal digits are in upper case. Letters keep their case; the query is no part of a path.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nullbox::manifest {

// guest-controlled. An error says what about the path could be read in two ways. Taken again, the normal form
// is itself.
Result<std::string> normal_request_path(std::string_view path);

// "/v1/models": that path. A segment that is `*` stands for any one segment that is not empty; as the last
// one it stands for everything below, however deep.
class RequestPathPattern {
public:
    static Result<RequestPathPattern> parse(std::string_view text);
    // Only for paths in normal form.
    bool matches(std::string_view normal_path) const;

private:
    std::vector<std::string> segments_; // normal, "*" for any
    bool below_ = false;                // the last one was `*`; it is not in the list
};

// See forms.h.
std::string wrong_request_path_pattern(std::string_view text);
std::string wrong_request_method(std::string_view text);
// "api.example.org", "*.example.org", either with a port.
std::string wrong_request_host(std::string_view text);

} // namespace nullbox::manifest

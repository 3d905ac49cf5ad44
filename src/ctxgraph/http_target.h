// The target of a request (RFC 9112 section 3.2.1, origin form) cut into decoded parts. Pure.
// Guest-controlled.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace nullbox::ctxgraph {

struct Target {
    std::vector<std::string> path; // "/v1/a%2Fb" is {"v1", "a/b"}
    std::vector<std::pair<std::string, std::string>> query;

    std::optional<std::string_view> find(std::string_view name) const;
};

Result<Target> parse_target(std::string_view target);

} // namespace nullbox::ctxgraph

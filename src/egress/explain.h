// What would happen to a connection, or to one request, of an agent that is attached. Internal to egress's
// interface: brings Boost.JSON.
#pragma once

#include <boost/json/object.hpp>
#include <optional>
#include <string>

#include "egress/policy.h"

namespace nullbox::egress {

// "host", "host:port", "address:port", or with a path: "host/path", "https://host/path".
struct Question {
    Destination destination;
    std::optional<std::string> target; // path and query
    static Result<Question> parse(std::string_view text);
};

// method: of the request, if it is one.
boost::json::object explain(const Policy& policy, const Question& question, const std::string& method);

} // namespace nullbox::egress

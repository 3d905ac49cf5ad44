// What a call brings back, how a service's refusal becomes an Error, and how an answer says nothing. Brings
// Boost.JSON.
#pragma once

#include <boost/json/object.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"

namespace nullbox::varlink {

struct Answer {
    boost::json::object parameters;
    std::vector<Fd> fds; // in the service's order
    std::string error;   // its name; only where refusals were asked for as answers (pending.h)
};

struct Reply;
// "io.nullbox.cage.NoSuchAgent: there is no agent x": the name first, so that a caller can tell errors apart.
Error varlink_error(const Reply& reply);

// A field of the kind ?string: an empty text is null.
inline boost::json::value text_or_null(std::string_view text) {
    return text.empty() ? boost::json::value() : boost::json::value(text);
}

} // namespace nullbox::varlink

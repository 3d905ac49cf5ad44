// The OpenAPI 3.1 description of the door, made from the services' .varlink files and the table of roles
// (roles.h). Pure. Used by the small program that writes the file when NullBox is built, and by the test that
// holds the file against both.
#pragma once

#include <boost/json/object.hpp>
#include <vector>

#include "varlink/description.h"

namespace nullbox::gate {

boost::json::object openapi(const std::vector<varlink::Description>& services);

} // namespace nullbox::gate

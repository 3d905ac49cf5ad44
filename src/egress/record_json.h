// A record as io.nullbox.egress shows it and the file holds it. Internal: brings Boost.JSON.
#pragma once

#include <boost/json/object.hpp>

#include "egress/records.h"

namespace nullbox::egress {

boost::json::object to_json(const Record& record);

} // namespace nullbox::egress

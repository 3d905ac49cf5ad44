// Interface descriptions, and the OpenAPI document that is made of them.
#include <boost/json/serialize.hpp>
#include <cstddef>
#include <cstdint>

#include "gate/openapi.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    auto description = nullbox::varlink::parse_description({reinterpret_cast<const char*>(data), size});
    if (description.has_value()) (void)boost::json::serialize(nullbox::gate::openapi({*description}));
    return 0;
}

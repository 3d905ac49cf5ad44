// Names below which a registry gives names to anybody ("co.uk"), by the Public Suffix List as Debian packages
// it (its ICANN part, made into a header by tools/public-suffixes). Pure.
#pragma once

#include <string_view>

namespace nullbox::manifest {

// name: in the form that wrong_host_name() takes.
bool is_public_suffix(std::string_view name);

} // namespace nullbox::manifest

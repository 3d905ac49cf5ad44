// A Varlink answer as HTTP: which status an error has. Pure.
#pragma once

#include <string_view>

#include "base/error.h"

namespace nullbox::gate {

// error: "io.nullbox.cage.NoSuchAgent". By what the name says, because all services name alike.
unsigned status_of_refusal(std::string_view error);

struct Failure {
    unsigned status;
    std::string_view error;
};
// A service that did not answer at all.
Failure status_of_silence(const Error& why);

} // namespace nullbox::gate

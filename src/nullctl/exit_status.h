// How nullctl ends, and how an error says so. An Error of nullctl's that decides the status has it in `code`,
// negative, where no errno value can be; every other error is Failed.
#pragma once

#include <string>

#include "base/error.h"

namespace nullbox::nullctl {

enum class Exit {
    Good = 0,
    Failed = 1,      // the box refused, or something here went wrong
    Usage = 2,       // the command line is wrong
    Unreachable = 3, // no connection to the box
    NotTrusted = 4,  // the box is another than it was, or it does not know our key
    Locked = 5,      // the vault is locked
};

// Where the status is that of a command in an agent: ours, if it never came to that.
constexpr int kExecFailed = 125;

inline Error ends_with(Exit status, std::string message) {
    return Error{.code = -static_cast<int>(status), .message = std::move(message)};
}
inline Exit exit_of(const Error& error) {
    return error.code < 0 && error.code >= -5 ? static_cast<Exit>(-error.code) : Exit::Failed;
}

} // namespace nullbox::nullctl

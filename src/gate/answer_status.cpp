#include "gate/answer_status.h"

#include <cerrno>

namespace nullbox::gate {

unsigned status_of_refusal(std::string_view error) {
    auto dot = error.rfind('.');
    auto name = dot == std::string_view::npos ? error : error.substr(dot + 1);
    if (name == "InvalidParameter" || name.starts_with("Invalid") || name == "ExpectedMore" ||
        name == "BadValue")
        return 400;
    if (name == "PermissionDenied" || name == "NotGranted" || name == "NotAllowed") return 403;
    if (name == "WrongPassphrase") return 403;
    if (name.ends_with("NotFound") || name == "MethodNotImplemented") return 404;
    if (name.starts_with("NoSuch") || name == "NoVault") return 404;
    if (name == "Locked") return 423;
    if (name == "TooLarge") return 413;
    if (name == "QuotaUsedUp" || name == "DiskFull" || name == "NoSpace") return 507;
    if (name == "TooSlow") return 504;
    if (name.starts_with("TooMany") || name == "TooSoon" || name == "Busy") return 429;
    if (name == "Internal" || name == "Failed" || name == "CannotWrite") return 500;
    if (name == "ShuttingDown" || name == "Unavailable") return 503;
    return 409; // the service understood, and as things stand it will not
}

Failure status_of_silence(const Error& why) {
    switch (why.code) {
    case ENOENT:
    case ECONNREFUSED:
    case EACCES:
    case EAGAIN:
        return {.status = 503, .error = "io.nullbox.gate.ServiceNotThere"};
    case ETIMEDOUT:
        return {.status = 504, .error = "io.nullbox.gate.ServiceLate"};
    default:
        return {.status = 502, .error = "io.nullbox.gate.ServiceBroke"};
    }
}

} // namespace nullbox::gate

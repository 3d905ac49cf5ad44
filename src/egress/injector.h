// Asks warden for what goes into the headers of requests to one host, and compares the answer with the
// manifest's bindings: what was not declared is not used, what was declared and is not granted is a refusal
// (fail closed).
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "base/loop.h"
#include "egress/async.h"
#include "egress/policy.h"
#include "egress/secret_text.h"
#include "egress/turns.h"

namespace nullbox::egress {

struct Injected {
    std::string header;
    SecretText value;  // "Bearer <the secret>"
    SecretText secret; // to be found in what comes back
    std::string placeholder;
};

struct InjectionRefusal {
    unsigned status = 503; // of HTTP
    std::string reason;    // what, and what to do about it; no secret in it
};

class Injector {
public:
    Injector(Loop& loop, std::string warden_socket);
    using Answer = std::expected<std::vector<Injected>, InjectionRefusal>;
    // bindings: of this host, not empty; they must outlive the task.
    Task<Answer> ask(std::string agent, HostName host, std::vector<const Binding*> bindings);

private:
    Loop& loop_;
    std::string socket_;
    std::shared_ptr<Turns> turns_;
};

} // namespace nullbox::egress

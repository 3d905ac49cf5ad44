// Asks warden for what goes into the headers of requests to one host, and compares the answer with the
// manifest's bindings: what was not declared is not used, what was declared and is not granted is a refusal
// (fail closed).
#pragma once

#include <expected>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "egress/policy.h"
#include "egress/scrubber.h"
#include "egress/secret_text.h"
#include "egress/task.h"
#include "egress/turns.h"

namespace nullbox::egress {

struct Injected {
    std::string header;
    SecretText value;  // "Bearer <the secret>"
    SecretText secret; // to be found in what comes back
    std::string placeholder;
    bool operator==(const Injected&) const = default;
};

// What goes into the requests of one agent to one host, and what is taken out of their answers. All
// connections that use the same hold one.
struct Injection {
    std::vector<Injected> items;
    SecretForms forms;
};

struct InjectionRefusal {
    unsigned status = 503; // of HTTP
    std::string reason;    // what, and what to do about it; no secret in it
};

class Injector {
public:
    Injector(Loop& loop, std::string warden_socket);
    using Answer = std::expected<std::shared_ptr<const Injection>, InjectionRefusal>;
    // bindings: of this host, not empty; they must outlive the task.
    Task<Answer> ask(std::string agent, HostName host, std::vector<const Binding*> bindings);

private:
    Loop& loop_;
    std::string socket_;
    std::shared_ptr<Turns> turns_;
    // The last one of each agent and host, as long as a connection holds it.
    using Known = std::map<std::pair<std::string, HostName>, std::weak_ptr<const Injection>>;
    std::shared_ptr<Known> known_ = std::make_shared<Known>();
};

} // namespace nullbox::egress

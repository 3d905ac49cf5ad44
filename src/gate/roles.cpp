#include "gate/roles.h"

#include <algorithm>

namespace nullbox::gate {

constexpr std::string_view kNulld = "io.nullbox.nulld", kCage = "io.nullbox.cage",
                           kEgress = "io.nullbox.egress", kWarden = "io.nullbox.warden",
                           kCtxgraph = "io.nullbox.ctxgraph", kGate = "io.nullbox.gate";
using enum Role;
// An agent may take its time to start or end, and the key of a vault is slow on purpose.
constexpr std::chrono::seconds kSlow{150};

constexpr Rule kRules[] = {
    {.interface = kGate, .method = "Status", .least = Reader},
    {.interface = kGate, .method = "WhoAmI", .least = Reader, .names_operator = true},

    {.interface = kNulld, .method = "Status", .least = Reader},
    {.interface = kNulld, .method = "Logs", .least = Reader, .stream = true},
    {.interface = kNulld, .method = "StartService", .least = Admin},
    {.interface = kNulld, .method = "StopService", .least = Admin},
    {.interface = kNulld, .method = "RestartService", .least = Admin},
    {.interface = kNulld, .method = "Reboot", .least = Admin},
    {.interface = kNulld, .method = "PowerOff", .least = Admin},
    {.interface = kNulld, .method = "Halt", .least = Admin},

    {.interface = kCage, .method = "List", .least = Reader},
    {.interface = kCage, .method = "Status", .least = Reader},
    {.interface = kCage, .method = "Inspect", .least = Reader},
    {.interface = kCage, .method = "Logs", .least = Reader, .stream = true},
    {.interface = kCage, .method = "ListImages", .least = Reader},
    {.interface = kCage, .method = "Start", .least = Operator, .limit = kSlow},
    {.interface = kCage, .method = "Stop", .least = Operator, .limit = kSlow},
    {.interface = kCage, .method = "Restart", .least = Operator, .limit = kSlow},
    {.interface = kCage, .method = "Pause", .least = Operator},
    {.interface = kCage, .method = "Resume", .least = Operator},
    {.interface = kCage, .method = "Reload", .least = Admin},
    {.interface = kCage, .method = "Remove", .least = Admin, .limit = kSlow},
    {.interface = kCage, .method = "RemoveImage", .least = Admin},

    {.interface = kEgress, .method = "Status", .least = Reader},
    {.interface = kEgress, .method = "Denials", .least = Reader, .stream = true},
    {.interface = kEgress, .method = "Records", .least = Reader, .stream = true},
    {.interface = kEgress, .method = "Explain", .least = Reader},

    {.interface = kWarden, .method = "State", .least = Reader},
    {.interface = kWarden, .method = "Watch", .least = Reader, .stream = true},
    {.interface = kWarden, .method = "List", .least = Reader},
    {.interface = kWarden, .method = "Grants", .least = Reader},
    {.interface = kWarden, .method = "Uses", .least = Reader, .stream = true},
    {.interface = kWarden, .method = "Unlock", .least = Operator, .limit = kSlow},
    {.interface = kWarden, .method = "Lock", .least = Operator},
    {.interface = kWarden, .method = "Init", .least = Admin, .limit = kSlow},
    {.interface = kWarden, .method = "ChangePassphrase", .least = Admin, .limit = kSlow},
    {.interface = kWarden, .method = "Set", .least = Admin},
    {.interface = kWarden, .method = "Delete", .least = Admin},
    {.interface = kWarden, .method = "Grant", .least = Admin},
    {.interface = kWarden, .method = "Revoke", .least = Admin},

    {.interface = kCtxgraph, .method = "Status", .least = Reader},
    {.interface = kCtxgraph, .method = "Namespaces", .least = Reader},
    {.interface = kCtxgraph, .method = "Get", .least = Reader},
    {.interface = kCtxgraph, .method = "Query", .least = Reader},
    {.interface = kCtxgraph, .method = "History", .least = Reader},
    {.interface = kCtxgraph, .method = "Search", .least = Reader},
    {.interface = kCtxgraph, .method = "Watch", .least = Reader, .stream = true},
    {.interface = kCtxgraph, .method = "Put", .least = Operator, .names_operator = true},
};

constexpr Internal kInternal[] = {
    {.interface = kEgress, .method = "Attach", .caller = "cage"},
    {.interface = kEgress, .method = "Update", .caller = "cage"},
    {.interface = kEgress, .method = "Detach", .caller = "cage"},
    {.interface = kEgress, .method = "Update", .caller = "cage"},
    {.interface = kWarden, .method = "Injection", .caller = "egress"},
    {.interface = kWarden, .method = "Exposed", .caller = "cage"},
    {.interface = kCtxgraph, .method = "Serve", .caller = "cage"},
    {.interface = kCage, .method = "BeginUpload", .caller = "gate, for /v1/upload"},
    {.interface = kCage, .method = "CommitUpload", .caller = "gate, for /v1/upload"},
    {.interface = kCage, .method = "AbortUpload", .caller = "gate, for /v1/upload"},
    {.interface = kCage, .method = "Exec", .caller = "gate, for /v1/exec"},
    {.interface = kCage, .method = "Copy", .caller = "gate, for /v1/copy"},
};

std::string_view role_name(Role role) {
    switch (role) {
    case Reader:
        return "reader";
    case Operator:
        return "operator";
    case Admin:
        return "admin";
    }
    return "?";
}

std::optional<Role> role_of(std::string_view name) {
    for (auto role : {Reader, Operator, Admin})
        if (role_name(role) == name) return role;
    return std::nullopt;
}

std::span<const Rule> rules() { return kRules; }

const Rule* find_rule(std::string_view interface, std::string_view method) {
    auto found = std::ranges::find_if(
        kRules, [&](const Rule& rule) { return rule.interface == interface && rule.method == method; });
    return found == std::end(kRules) ? nullptr : found;
}

std::span<const Internal> internal_methods() { return kInternal; }

} // namespace nullbox::gate

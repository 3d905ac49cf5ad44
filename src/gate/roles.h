// What may be asked through the door, and by whom: one table. A method that is not in it does not exist out
// there. docs/api.md explains it; a test holds it against every .varlink file.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string_view>

namespace nullbox::gate {

enum class Role { Reader, Operator, Admin }; // each may what those before it may
std::string_view role_name(Role role);
std::optional<Role> role_of(std::string_view name);

struct Rule {
    std::string_view interface, method;
    Role least;
    bool stream = false;         // may answer more than once
    bool names_operator = false; // gate fills in the parameter "operator"
    std::chrono::seconds limit{30};
};

std::span<const Rule> rules();
const Rule* find_rule(std::string_view interface, std::string_view method);

// Methods that services have for each other only, with the service that calls them.
struct Internal {
    std::string_view interface, method, caller;
};
std::span<const Internal> internal_methods();

// Whoever deploys decides what an agent may do.
constexpr Role kUploadRole = Role::Admin;
constexpr std::string_view kUploadKinds[] = {"image", "app", "manifest"};

// Whoever may start and stop an agent may run commands in it and copy files out and in.
constexpr Role kExecRole = Role::Operator;
constexpr std::string_view kExecProtocol = "nullbox-exec"; // of Upgrade

} // namespace nullbox::gate

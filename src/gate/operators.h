// Who may come in: the operators of the machine configuration (manifest/machine.h), by public key. The file
// is read again when it changes. If it cannot be read, nobody may come in.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "gate/roles.h"

namespace nullbox::gate {

struct Operator {
    std::string name;
    Role role = Role::Reader;
    std::string public_key; // SubjectPublicKeyInfo, DER
    bool operator==(const Operator&) const = default;
};

class Operators {
public:
    explicit Operators(std::string path) : path_(std::move(path)) { refresh(); }
    // True if anything has changed since.
    bool refresh();
    const Operator* find(std::string_view public_key) const;
    const Operator* named(std::string_view name) const;
    const std::vector<Operator>& all() const { return all_; }
    const std::vector<std::string>& problems() const { return problems_; }
    uint16_t port() const { return port_; } // gate.port of the same file; taken at the start only

private:
    struct Version {
        int64_t seconds = 0, nanoseconds = 0, bytes = -1;
        uint64_t inode = 0;
        bool operator==(const Version&) const = default;
    };
    void read();
    std::string path_;
    Version version_;
    bool read_once_ = false;
    uint16_t port_ = 0;
    std::vector<Operator> all_;
    std::vector<std::string> problems_;
};

} // namespace nullbox::gate

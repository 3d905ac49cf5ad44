// The machine configuration: hostname, operators, network, time. Several documents are laid over each other,
// later wins key by key: baked in, data partition, QEMU fw_cfg or SMBIOS, kernel command line
// (nullbox.KEY=VALUE).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "manifest/diagnostic.h"

namespace nullbox::manifest {

// Somebody who may come in through gate, by the key of their client certificate.
struct Operator {
    std::string name;       // LDH lower case, 1..32
    std::string public_key; // base64 of the DER SubjectPublicKeyInfo (RFC 5280 4.1.2.7)
    std::string role;       // "admin", "operator" or "reader"
    bool operator==(const Operator&) const = default;
};

struct MachineConfig {
    std::optional<std::string> hostname; // RFC 1123 label or name
    std::vector<std::string> time_servers;
    std::vector<std::string> dns_servers; // addresses; checked as IPv4 or IPv6 literals
    uint16_t vlan = 0;                    // [network] vlan = 5, 0..4094; 0: none
    // [network] address = "192.0.2.7/24", gateway = "192.0.2.1", or dhcp = true (default)
    bool dhcp = true;
    std::optional<std::string> address, gateway;
    // The same for IPv6: address6 = "2001:db8::7/64", gateway6 = "fe80::1", or router_advertisements = true
    // (default; RFC 4861, RFC 4862).
    bool router_advertisements = true;
    std::optional<std::string> address6, gateway6;
    // [hosts] NAME = ADDRESS: known without DNS; at most 64, by name
    std::map<std::string, std::string> hosts;
    // PEM certificates that servers may be signed by, besides the image's; empty: none. Replaced as a whole
    std::string certificate_authorities;
    std::vector<Operator> operators; // [operators.NAME], at most 64, by name
    uint16_t gate_port = 8443;       // [gate] port
    std::vector<Diagnostic> diagnostics;
};

// A wrong key is reported and keeps its earlier value; the rest of the document counts.
void apply_machine_document(MachineConfig& config, std::string_view text, std::string_view file_name);
// Words "nullbox.KEY=VALUE", lists with commas; other words are not ours. source: what messages call it.
void apply_kernel_command_line(MachineConfig& config, std::string_view command_line,
                               std::string_view source = "kernel command line");
// A document from which apply_machine_document reads the same configuration back, diagnostics apart.
std::string to_toml(const MachineConfig& config);

} // namespace nullbox::manifest

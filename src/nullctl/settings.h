// What nullctl keeps on the operator's machine, in $NULLCTL_CONFIG or ${XDG_CONFIG_HOME:-~/.config}/nullctl:
// key.pem (0600, the operator's private key) and boxes.toml (the boxes, and the fingerprint of each).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "net/identity.h"

namespace nullbox::nullctl {

struct KnownBox {
    std::string name, host;
    uint16_t port = 8443;
    std::string fingerprint; // "sha256:" and 64 hexadecimal digits
};

class Settings {
public:
    // The folder need not exist yet.
    static Result<std::string> default_folder();
    static Result<Settings> load(const std::string& folder);

    const std::vector<KnownBox>& boxes() const { return boxes_; }
    // By name; without one, the only box there is.
    Result<KnownBox> box(std::string_view name) const;
    Result<> put(KnownBox box); // replaces one of the same name
    Result<> remove(std::string_view name);

    Result<net::Identity> key() const;
    // Makes the key if there is none; never replaces one.
    Result<net::Identity> key_or_new();
    const std::string& folder() const { return folder_; }

private:
    Result<> save() const;
    std::string folder_;
    std::vector<KnownBox> boxes_;
};

// "box1", "192.0.2.7:8443", "[2001:db8::7]:8443".
Result<KnownBox> parse_address(std::string_view text);
bool is_fingerprint(std::string_view text);

} // namespace nullbox::nullctl

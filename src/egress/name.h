// A host name that has been checked and brought to one form: lower case, letters, digits, '-' and dots, no
// dot at its end, no NUL, not one that reads as an address (RFC 1123, RFC 952; international names as xn--).
//
// Invariant: a HostName is always in that form, so two of them are the same host if they are equal. Every
// name that egress sees (manifest, DNS, SNI, Host) goes through parse() once and is compared only as a
// HostName.
#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "base/error.h"

namespace nullbox::egress {

class HostName {
public:
    // Upper case is lowered and one dot at the end taken away; all else that is not the form is refused.
    static Result<HostName> parse(std::string_view text);
    const std::string& text() const { return text_; }
    // One label or more below the suffix: a.b.example.org is below example.org, which is not below itself.
    bool below(const HostName& suffix) const;
    auto operator<=>(const HostName&) const = default;

private:
    explicit HostName(std::string text) : text_(std::move(text)) {}
    std::string text_;
};

} // namespace nullbox::egress

// Base64 (RFC 4648): the standard alphabet as it arrives from warden, the URL one for placeholders. Pure.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace nullbox::cage {

// With its padding and nothing else in it; nothing when it is not that.
std::optional<std::string> from_base64(std::string_view text);
std::string to_base64url(std::span<const std::byte> bytes); // without padding

} // namespace nullbox::cage

// Forms of texts in configuration: names, paths, addresses. Each function returns an empty text when its
// argument is right, else what is right, to be read after the key ("must be ..."). Pure.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace nullbox::manifest {

// Lower-case letters, digits, '-' inside. Length is the rule's business.
std::string wrong_name(std::string_view text);
// Printable, no control characters, valid UTF-8.
std::string wrong_line(std::string_view text);
// Anything but NUL (arguments, values of environment variables).
std::string wrong_argument(std::string_view text);
std::string wrong_environment_name(std::string_view text);
// Absolute, no "//", no "." or ".." part, no "/" at the end ("/" itself is right), no control characters.
std::string wrong_path(std::string_view text);
std::string wrong_device_path(std::string_view text);
std::string wrong_capability(std::string_view text);
std::string wrong_namespace(std::string_view text);
// "openat" or "@basic"; whether it exists is the sandbox library's knowledge.
std::string wrong_syscall(std::string_view text);

// An IPv4 or IPv6 literal in canonical form.
std::string wrong_address(std::string_view text);
bool is_ipv6(std::string_view address); // of a right address
// RFC 1123 host name, lower case, at most 253 bytes; not one that reads as an IPv4 address.
std::string wrong_host_name(std::string_view text);
// What a manifest may name as a network destination: host, *.suffix, host:port, address:port.
std::string wrong_network_destination(std::string_view text);

// Of a secret: letters, digits, '_', '-', '.'. Length is the rule's business.
std::string wrong_secret_name(std::string_view text);
// A request header a secret may stand in: a token (RFC 9110 5.6.2), none of those that frame or route a
// request.
std::string wrong_secret_header(std::string_view text);
// What a header becomes: printable ASCII, with "{secret}" in it exactly once.
std::string wrong_secret_format(std::string_view text);
constexpr std::string_view kSecretMark = "{secret}";

} // namespace nullbox::manifest

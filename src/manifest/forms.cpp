#include "manifest/forms.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <netinet/in.h>
#include <vector>

#include "base/capability_names.h"
#include "base/text.h"

namespace nullbox::manifest {

constexpr std::array kNamespaces = {"mount", "net", "ipc", "uts", "pid", "cgroup", "user"};
// A secret in one of these would break the request apart, or send it elsewhere.
constexpr std::array kFramingHeaders = {
    "connection", "content-length", "expect",   "host",    "keep-alive",        "proxy-connection",
    "te",         "trailer",        "trailers", "upgrade", "transfer-encoding",
};
constexpr size_t kMostLabelBytes = 63;
constexpr size_t kMostHostNameBytes = 253;

static bool lower(char c) { return c >= 'a' && c <= 'z'; }
static bool upper(char c) { return c >= 'A' && c <= 'Z'; }
static bool digit(char c) { return c >= '0' && c <= '9'; }
static bool only(std::string_view text, bool (*allowed)(char)) { return std::ranges::all_of(text, allowed); }

static std::string shown(std::string_view text) { return cat("\"", printable(text, 80), "\""); }

static bool is_label(std::string_view text) {
    return !text.empty() && text.front() != '-' && text.back() != '-' &&
           only(text, [](char c) { return lower(c) || digit(c) || c == '-'; });
}

std::string wrong_name(std::string_view text) {
    if (is_label(text)) return {};
    return cat("must be of lower-case letters, digits and '-' (not at its ends), is ", shown(text));
}

std::string wrong_line(std::string_view text) {
    if (printable(text, text.size()) == text && !text.contains('\t')) return {};
    return "must be printable characters in one line";
}

std::string wrong_argument(std::string_view text) {
    if (!text.contains('\0')) return {};
    return "must not contain a NUL character";
}

std::string wrong_environment_name(std::string_view text) {
    auto allowed = [](char c) { return lower(c) || upper(c) || digit(c) || c == '_'; };
    if (!text.empty() && !digit(text[0]) && only(text, allowed)) return {};
    return cat("must be a variable's name: letters, digits and '_', no digit first; is ", shown(text));
}

std::string wrong_path(std::string_view text) {
    if (!text.starts_with('/')) return cat("must be an absolute path, is ", shown(text));
    if (!wrong_line(text).empty()) return "must be a path of printable characters";
    if (text == "/") return {};
    for (auto part : split(text.substr(1), '/'))
        if (part.empty() || part == "." || part == "..")
            return cat("must be a path without \"//\", \".\" or \"..\" and no \"/\" at its end, is ",
                       shown(text));
    return {};
}

std::string wrong_device_path(std::string_view text) {
    if (auto wrong = wrong_path(text); !wrong.empty()) return wrong;
    if (text.starts_with("/dev/")) return {};
    return cat("must be a path below /dev, is ", shown(text));
}

template <size_t N>
static std::string wrong_member(std::string_view text, const std::array<const char*, N>& known,
                                std::string_view what) {
    std::vector<std::string_view> names(known.begin(), known.end());
    if (std::ranges::find(names, text) != names.end()) return {};
    auto near = closest(text, names);
    std::string hint = near.empty() ? std::string() : cat("; did you mean \"", near, "\"?");
    return cat("must be ", what, ", is ", shown(text), hint);
}

std::string wrong_capability(std::string_view text) {
    return wrong_member(text, kCapabilityNames, "a capability such as \"CAP_NET_ADMIN\"");
}

std::string wrong_namespace(std::string_view text) {
    return wrong_member(text, kNamespaces,
                        "one of \"mount\", \"net\", \"ipc\", \"uts\", \"pid\", \"cgroup\", \"user\"");
}

std::string wrong_syscall(std::string_view text) {
    auto name = text.starts_with('@') ? text.substr(1) : text;
    auto allowed = [](char c) { return lower(c) || digit(c) || c == '_' || c == '-'; };
    if (!name.empty() && lower(name[0]) && only(name, allowed)) return {};
    if (!name.empty() && name[0] == '_' && only(name, allowed)) return {}; // _sysctl
    return cat("must be the name of a system call or a group such as \"@basic\", is ", shown(text));
}

bool is_ipv6(std::string_view address) { return address.contains(':'); }

// The canonical text of an address, empty if it is none. inet_pton knows no zone ids ("%eth0") and no
// shortened IPv4 ("10.1"), which is what we want.
static std::string canonical_address(std::string_view text) {
    int family = is_ipv6(text) ? AF_INET6 : AF_INET;
    in6_addr bytes{};
    char out[INET6_ADDRSTRLEN];
    // inet_pton takes a C string: a NUL inside would cut it short and hide the rest.
    if (text.contains('\0') || ::inet_pton(family, std::string(text).c_str(), &bytes) != 1) return {};
    // ::ffff:192.0.2.1 is an IPv4 address in disguise; a filter for one family would miss it.
    if (family == AF_INET6 && (IN6_IS_ADDR_V4MAPPED(&bytes) || IN6_IS_ADDR_V4COMPAT(&bytes))) return {};
    return ::inet_ntop(family, &bytes, out, sizeof out) ? out : std::string();
}

std::string wrong_address(std::string_view text) {
    auto canonical = canonical_address(text);
    if (canonical.empty())
        return cat("must be an IPv4 or IPv6 address such as \"192.0.2.7\" or \"2001:db8::7\", is ",
                   shown(text));
    if (canonical != text) return cat("must be written in the usual short form, \"", canonical, "\"");
    return {};
}

static std::string wrong_label(std::string_view label, std::string_view text) {
    if (label.empty()) return cat("has an empty label (two dots, or one at an end): ", shown(text));
    if (label.size() > kMostLabelBytes)
        return cat("has a label of ", label.size(), " bytes; at most ", kMostLabelBytes, " are allowed");
    if (std::ranges::any_of(label, upper)) return cat("must be in lower case, is ", shown(text));
    if (std::ranges::any_of(label, [](char c) { return static_cast<unsigned char>(c) >= 0x80; }))
        return cat("must be ASCII; write an international name in its \"xn--\" form, is ", shown(text));
    if (!is_label(label))
        return cat("must be of lower-case letters, digits, '-' (not at a label's ends) and dots, is ",
                   shown(text));
    return {};
}

// A name that ends in a number is an address to many resolvers (127.1, 0x7f.1), whatever DNS says.
static bool reads_as_number(std::string_view label) {
    if (only(label, digit)) return true;
    return label.starts_with("0x") &&
           only(label.substr(2), [](char c) { return digit(c) || (c >= 'a' && c <= 'f'); });
}

std::string wrong_host_name(std::string_view text) {
    if (text.size() > kMostHostNameBytes)
        return cat("must be at most ", kMostHostNameBytes, " bytes long, is ", text.size());
    if (text.size() > 1 && text.ends_with('.') && wrong_host_name(text.substr(0, text.size() - 1)).empty())
        return cat("must be written without the dot at its end, is ", shown(text));
    auto labels = split(text, '.');
    for (auto label : labels)
        if (auto wrong = wrong_label(label, text); !wrong.empty()) return wrong;
    if (reads_as_number(labels.back()))
        return cat("must not end in a number (it would be read as an address), is ", shown(text));
    return {};
}

static bool is_port(std::string_view text) {
    return !text.starts_with('0') && !text.starts_with('-') && parse_number(text, 1, 65535).has_value();
}

static std::string wrong_port(std::string_view port, std::string_view text) {
    if (is_port(port)) return {};
    return cat("must have a port from 1 to 65535 after ':', is ", shown(text));
}

static std::string wrong_ipv6_destination(std::string_view text) {
    size_t end = text.find(']');
    if (end == std::string_view::npos || !text.substr(end + 1).starts_with(':'))
        return cat("must be an IPv6 address in brackets with a port, such as \"[2001:db8::7]:443\", is ",
                   shown(text));
    auto address = text.substr(1, end - 1);
    if (!is_ipv6(address)) return cat("must have an IPv6 address in its brackets, is ", shown(text));
    if (auto wrong = wrong_address(address); !wrong.empty()) return wrong;
    return wrong_port(text.substr(end + 2), text);
}

// What people paste from a browser; empty if it is something else.
static std::string wrong_url(std::string_view text) {
    auto host = text;
    if (size_t scheme = host.find("://"); scheme != std::string_view::npos) host.remove_prefix(scheme + 3);
    host = host.substr(0, host.find_first_of("/?#"));
    if (size_t user = host.find('@'); user != std::string_view::npos) host.remove_prefix(user + 1);
    if (host == text) return {};
    auto example = wrong_network_destination(host).empty() ? host : std::string_view("api.example.org");
    return cat("must be a name without scheme, user and path; write ", example, ", not ",
               printable(text, 80));
}

std::string wrong_network_destination(std::string_view text) {
    if (text.contains('\0')) return "must not contain a NUL character";
    if (auto wrong = wrong_url(text); !wrong.empty()) return wrong;
    if (text.starts_with('[')) return wrong_ipv6_destination(text);
    auto canonical = canonical_address(text);
    if (!canonical.empty())
        return is_ipv6(text) ? cat("must be in brackets with a port, such as \"[", canonical, "]:443\"")
                             : cat("must have a port, such as \"", canonical, ":443\"");
    auto host = text;
    if (size_t colon = text.find(':'); colon != std::string_view::npos) {
        host = text.substr(0, colon);
        if (auto wrong = wrong_port(text.substr(colon + 1), text); !wrong.empty()) return wrong;
        if (!canonical_address(host).empty()) return {}; // IPv4 literal
    }
    if (!host.starts_with("*.")) {
        if (host.contains('*'))
            return cat("must have '*' only as a whole first label, such as \"*.example.org\", is ",
                       shown(text));
        return wrong_host_name(host);
    }
    auto suffix = host.substr(2);
    if (auto wrong = wrong_host_name(suffix); !wrong.empty()) return wrong;
    // "*.org" would allow half the world, which nobody means.
    if (!suffix.contains('.'))
        return cat("must have at least two labels after \"*.\", such as \"*.example.org\", is ", shown(text));
    if (host.size() > kMostHostNameBytes)
        return cat("must be at most ", kMostHostNameBytes, " bytes long, is ", host.size());
    return {};
}

std::string wrong_secret_name(std::string_view text) {
    auto allowed = [](char c) {
        return lower(c) || upper(c) || digit(c) || c == '_' || c == '-' || c == '.';
    };
    if (!text.empty() && only(text, allowed)) return {};
    return cat("must be the name of a secret: letters, digits, '_', '-' and '.', is ", shown(text));
}

std::string wrong_secret_header(std::string_view text) {
    auto token = [](char c) {
        return lower(c) || upper(c) || digit(c) || std::string_view("!#$%&'*+-.^_`|~").contains(c);
    };
    if (text.empty() || !only(text, token))
        return cat("must be the name of a request header, such as \"Authorization\", is ", shown(text));
    std::string name(text);
    for (char& c : name)
        if (upper(c)) c = static_cast<char>(c - 'A' + 'a');
    if (std::ranges::find(kFramingHeaders, name) == kFramingHeaders.end()) return {};
    return cat("must not be ", shown(text), ", which says how the request is sent and not who sends it");
}

std::string wrong_secret_format(std::string_view text) {
    size_t mark = text.find(kSecretMark);
    bool once = mark != std::string_view::npos && mark == text.rfind(kSecretMark);
    if (once && only(text, [](char c) { return c >= ' ' && c < 0x7f; })) return {};
    return cat("must be printable ASCII with \"", kSecretMark, "\" in it once, such as \"Bearer ",
               kSecretMark, "\", is ", shown(text));
}

} // namespace nullbox::manifest

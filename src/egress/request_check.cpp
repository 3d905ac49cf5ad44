#include "egress/request_check.h"

#include <algorithm>

#include "base/text.h"

namespace nullbox::egress::http {

static uint16_t default_port(bool tls) { return tls ? 443 : 80; }

// "host" or "host:port" names this host and port.
static bool names_host(std::string_view authority, const HostName& host, uint16_t port, bool tls) {
    auto name = authority;
    int64_t its_port = default_port(tls);
    if (size_t colon = authority.find(':'); colon != std::string_view::npos) {
        name = authority.substr(0, colon);
        its_port = parse_number(authority.substr(colon + 1), 1, 65535).value_or(0);
    } else {
        its_port = port; // nobody names a port by leaving it out
    }
    auto parsed = HostName::parse(name);
    return parsed && *parsed == host && its_port == port;
}

// The target in origin-form ("/path"), or why it is none.
static Result<std::string> origin_form(const RequestHead& head, const HostName& host, uint16_t port,
                                       bool tls) {
    if (head.target.starts_with('/')) return head.target;
    if (head.target == "*" && head.method == "OPTIONS") return head.target;
    size_t scheme = head.target.find("://");
    if (scheme == std::string::npos ||
        !same_name(std::string_view(head.target).substr(0, scheme), tls ? "https" : "http"))
        return error("the request's target is neither a path nor a URL of this connection's kind");
    auto rest = std::string_view(head.target).substr(scheme + 3);
    size_t path = std::min(rest.find_first_of("/?#"), rest.size());
    if (!names_host(rest.substr(0, path), host, port, tls))
        return error(cat("the request's URL is of another host than this connection's, ", host.text()));
    return rest.substr(path).starts_with('/') ? std::string(rest.substr(path)) : cat("/", rest.substr(path));
}

bool is_websocket(const RequestHead& head) {
    return head.method == "GET" && head.minor == 1 && head.fields.has_token("Connection", "upgrade") &&
           head.fields.has_token("Upgrade", "websocket") && head.framing.kind == Framing::Kind::None;
}

static void remove_hop_by_hop(RequestHead& head, bool websocket) {
    // What Connection names is for us only, whatever it is.
    for (const auto& named : head.fields.tokens("Connection")) head.fields.remove(named);
    for (auto name : {"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "TE", "Trailer",
                      "Upgrade", "HTTP2-Settings", "Expect", "Host", "Alt-Used"})
        head.fields.remove(name);
    if (!websocket) return;
    head.fields.add("Connection", "Upgrade");
    head.fields.add("Upgrade", "websocket");
}

std::expected<RequestHead, RequestRefusal> check_request(RequestHead head, const HostName& host,
                                                         uint16_t port, bool tls) {
    auto refuse = [](unsigned status, std::string reason) {
        return std::unexpected(RequestRefusal{status, std::move(reason)});
    };
    if (head.method == "CONNECT")
        return refuse(405, "CONNECT would open a tunnel to anywhere; connect to the host itself");
    // It answers with the request's own header lines.
    if (head.method == "TRACE") return refuse(405, "TRACE is not passed on");
    if (head.fields.count("Host") != 1) return refuse(400, "a request names its Host once");
    auto named = *head.fields.find("Host");
    if (!names_host(named, host, port, tls))
        return refuse(403, cat("the request's Host \"", printable(named, 80), "\" is not ", host.text(),
                               ", to which this connection goes"));
    auto target = origin_form(head, host, port, tls);
    if (!target) return refuse(403, target.error().message);
    if (head.fields.find("Expect") && !same_name(*head.fields.find("Expect"), "100-continue"))
        return refuse(417, "the only expectation is 100-continue");
    auto framing = head.framing;
    remove_hop_by_hop(head, is_websocket(head));
    // Connection may not take the length away either.
    head.fields.remove("Content-Length");
    head.fields.remove("Transfer-Encoding");
    if (framing.kind == Framing::Kind::Length) head.fields.add("Content-Length", cat(framing.length));
    if (framing.kind == Framing::Kind::Chunked) head.fields.add("Transfer-Encoding", "chunked");
    head.fields.all().insert(
        head.fields.all().begin(),
        Field{"Host", port == default_port(tls) ? host.text() : cat(host.text(), ":", port)});
    head.target = *std::move(target);
    head.minor = 1;
    return head;
}

} // namespace nullbox::egress::http

#include "ctxgraph/guest_api.h"

#include <algorithm>

#include "base/text.h"
#include "ctxgraph/wire.h"

namespace nullbox::ctxgraph {

static bool same_name(std::string_view left, std::string_view right) {
    auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; };
    return std::ranges::equal(left, right, {}, lower, lower);
}

std::optional<std::string_view> Request::header(std::string_view name) const {
    for (const auto& [each, value] : headers)
        if (same_name(each, name)) return value;
    return std::nullopt;
}

size_t Request::count(std::string_view name) const {
    return static_cast<size_t>(
        std::ranges::count_if(headers, [&](const auto& header) { return same_name(header.first, name); }));
}

// The guest's own loopback, where agent-init listens. Another name means that somebody's DNS points there.
static bool is_loopback(std::string_view host) {
    auto colon = host.rfind(':');
    if (colon != std::string_view::npos && !host.ends_with(']')) {
        if (!parse_number(host.substr(colon + 1), 1, 65535)) return false;
        host = host.substr(0, colon);
    }
    return same_name(host, "localhost") || host == "127.0.0.1" || host == "[::1]";
}

void answer(Memory& memory, const Access& access, const Request& request, Respond respond) {
    if (request.count("Host") != 1 || !is_loopback(*request.header("Host")))
        return respond(
            refusal(403, "wrong_host", "the Host of a request must be 127.0.0.1:9100 or localhost:9100"));
    // Only browsers send it: a page that a guest's browser shows has no business here (DNS rebinding).
    if (request.count("Origin") != 0)
        return respond(refusal(403, "wrong_origin", "requests of web pages are refused (Origin)"));
    auto path = std::string_view(request.target).substr(0, request.target.find('?'));
    if (path == "/mcp") return answer_mcp(memory, access, request, std::move(respond));
    answer_rest(memory, access, request, std::move(respond));
}

} // namespace nullbox::ctxgraph

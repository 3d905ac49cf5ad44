// HTTP/1.x from an agent and from servers. A request that passes the check is one that every reader reads
// alike: written out and read again it is the same, its Host is the connection's, and its length is said
// once.
#include <string>

#include "base/check.h"
#include "egress/http_body.h"
#include "egress/request_check.h"

using namespace nullbox::egress;
using namespace nullbox::egress::http;

static void read_body(const Framing& framing, std::string_view stream) {
    BodyReader reader(framing);
    size_t content = 0;
    while (!reader.done()) {
        auto piece = reader.next(stream);
        if (!piece || piece->taken == 0) break;
        CHECK(piece->taken <= stream.size() && piece->content.size() <= piece->taken);
        content += piece->content.size();
        stream.remove_prefix(piece->taken);
    }
    if (reader.done() && framing.kind == Framing::Kind::Length) CHECK(content == framing.length);
}

static void check(const RequestHead& head) {
    static const HostName kHost = *HostName::parse("api.example.org");
    for (bool tls : {false, true}) {
        auto checked = check_request(head, kHost, tls ? 443 : 80, tls);
        if (!checked) continue;
        auto again = parse_request(encode(*checked));
        CHECK(again);
        CHECK(again->framing == head.framing);
        CHECK(again->fields.count("Host") == 1 && *again->fields.find("Host") == kHost.text());
        CHECK(again->fields.count("Content-Length") + again->fields.count("Transfer-Encoding") <= 1);
        CHECK(again->target.starts_with('/') || again->target == "*");
        CHECK(check_request(*again, kHost, tls ? 443 : 80, tls));
    }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view bytes(reinterpret_cast<const char*>(data), size);
    auto end = head_end(bytes);
    if (!end) return 0;
    auto rest = bytes.substr(*end);
    if (auto head = parse_request(bytes.substr(0, *end))) {
        check(*head);
        read_body(head->framing, rest);
    }
    if (auto head = parse_response(bytes.substr(0, *end)))
        if (auto framing = head->framing("GET")) read_body(*framing, rest);
    return 0;
}

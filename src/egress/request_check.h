// Whether one HTTP request may go to the host that its connection was made to. Pure; asked for every request,
// not only for a connection's first.
#pragma once

#include "egress/http_head.h"
#include "egress/name.h"

namespace nullbox::egress::http {

struct RequestRefusal {
    unsigned status = 400;
    std::string reason;
};

// host, port: where the connection goes. tls: the agent spoke TLS to us. The answer is the request as it may
// go on: origin-form target, its Host ours, nothing that is only for one hop.
std::expected<RequestHead, RequestRefusal> check_request(RequestHead head, const HostName& host,
                                                         uint16_t port, bool tls);

bool is_websocket(const RequestHead& head);

} // namespace nullbox::egress::http

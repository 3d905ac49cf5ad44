// What guests may ask over HTTP: the JSON API under /v1 (docs/ctxgraph.md) and the Model Context Protocol at
// /mcp. Everything in a Request is guest-controlled; who asks is not in it but in Access. No I/O here.
#pragma once

#include "ctxgraph/http_target.h"
#include "ctxgraph/memory.h"

namespace nullbox::ctxgraph {

struct Request {
    std::string method, target, body;
    std::vector<std::pair<std::string, std::string>> headers;

    // Names without regard to case. Of several of one name, the first; count() tells.
    std::optional<std::string_view> header(std::string_view name) const;
    size_t count(std::string_view name) const;
};

// The answer is a stream of what is new (guest_server.h writes it).
struct WatchRequest {
    std::string space, prefix;
    std::optional<uint64_t> after;
};

struct Response {
    unsigned status = 200;
    std::string body; // JSON
    std::vector<std::pair<std::string, std::string>> headers;
    std::optional<WatchRequest> watch;
};

// done is called once: here, or later, when a write is on the disk.
using Respond = std::function<void(Response)>;
void answer(Memory& memory, const Access& access, const Request& request, Respond respond);

// Internal to src/ctxgraph: the two halves of answer(), which has checked Host and Origin.
void answer_rest(Memory& memory, const Access& access, const Request& request, Respond respond);
void answer_mcp(Memory& memory, const Access& access, const Request& request, Respond respond);

} // namespace nullbox::ctxgraph

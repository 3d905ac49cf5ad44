// Which requests may go to a host that the manifest has rules for: by method and path, each request by
// itself. Pure: no system call, no state.
//
// Invariant: what goes on is what was compared: the path leaves in its normal form, and a request that a
// server could take for another one (an ambiguous path, a header that replaces method or path) goes nowhere.
#pragma once

#include <string>
#include <vector>

#include "egress/http_head.h"
#include "egress/name.h"
#include "manifest/agent.h"
#include "manifest/request_path.h"

namespace nullbox::egress {

struct RequestDecision {
    bool allowed = false;
    std::string target; // as it may go on, query included
    std::string path;   // for records: printable, without the query, bounded
    std::string rule;   // that covers it: "api.example.org GET /v1/*"; empty: the host has none
    std::string reason; // of a denial, for a person
    std::string add;    // the manifest line that would allow it; empty if none would
};

class RequestRules {
public:
    static Result<RequestRules> compile(const std::vector<manifest::RequestRule>& rules);

    // Whether there are rules for this host, so that requests which none covers are refused.
    bool hold(const HostName& host, uint16_t port) const;
    // request: checked already, its target in origin-form (request_check.h).
    RequestDecision decide(const HostName& host, uint16_t port, const http::RequestHead& request) const;
    // The rules of one host, in words.
    std::vector<std::string> texts(const HostName& host, uint16_t port) const;
    bool same(const RequestRules& other, const HostName& host, uint16_t port) const;

private:
    struct Rule {
        manifest::RequestRule source;
        HostName name; // exact, or the suffix
        bool wildcard = false;
        uint16_t port = 0; // 0: every one
        std::vector<manifest::RequestPathPattern> patterns;
        bool covers(const HostName& host, uint16_t to) const;
        // The text of what covers the request, or nothing.
        std::optional<std::string> match(const std::string& method, const Result<std::string>& path) const;
    };
    static Result<Rule> compile_rule(const manifest::RequestRule& source);

    std::vector<Rule> rules_;
};

} // namespace nullbox::egress

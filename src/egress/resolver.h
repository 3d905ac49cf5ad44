// The DNS server that each agent has, on its own tap: a listed name gets the synthetic address that stands
// for it, all else gets "no such name". Nothing is ever asked upstream here, so a query carries nothing out.
#pragma once

#include <map>
#include <span>

#include "base/fd.h"
#include "egress/agents.h"
#include "egress/async.h"
#include "egress/records.h"

namespace nullbox::egress {

constexpr uint32_t kSyntheticTtl_s = 30;

// One query, answered; empty: say nothing. Counts and records what it decided. No system calls.
std::vector<std::byte> answer_query(Agent& agent, RecordBook& records, std::span<const std::byte> query,
                                    Clock::time_point now);

class Resolver {
public:
    Resolver(asio::io_context& context, RecordBook& records) : context_(context), records_(records) {}
    ~Resolver();
    // Until stop(). datagram and stream: of open_dns_datagram_socket() and open_dns_listener().
    Result<> serve(std::shared_ptr<Agent> agent, Fd datagram, Fd stream);
    void stop(const std::string& agent_name);

private:
    struct Service;
    static Task<void> serve_datagrams(std::shared_ptr<Service> service);
    static Task<void> serve_streams(std::shared_ptr<Service> service);
    static Task<void> serve_stream(std::shared_ptr<Service> service, std::shared_ptr<tcp::socket> socket);

    asio::io_context& context_;
    RecordBook& records_;
    std::map<std::string, std::shared_ptr<Service>> services_;
};

} // namespace nullbox::egress

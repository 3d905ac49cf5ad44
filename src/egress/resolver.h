// The DNS server that each agent has, on its own tap: a listed name gets the synthetic address that stands
// for it, all else gets "no such name". Nothing is ever asked upstream here, so a query carries nothing out.
#pragma once

#include <map>
#include <span>

#include "base/fd.h"
#include "egress/agents.h"
#include "egress/records.h"
#include "egress/socket.h"

namespace nullbox::egress {

constexpr uint32_t kSyntheticTtl_s = 30;

// One query, answered; empty: say nothing. Counts and records what it decided. No system calls.
std::vector<std::byte> answer_query(Agent& agent, RecordBook& records, std::span<const std::byte> query,
                                    Clock::time_point now);

class Resolver {
public:
    Resolver(Tasks& tasks, RecordBook& records) : tasks_(tasks), records_(records) {}
    ~Resolver();
    // Until stop(). datagrams and streams: of open_dns_datagram_socket() and open_dns_listener().
    Result<> serve(std::shared_ptr<Agent> agent, Fd datagrams, Fd streams);
    void stop(const std::string& agent_name);

private:
    struct Service;
    static Task<> serve_stream(std::shared_ptr<Service> service, std::shared_ptr<Socket> socket);

    Tasks& tasks_;
    RecordBook& records_;
    std::map<std::string, std::shared_ptr<Service>> services_;
};

} // namespace nullbox::egress

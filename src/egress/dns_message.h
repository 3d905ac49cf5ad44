// DNS messages (RFC 1035, EDNS RFC 6891), as much as a resolver for listed names needs: a question in, an
// answer with addresses out; and the other way round towards the upstream servers. Pure.
//
// Every byte read here is an agent's or the network's. A message is bounded, a compression pointer only goes
// backwards (so that no loop is possible), a name is at most 255 bytes, records are at most kMaxRecords.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "egress/name.h"
#include "egress/net/address.h"

namespace nullbox::egress::dns {

constexpr size_t kMaxUdpBytes = 1232; // what we announce: no fragments (DNS flag day 2020)
constexpr size_t kMaxRecords = 64;    // of one upstream answer that are looked at

constexpr uint16_t kTypeA = 1, kTypeCname = 5, kTypeAaaa = 28, kTypeOpt = 41;
constexpr uint16_t kClassIn = 1;

enum class Rcode : uint8_t { NoError = 0, FormErr = 1, ServFail = 2, NxDomain = 3, NotImp = 4, Refused = 5 };

// An agent's question.
struct Query {
    uint16_t id = 0;
    bool recursion_desired = false;
    std::vector<std::byte> question; // as it came, repeated in the answer
    std::string shown_name;          // for records, printable; guest-controlled
    std::optional<HostName> name;    // nothing: not a name that any manifest can hold
    uint16_t type = 0, klass = 0;    // guest-controlled
    bool edns = false;
    uint16_t udp_bytes = 512; // that the asker takes in one datagram, 512 to kMaxUdpBytes
};

// What is wrong with a message: whether it is answered at all, and how.
struct BadQuery {
    std::optional<uint16_t> id; // nothing: too broken to answer, or itself an answer (no loops)
    Rcode rcode = Rcode::FormErr;
};

std::expected<Query, BadQuery> parse_query(std::span<const std::byte> message);

// address: none makes an empty answer. Fits any datagram.
std::vector<std::byte> answer(const Query& query, Rcode rcode, std::optional<Ip4> address = {},
                              uint32_t ttl_s = 0);
std::vector<std::byte> answer(const BadQuery& bad); // empty: say nothing

// Towards an upstream server. `spelling` is the name in mixed case (draft-vixie-dnsext-dns0x20): an answer
// must repeat it exactly.
struct UpstreamQuestion {
    uint16_t id = 0;
    std::string spelling;
    uint16_t type = kTypeA;
};
std::vector<std::byte> encode(const UpstreamQuestion& question);

struct UpstreamAnswer {
    Rcode rcode = Rcode::NoError;
    bool truncated = false;
    std::vector<IpAddress> addresses; // of the type that was asked for, aliases followed
    uint32_t ttl_s = 0;               // the least of those on the way
};
// An error: not the answer to this question (it may be forged; wait for the right one).
Result<UpstreamAnswer> parse_answer(std::span<const std::byte> message, const UpstreamQuestion& question);

} // namespace nullbox::egress::dns

// DNS as an agent sends it and as the network answers: arbitrary bytes. What is taken for a query is
// answered, and the answer is one that a client can read; a name that is taken is in its one form.
#include "egress/dns_message.h"
#include "base/check.h"

using namespace nullbox;
using namespace nullbox::egress;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    auto bytes = std::as_bytes(std::span(data, size));
    if (auto query = dns::parse_query(bytes)) {
        CHECK(query->udp_bytes >= 512 && query->udp_bytes <= dns::kMaxUdpBytes);
        if (query->name) CHECK(HostName::parse(query->name->text())->text() == query->name->text());
        auto answer = dns::answer(*query, dns::Rcode::NoError, Ip4{0xc6120005}, 30);
        CHECK(answer.size() <= 512);
        CHECK(!dns::parse_query(answer)); // an answer is no query: no two servers talk for ever
    } else {
        CHECK(dns::answer(query.error()).size() <= 12);
    }
    dns::UpstreamQuestion question{.id = 0x0102, .spelling = "aPi.example.org", .type = dns::kTypeA};
    for (uint16_t type : {dns::kTypeA, dns::kTypeAaaa}) {
        question.type = type;
        if (auto answer = dns::parse_answer(bytes, question))
            for (const auto& address : answer->addresses) CHECK(address.v6 == (type == dns::kTypeAaaa));
    }
    return 0;
}

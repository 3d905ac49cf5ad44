#include "egress/upstream.h"

#include <algorithm>
#include <cerrno>
#include <openssl/rand.h>

#include "base/text.h"

namespace nullbox::egress {

constexpr size_t kMaxUdpAnswer = 4096;
constexpr size_t kMaxCached = 512;
constexpr uint32_t kLeastTtl_s = 5, kMostTtl_s = 300;
constexpr size_t kMaxServers = 4;
constexpr size_t kMaxAddresses = 16;
constexpr size_t kMostRemembered = 16;
constexpr auto kFailingTime = std::chrono::seconds(60); // a server that failed is asked last for so long
constexpr auto kTcpOnlyTime = std::chrono::minutes(10); // one that answered by TCP only is asked that way

Upstream::Upstream(Loop& loop, std::function<std::vector<IpAddress>()> servers, Options options)
    : loop_(loop), servers_(std::move(servers)), options_(std::move(options)) {}

// A question that nobody off the path can answer: a random id, and by UDP a bit of chance in each letter.
static Result<dns::UpstreamQuestion> random_question(const HostName& name, uint16_t type, bool by_tcp) {
    std::array<unsigned char, 2 + 32> random{};
    if (RAND_bytes(random.data(), random.size()) != 1) return error("no random numbers to be had");
    dns::UpstreamQuestion question{
        .id = static_cast<uint16_t>(random[0] << 8 | random[1]), .spelling = name.text(), .type = type};
    for (size_t i = 0; !by_tcp && i < question.spelling.size(); i++) {
        char& c = question.spelling[i];
        if (c >= 'a' && c <= 'z' && (random[2 + i / 8 % 32] >> (i % 8) & 1))
            c = static_cast<char>(c - ('a' - 'A'));
    }
    return question;
}

Task<Result<std::vector<std::byte>>> Upstream::exchange_udp(Endpoint server,
                                                            const dns::UpstreamQuestion& question) {
    auto opened = Socket::datagram(loop_, server);
    if (!opened) co_return opened.error();
    auto& socket = *opened;
    auto query = dns::encode(question);
    if (socket.send({reinterpret_cast<const char*>(query.data()), query.size()}) < 0)
        co_return errno_error("send");
    auto late = loop_.after(options_.timeout, [&] { socket.close(); });
    std::vector<std::byte> message(kMaxUdpAnswer);
    while (co_await socket.readable()) {
        auto count = socket.receive({reinterpret_cast<char*>(message.data()), message.size()});
        if (count < 0 && errno == EAGAIN) continue;
        if (count < 0) co_return errno_error("receive");
        std::span datagram(message.data(), static_cast<size_t>(count));
        // One that is forged, late or broken is passed over: the right one may come.
        if (dns::parse_answer(datagram, question))
            co_return std::vector<std::byte>(datagram.begin(), datagram.end());
    }
    co_return errno_error(ETIMEDOUT, "no answer");
}

static Task<Result<std::vector<std::byte>>> ask_by_tcp(Socket& socket, Endpoint server,
                                                       const dns::UpstreamQuestion& question) {
    if (auto connected = co_await socket.connect(server); !connected) co_return connected.error();
    auto query = dns::encode(question);
    std::array<std::byte, 2> size{std::byte(query.size() >> 8), std::byte(query.size() & 0xff)};
    query.insert(query.begin(), size.begin(), size.end());
    if (auto sent = co_await socket.send_all(query); !sent) co_return sent.error();
    if (auto came = co_await socket.receive_all(size); !came) co_return came.error();
    std::vector<std::byte> message(size_t(size[0]) << 8 | size_t(size[1]));
    if (auto came = co_await socket.receive_all(message); !came) co_return came.error();
    co_return message;
}

Task<Result<std::vector<std::byte>>> Upstream::exchange_tcp(Endpoint server,
                                                            const dns::UpstreamQuestion& question) {
    Socket socket(loop_);
    auto late = loop_.after(options_.timeout, [&] { socket.close(); });
    auto message = co_await ask_by_tcp(socket, server, question);
    if (!message && !socket.is_open()) co_return errno_error(ETIMEDOUT, "no answer");
    co_return message;
}

Task<Result<dns::UpstreamAnswer>> Upstream::ask_server(IpAddress server, const HostName& name, uint16_t type,
                                                       bool by_tcp) {
    if (!by_tcp) {
        auto question = random_question(name, type, false);
        if (!question) co_return question.error();
        auto message = co_await exchange_udp(where(server), *question);
        if (!message) co_return message.error();
        auto answer = dns::parse_answer(*message, *question);
        if (!answer || !answer->truncated) co_return answer;
    }
    auto question = random_question(name, type, true);
    if (!question) co_return question.error();
    auto message = co_await exchange_tcp(where(server), *question);
    if (!message) co_return message.error();
    co_return dns::parse_answer(*message, *question);
}

Endpoint Upstream::where(const IpAddress& server) const {
    return {server, options_.port, server.link_local6() ? reach().link : 0};
}

// --- what is remembered of servers

void Upstream::drop(std::vector<Remembered>& list, const IpAddress& server) {
    auto now = Clock::now();
    std::erase_if(list, [&](const Remembered& one) { return one.server == server || one.until <= now; });
}

void Upstream::put(std::vector<Remembered>& list, const IpAddress& server, Clock::duration time) {
    drop(list, server);
    if (list.size() == kMostRemembered) list.erase(list.begin());
    list.push_back({server, Clock::now() + time});
}

std::vector<IpAddress> Upstream::servers_in_order() {
    auto servers = servers_();
    auto now = Clock::now();
    std::erase_if(failing_, [now](const Remembered& one) { return one.until <= now; });
    std::ranges::stable_partition(servers, [this](const IpAddress& server) {
        return std::ranges::find(failing_, server, &Remembered::server) == failing_.end();
    });
    if (servers.size() > kMaxServers) servers.resize(kMaxServers);
    return servers;
}

bool Upstream::by_tcp_only(const IpAddress& server) {
    auto found = std::ranges::find(tcp_only_, server, &Remembered::server);
    return found != tcp_only_.end() && Clock::now() < found->until;
}

void Upstream::failed(const IpAddress& server) { put(failing_, server, kFailingTime); }

void Upstream::answered(const IpAddress& server, bool by_tcp) {
    drop(failing_, server);
    if (by_tcp && !by_tcp_only(server)) put(tcp_only_, server, kTcpOnlyTime);
    problem_.clear();
}

// Each server in turn, by UDP; then by TCP, for a network that loses our datagrams or a server that does not
// keep the letters' case. One that needs this is asked by TCP at once for a while.
Task<Result<dns::UpstreamAnswer>> Upstream::ask(const HostName& name, uint16_t type) {
    auto servers = servers_in_order();
    if (servers.empty())
        co_return error("this box has no DNS server: none by DHCP, and no dns_servers in its configuration");
    std::string said;
    bool heard = false;
    for (bool once_more : {false, true})
        for (const auto& server : servers) {
            bool tcp_only = by_tcp_only(server), by_tcp = once_more || tcp_only;
            if (once_more && tcp_only) continue; // that was the way it has been asked already
            auto answer = co_await ask_server(server, name, type, by_tcp);
            if (!answer) {
                if (tcp_only) drop(tcp_only_, server); // by UDP the next time
                said = cat("DNS server ", server.text(), ": ", answer.error().message);
                failed(server);
            } else if (answer->rcode == dns::Rcode::NoError || answer->rcode == dns::Rcode::NxDomain) {
                answered(server, by_tcp);
                co_return answer;
            } else {
                said = cat("DNS server ", server.text(), " answers with error ",
                           static_cast<unsigned>(answer->rcode));
                failed(server);
                heard = true;
            }
        }
    // Not for a server's error: whoever holds a name that an agent may look up can cause it.
    problem_ = heard ? "" : cat("no DNS server answered the last look-up; ", said);
    co_return error(cat("look up ", name.text(), ": ", said));
}

// --- look-ups

const Upstream::Cached* Upstream::cached(const Asked& asked) {
    if (auto now = reach(); now != cached_for_) {
        cache_.clear();
        cached_for_ = now;
    }
    auto found = cache_.find(asked);
    return found != cache_.end() && Clock::now() < found->second.until ? &found->second : nullptr;
}

void Upstream::remember(const Asked& asked, const Result<std::vector<IpAddress>>& addresses, uint32_t ttl_s) {
    auto now = Clock::now();
    if (cache_.size() >= kMaxCached)
        std::erase_if(cache_, [&](auto& entry) { return entry.second.until <= now; });
    if (cache_.size() >= kMaxCached) cache_.clear();
    auto until = now + std::chrono::seconds(std::clamp(ttl_s, kLeastTtl_s, kMostTtl_s));
    cache_.insert_or_assign(asked, Cached{addresses, until});
}

Task<Result<std::vector<IpAddress>>> Upstream::lookup(HostName name) {
    if (auto known = options_.hosts.find(name); known != options_.hosts.end())
        co_return std::vector<IpAddress>{known->second};
    Asked asked(name, 0);
    if (const auto* known = cached(asked)) co_return known->addresses;
    auto types = std::array{dns::kTypeA, dns::kTypeAaaa};
    if (auto now = reach(); now.v6 && !now.v4) std::swap(types[0], types[1]);
    for (uint16_t type : types) {
        auto answer = co_await ask(name, type);
        if (!answer) co_return answer.error();
        if (answer->rcode == dns::Rcode::NxDomain) {
            Result<std::vector<IpAddress>> none =
                error(cat("there is no host ", name.text(), " (DNS says so)"));
            remember(asked, none, 0);
            co_return none;
        }
        if (answer->addresses.empty()) continue;
        if (answer->addresses.size() > kMaxAddresses) answer->addresses.resize(kMaxAddresses);
        Result<std::vector<IpAddress>> found = std::move(answer->addresses);
        remember(asked, found, answer->ttl_s);
        co_return found;
    }
    Result<std::vector<IpAddress>> none = error(cat(name.text(), " has no address (DNS says so)"));
    remember(asked, none, 0);
    co_return none;
}

Task<std::vector<IpAddress>> Upstream::lookup_other(HostName name, bool family_v6) {
    auto now = reach();
    if (options_.hosts.contains(name) || !(family_v6 ? now.v4 : now.v6)) co_return std::vector<IpAddress>();
    Asked asked(name, family_v6 ? dns::kTypeA : dns::kTypeAaaa);
    if (const auto* known = cached(asked)) co_return known->addresses.value_or(std::vector<IpAddress>());
    auto answer = co_await ask(name, asked.second);
    if (!answer) co_return std::vector<IpAddress>();
    if (answer->addresses.size() > kMaxAddresses) answer->addresses.resize(kMaxAddresses);
    remember(asked, answer->addresses, answer->ttl_s);
    co_return answer->addresses;
}

} // namespace nullbox::egress

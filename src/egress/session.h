// One connection of an agent: from the first byte to the last, in whichever mode its destination has.
// Internal to the proxy.
#pragma once

#include <expected>
#include <memory>
#include <optional>

#include "egress/client_hello.h"
#include "egress/proxy.h"
#include "egress/scrubber.h"
#include "egress/server_pool.h"
#include "egress/stream.h"

namespace nullbox::egress {

// Why a connection or a request does not go on, in all the forms that somebody will ask for.
struct Refusal {
    Verdict verdict = Verdict::Denied; // Failed: allowed, but it could not be done
    std::string reason;
    std::string add;       // the manifest line that would allow it
    unsigned status = 403; // for HTTP
    Alert alert = Alert::AccessDenied;
    RecordKind kind = RecordKind::Connection;
    std::string method, path; // of a request that was read
};

class Session final : public std::enable_shared_from_this<Session>, private ByteAllowance {
public:
    Session(Tasks& tasks, std::shared_ptr<ProxySetup> setup, Flow flow, Socket client);
    ~Session();
    Task<void> run();
    void close();
    void close_if_late();
    // Under the agent's policy as it is now. before: the one that was replaced.
    bool still_allowed(const Policy& before) const;

    // For the parts in their own files.
    const Agent& agent() const { return *flow_.agent; }
    const Destination& destination() const { return flow_.destination; }
    const Decision& decision() const { return decision_; }
    ProxySetup& setup() { return *setup_; }
    Deadline& deadline() { return deadline_; }
    Loop& loop() const { return tasks_.loop(); }
    TcpStream& server() { return server_->tcp; }
    ServerConnection* server_connection() { return server_.get(); }
    void close_server() { server_.reset(); }
    void record(const Refusal& refusal);
    // A request of a host with rules.
    void record_request(const http::RequestHead& request, const RequestDecision& decision);

    // Whether the agent's budget has one more, which is then used. False: refuse() will say so.
    bool use(Resource resource, uint64_t amount = 1);
    // What the agent is told instead, once its budget has ended this.
    Refusal instead_of(Refusal refusal) const;

    // Connects to the destination: looked up, checked, dialled. server() is there afterwards.
    Task<std::expected<void, Refusal>> dial();
    // The same, or a connection that another of the agent's has used and left whole.
    Task<std::expected<void, Refusal>> reach_server(const ServerPool::Key& key, bool repeatable);
    // For the next one to use. There is no server() then.
    void leave_server(const ServerPool::Key& key);
    ServerPool::Key server_key(bool tls) const; // of a destination that is a name
    // Both ways, until both have ended. server_sends: what the server sends goes through it.
    Task<void> relay(ByteStream& client, ByteStream& server, Scrubber* server_sends = nullptr);
    // Records, and tells the agent in the protocol that its first bytes seem to be of.
    Task<void> refuse(Refusal refusal, std::string_view first_bytes);
    // Ends the sending side and waits a little for the peer, so that it reads what was sent.
    Task<void> linger();

private:
    Task<void> serve();
    Task<void> serve_refusal();
    Task<void> serve_tls(std::string received);
    Task<void> serve_terminated();
    Task<std::unique_ptr<TlsStream>> accept_tls();
    Task<void> serve_clear(std::string received);
    Task<void> serve_http(std::string received);
    Task<void> serve_relay();
    Task<std::optional<Refusal>> forward_hello(std::string& bytes);
    Task<std::optional<Refusal>> forward_second_hello(std::string& bytes);
    Task<Result<ClientHello>> read_hello(std::string& bytes);
    std::optional<Refusal> check_hello(const Result<ClientHello>& hello) const;
    Task<std::string> first_bytes(Clock::duration time);
    Task<Result<std::vector<IpAddress>>> addresses();
    Task<Result<>> connect_to(const IpAddress& address);
    struct Dialling {
        std::optional<Refusal> refused; // of the last address that may not be dialled
        std::string said = "no address";
        size_t tried = 0;
    };
    // Of these, until one answers; at most so many. True: server() is there.
    Task<bool> try_addresses(const std::vector<IpAddress>& addresses, size_t most, Dialling& dialling);
    std::optional<Refusal> no_connection_left();
    Task<bool> pump(ByteStream& from, ByteStream& to, Scrubber* through);
    static Task<bool> pass(TcpStream& from, TcpStream& to);
    Task<void> both(Task<bool> up, Task<bool> down);
    Task<void> pass_both_ways() { return both(pass(client_, server()), pass(server(), client_)); }
    Task<bool> client_speaks_first();
    Record record_of(RecordKind kind, Verdict verdict) const; // without an address: it may be another by then
    void record_allowed(const IpAddress& address);
    void record_end();
    bool take_bytes(size_t count) override { return use(Resource::Bytes, count); }

    static inline uint64_t last_number_ = 0;
    const uint64_t number_ = ++last_number_; // no other session has it
    Tasks& tasks_;
    std::shared_ptr<ProxySetup> setup_;
    Flow flow_;
    Decision decision_;
    Deadline deadline_;
    Traffic client_traffic_, server_traffic_;
    TcpStream client_;
    std::unique_ptr<ServerConnection> server_;
    bool recorded_ = false;
    std::optional<Resource> used_up_;
    std::optional<IpAddress> address_; // dialled last
};

// The text that a refused HTTP client is shown, and the whole answer with it.
std::string refusal_answer(const Session& session, const Refusal& refusal, bool keep_body = true);

} // namespace nullbox::egress

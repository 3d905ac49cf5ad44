// What one agent needs from other services before it may run: the vault open, exposed secrets from warden, a
// network from egress. Got in that order without waiting; what is missing is named and tried again, at once
// when it is told that something changed, else after a growing delay. Never less than the manifest says, and
// never more: a manifest that names no destination gets no network, one that names no secret asks for none.
#pragma once

#include "cage/egress_watch.h"
#include "cage/network_lease.h"
#include "cage/vault_watch.h"

namespace nullbox::cage {

struct ServiceSockets {
    std::string egress = "/run/egress/egress.sock";
    std::string warden = "/run/warden/warden.sock";
    std::string ctxgraph = "/run/ctxgraph/ctxgraph.sock";
};

// Environment variables; exposed secrets are among them, so they are wiped when they go.
class Variables {
public:
    Variables() = default;
    Variables(Variables&&) = default;
    Variables& operator=(Variables&& other) noexcept;
    ~Variables() { wipe(); }
    void add(std::string name, std::string value);
    const std::vector<std::pair<std::string, std::string>>& all() const { return all_; }

private:
    void wipe();
    std::vector<std::pair<std::string, std::string>> all_;
};

struct Granted {
    Variables variables; // placeholders and exposed secrets
    std::optional<NetworkGrant> network;
};

class Needs {
public:
    struct Events {
        std::function<void(std::string what)> waits_for; // "the vault: nullctl vault unlock"
        std::function<void(Granted)> ready;              // once for each get()
    };
    Needs(Loop& loop, const ServiceSockets& sockets, VaultWatch& vault, EgressWatch& egress, Events events);
    ~Needs();

    // The manifest must stay until release(). With nothing to ask for, ready() is called from here.
    void get(const manifest::AgentManifest& manifest);
    void try_again(); // something that it may wait for has changed
    // Gives everything back, or ends the asking.
    void release();
    bool idle() const { return lease_.idle(); } // nothing is left to give back
    // Other network rules, of a manifest that differs in nothing else, for the agent that has a network now.
    void update_network(const manifest::AgentManifest& manifest, NetworkLease::Updated done);
    bool has_network() const { return has_network_; }
    // egress ended. True when a network was there, which is lost with it.
    bool network_lost();

private:
    bool needs_vault() const;
    void go_on();
    void make_placeholders();
    void ask_for_secret(const manifest::Credential& credential);
    void on_secret(const manifest::Credential& credential, Result<varlink::Answer> answer);
    NetworkRequest request_of(const manifest::AgentManifest& manifest) const;
    void ask_for_network();
    void wait_and_retry(std::string what);

    Loop& loop_;
    const ServiceSockets& sockets_;
    VaultWatch& vault_;
    EgressWatch& egress_;
    Events events_;
    NetworkLease lease_;
    const manifest::AgentManifest* manifest_ = nullptr; // while something is being got
    Granted granted_;
    size_t next_credential_ = 0;
    bool asking_ = false;      // an answer will come
    bool has_network_ = false; // handed out with ready()
    std::vector<Placeholder> placeholders_;
    std::unique_ptr<varlink::PendingCall> call_;
    Watch retry_;
    std::chrono::milliseconds delay_{0};
};

} // namespace nullbox::cage

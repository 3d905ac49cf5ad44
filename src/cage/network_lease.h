// One agent's network from egress: attached once, given back once, in that order whatever the timing. A
// second attach waits until the first is given back, so that no late Detach takes a new network away; other
// rules for what is attached are sent one after the other, so that the last ones count.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>

#include "base/loop.h"
#include "guest_link/frames.h"
#include "manifest/agent.h"

namespace nullbox::varlink {
class PendingCall;
struct Answer;
} // namespace nullbox::varlink

namespace nullbox::cage {

struct NetworkGrant {
    Fd tap;
    guest_link::Network network;
    std::array<uint8_t, 6> mac{};
    std::string authority_pem;
};

// A secret's stand-in in the agent's environment.
struct Placeholder {
    std::string secret, text;
};

struct NetworkRequest {
    std::string agent;
    std::vector<std::string> allow, allow_private;
    std::vector<manifest::Credential> credentials; // those with inject
    std::vector<manifest::RequestRule> rules;
    manifest::NetworkBudget budget;
    std::vector<Placeholder> placeholders;
};

class NetworkLease {
public:
    NetworkLease(Loop& loop, std::string egress_socket);
    ~NetworkLease();

    // done is called once, from the loop, unless release() or lost() comes first. A failure leaves nothing
    // attached.
    void attach(NetworkRequest request, std::function<void(Result<NetworkGrant>)> done);
    void release();
    // Other rules for what is attached, while it is used. done is called once: how many connections ended, or
    // why all is as it was.
    using Updated = std::function<void(Result<uint64_t> ended)>;
    void update(NetworkRequest request, Updated done);
    // egress ended: there is nothing left to give back.
    void lost();
    bool idle() const { return stage_ == Stage::Free && !wanted_ && !update_; }

private:
    enum class Stage { Free, Attaching, Attached, Updating, Detaching };
    struct Update {
        NetworkRequest request;
        Updated done;
    };
    void step();
    void send_attach();
    void send_update();
    void send_detach();
    void on_attached(Result<varlink::Answer> answer);

    Loop& loop_;
    std::string socket_;
    Stage stage_ = Stage::Free;
    bool gone_ = false;  // egress ended while it was told of other rules
    bool stale_ = false; // what is attached, or being attached, is to be given back
    std::optional<NetworkRequest> wanted_;
    std::optional<Update> update_; // to be sent
    std::string agent_;
    std::function<void(Result<NetworkGrant>)> done_;
    std::unique_ptr<varlink::PendingCall> call_;
};

} // namespace nullbox::cage

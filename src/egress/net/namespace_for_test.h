// Network namespaces for tests: a box, with a LAN beside it. Every test has fresh ones; the process moves
// between them, and a socket stays where it was made. As root, or in a user namespace of its own.
#pragma once

#include <functional>
#include <string>

#include "base/fd.h"
#include "base/loop.h"

namespace nullbox::egress::test {

class TestNetwork {
public:
    // A failure means that this machine cannot run such tests; the message says why.
    static Result<TestNetwork> make();
    TestNetwork() = default;
    TestNetwork(TestNetwork&&) = default;
    ~TestNetwork();

    // Two ends of a cable: name in the box, "lan0" in the LAN. The LAN's end is up and has 192.0.2.1/24.
    // mac: of the box's end; empty: any.
    void plug_in(const std::string& name, const std::string& mac = {});
    template <typename Body>
    auto in_lan(Body&& body) {
        enter(lan_);
        struct Back {
            TestNetwork* network;
            ~Back() { network->enter(network->box_); }
        } back{this};
        return body();
    }

private:
    void enter(const Fd& network);
    Fd before_, box_, lan_;
};

// Runs a shell command; what it printed. A failure is a test failure.
std::string run(const std::string& command);
// Turns the loop until the condition holds, at most so long; whether it holds.
bool wait_until(Loop& loop, const std::function<bool()>& condition,
                std::chrono::milliseconds most = std::chrono::seconds(15));
void turn(Loop& loop, std::chrono::milliseconds time);

} // namespace nullbox::egress::test

#include "egress/net/namespace_for_test.h"

#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::egress::test {

static Result<Fd> current_network() { return open_readonly("/proc/self/ns/net"); }

// Once a process; the tests have one thread.
static Result<> become_root() {
    if (::geteuid() == 0) return {};
    auto uid = ::getuid();
    if (::unshare(CLONE_NEWUSER) < 0) return errno_error("make a user namespace");
    return write_existing("/proc/self/uid_map", cat("0 ", uid, " 1\n"));
}

static Result<Fd> new_network() {
    if (::unshare(CLONE_NEWNET) < 0) return errno_error("make a network namespace");
    return current_network();
}

Result<TestNetwork> TestNetwork::make() {
    TRY(become_root());
    TestNetwork network;
    network.before_ = TRY(current_network());
    network.lan_ = TRY(new_network());
    network.box_ = TRY(new_network());
    return network;
}

TestNetwork::~TestNetwork() {
    // Out of a user namespace there is no way back; an empty network is as good.
    if (before_ && ::setns(before_.get(), CLONE_NEWNET) < 0) (void)new_network();
}

void TestNetwork::enter(const Fd& network) {
    if (::setns(network.get(), CLONE_NEWNET) < 0) ::perror("setns"), std::abort();
}

void TestNetwork::plug_in(const std::string& name, const std::string& mac) {
    auto lan = cat("/proc/", ::getpid(), "/fd/", lan_.get());
    run(cat("ip link add ", name, mac.empty() ? "" : " address ", mac, " type veth peer name lan0 netns ",
            lan));
    in_lan([] { run("ip link set lan0 up && ip addr add 192.0.2.1/24 dev lan0"); });
}

std::string run(const std::string& command) {
    std::string out;
    FILE* pipe = ::popen(cat("{ ", command, "; } 2>&1").c_str(), "re");
    if (!pipe) {
        ADD_FAILURE() << command;
        return out;
    }
    char buffer[4096];
    while (size_t count = ::fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, count);
    int status = ::pclose(pipe);
    EXPECT_EQ(status, 0) << command << "\n" << out;
    return out;
}

bool wait_until(Loop& loop, const std::function<bool()>& condition, std::chrono::milliseconds most) {
    auto end = Clock::now() + most;
    while (!condition()) { // once a turn: a condition may take what it finds
        if (Clock::now() >= end) return false;
        (void)loop.run_once(std::chrono::milliseconds(5));
    }
    return true;
}

void turn(Loop& loop, std::chrono::milliseconds time) {
    wait_until(loop, [] { return false; }, time);
}

} // namespace nullbox::egress::test

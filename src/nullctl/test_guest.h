// A process in which a real agent-init session runs an agent that sleeps, and does with the streams that it
// is given what it would do in a VM. For tests.
#pragma once

#include <csignal>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent_init/session.h"
#include "base/passing.h"

namespace nullbox::nullctl {

class TestGuest {
public:
    TestGuest() {
        auto door = *make_socket_pair(SOCK_SEQPACKET);
        auto link = *make_socket_pair(SOCK_STREAM);
        pid_ = ::fork();
        if (pid_ == 0) run(door.second.get(), std::move(link.second));
        door_ = std::move(door.first);
        link_ = std::move(link.first);
    }
    ~TestGuest() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    TestGuest(const TestGuest&) = delete;
    TestGuest& operator=(const TestGuest&) = delete;
    void take(Fd stream) {
        std::vector<Fd> fds;
        fds.push_back(std::move(stream));
        (void)send_with_fds(door_.get(), std::span("x", 1), fds);
    }

private:
    [[noreturn]] static void run(int door, Fd link_socket) {
        sigset_t child;
        ::sigemptyset(&child);
        ::sigaddset(&child, SIGCHLD);
        ::sigprocmask(SIG_BLOCK, &child, nullptr);
        ::signal(SIGPIPE, SIG_IGN);
        agent_init::Link link(std::move(link_socket));
        guest_link::Start start{.command = {"sleep", "600"},
                                .environment = {"PATH=/usr/bin:/bin", "TOKEN=placeholder"},
                                .uid = ::getuid(),
                                .gid = ::getgid(),
                                .working_directory = "/tmp",
                                .hostname = "researcher"};
        auto listen = [&](Loop& loop, const std::function<void(Fd)>& adopt) -> Result<agent_init::ExecPort> {
            agent_init::ExecPort port;
            port.watch = TRY(loop.watch(door, EPOLLIN, [door, adopt](uint32_t) {
                char byte = 0;
                auto got = receive_with_fds(door, {&byte, 1});
                if (got.count == 0) ::_exit(0); // the test is gone
                if (!got.fds.empty()) adopt(std::move(got.fds[0]));
            }));
            return port;
        };
        (void)agent_init::run_session(link, start, {.kill_rest = [] {}, .listen_exec = listen});
        ::_exit(0);
    }

    pid_t pid_ = -1;
    Fd door_, link_;
};

} // namespace nullbox::nullctl

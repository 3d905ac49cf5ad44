// One run of the agent's command under agent-init: its output to the host, the host's Stop to it, every
// orphan reaped, its end reported. The end of the command is the end of everything in the guest.
//
// Flow control: output is read only while the link's queue is short, so a host that reads slowly makes the
// command wait in write(), and no line is lost.
#pragma once

#include <functional>

#include "agent_init/command.h"
#include "agent_init/exec_server.h"
#include "agent_init/line_splitter.h"
#include "agent_init/link.h"
#include "agent_init/thrash_watch.h"

namespace nullbox::agent_init {

uint64_t uptime_ns(); // the monotonic clock
uint64_t oom_kills(); // how many processes the kernel has killed for memory

struct SessionOptions {
    // Kills what the command left behind. As PID 1 that is every process there is.
    std::function<void()> kill_rest;
    // A nonblocking stream to the host's memory service, connected or about to be. Empty: none is offered.
    std::function<Result<Fd>()> connect_memory = {};
    // The host's clock was set. Empty: the guest's stays as it is.
    std::function<void(uint64_t clock_ns)> set_clock = {};
    // Hands over the streams of commands that the host wants run beside the agent's. Empty: there are none.
    std::function<Result<ExecPort>(Loop& loop, std::function<void(Fd)> adopt)> listen_exec = {};
    // Told when there is far too little memory for what runs, which is then ended as if the kernel had done
    // it. Empty: nobody tells.
    std::function<Result<ThrashWatch>(Loop& loop, std::function<void()> thrashing)> watch_for_thrashing = {};
    uint16_t memory_port = guest_link::kMemoryPort; // on the guest's loopback
    uint64_t (*oom_kills)() = agent_init::oom_kills;
};

// From Start to Exited (or Failure) sent. SIGCHLD must be blocked. An error means that the host is gone.
Result<> run_session(Link& link, const guest_link::Start& start, const SessionOptions& options);

} // namespace nullbox::agent_init

// One agent: its manifest, its life cycle (life_cycle.h) carried out with real processes and what other
// services give it, its log. Lives on cage's loop, until its manifest is gone or cage ends.
#pragma once

#include <map>

#include "cage/console_copy.h"
#include "cage/exec_door.h"
#include "cage/guest_session.h"
#include "cage/health_watch.h"
#include "cage/launch_plan.h"
#include "cage/log_ring.h"
#include "cage/memory_door.h"
#include "cage/needs.h"
#include "cage/start_turns.h"

namespace nullbox::cage {

// Milliseconds since the start was asked for, or since what it waited for came; -1: not yet.
struct StartTimes {
    int64_t vm_spawned_ms = -1, vm_started_ms = -1, guest_hello_ms = -1, command_started_ms = -1,
            first_output_ms = -1;
};

struct AgentContext {
    Loop& loop;
    const HostSetup& host;
    uint32_t number = 0;
    std::function<uint64_t()> promised_bytes; // of all other agents
    std::function<void()> changed;            // some agent's state is another now
    VaultWatch& vault;
    EgressWatch& egress;
    StartTurns& turns;
};

class Agent {
public:
    Agent(AgentContext context, CatalogueEntry entry);
    Agent(const Agent&) = delete;
    Agent& operator=(const Agent&) = delete;
    ~Agent(); // a VM process that is still there is killed

    const CatalogueEntry& entry() const { return entry_; }
    const LifeCycle& life() const { return life_; }
    const LogRing& log() const { return log_; }
    const StartTimes& start_times() const { return times_; }
    pid_t vm_pid() const { return vm_ ? vm_->pid() : 0; }
    uint64_t vm_memory_bytes() const { return vm_ ? vm_->memory_bytes() : 0; }
    // Processor time of its VM: the one that runs, or the last.
    std::chrono::microseconds cpu_time() const { return vm_ ? vm_->cpu_time() : last_cpu_time_; }
    // When its command began, in its last run; and until when it ran. Nothing: it has not run yet.
    struct Span {
        Clock::time_point began, ended; // ended: now, if it runs
    };
    std::optional<Span> last_run() const;
    std::optional<Clock::time_point> next_try() const; // of a restart that is pending
    // "none" (it has no health check), "unknown", "healthy", "failing (2 of 3): connection refused".
    std::string health() const;
    uint64_t promised_bytes() const;
    uint32_t number() const { return context_.number; }
    // Its manifest or its files are others than those it runs with; it gets them at its next start.
    const CatalogueEntry* next_entry() const { return next_entry_ ? &*next_entry_ : nullptr; }
    bool idle() const { return !life_.alive() && needs_.idle(); } // nothing of it is left anywhere
    const std::string& address() const { return address_; }       // of its guest; empty without a network

    // The manifest that counts from now on. One that runs keeps what it has until it starts again, but for
    // its network: if nothing else differs, egress is told. done is called once: whether new network rules
    // are in effect for an agent that runs on.
    void update(CatalogueEntry entry, std::function<void(bool in_effect)> done = [](bool) {});
    // Something that it may wait for is another now: the vault.
    void try_again() { needs_.try_again(); }
    // Its network ended with egress, if it has one: it starts anew.
    void network_lost(const std::string& why);

    // The host's clock was set: a guest that has started is told.
    void clock_set();

    // done is called once: when the command runs, when it has to wait for something (life().waits_for()), or
    // with why it does not start.
    // because: why it starts although nobody asked for it.
    void start(std::function<void(Result<>)> done, std::string because = {});
    // done is called once, when nothing of the agent is left. grace: TERM to KILL; the life cycle's unless
    // given.
    void stop(std::function<void()> done, std::optional<std::chrono::milliseconds> grace = std::nullopt);

    void restart(std::function<void(Result<>)> done);

    // done is called once: when its vCPUs stand still, or with why they do not. Only what runs can be paused;
    // a pause of what is paused, and a resume of what runs, are no errors.
    void pause(std::function<void(Result<>)> done);
    Result<> resume();

    // A command or a copy in it, for an operator.
    Result<ExecDoor::Opened> exec(ExecOrder order);
    bool exec_full() const { return exec_.full(); }

    using Follower = std::function<void(const LogLine&)>;
    uint64_t follow(Follower follower); // a number for unfollow
    void unfollow(uint64_t number) { followers_.erase(number); }

private:
    void handle(const Event& event);
    void carry_out(const Action& action);
    void prepare();
    void cancel_prepare();
    void adopt_next_entry();
    bool adopt_network(const std::string& text, const Result<uint64_t>& ended);
    void give_back();
    void tell_changes();
    Result<> launch();
    void meet_guest(uint32_t port, Fd stream);
    GuestEvents guest_events();
    void on_output(const guest_link::Output& output);
    void on_gone(EndCause cause);
    void note_times(State before);
    std::string out_of_memory() const;
    void watch_health();
    void answer_waiters();
    void say(LogStream stream, std::string_view text, bool partial = false);
    int64_t since_request_ms() const;

    AgentContext context_;
    CatalogueEntry entry_;
    LifeCycle life_;
    LogRing log_;
    ConsoleCopy console_;
    StartTimes times_;
    Needs needs_;
    MemoryDoor memory_;
    ExecDoor exec_;
    std::optional<CatalogueEntry> next_entry_;
    std::optional<Granted> granted_;         // between ready and launch: its turn has not come
    std::optional<guest_link::Start> start_; // between launch and the guest's hello
    std::string address_;
    Clock::time_point requested_at_{};
    std::chrono::milliseconds grace_{0};
    std::unique_ptr<VmProcess> vm_;
    std::unique_ptr<GuestSession> session_; // at most one a VM: the first to connect
    std::unique_ptr<HealthWatch> health_;   // while it runs or is paused, if its manifest has a check
    std::optional<Clock::time_point> began_at_, ended_at_, next_try_; // see last_run() and next_try()
    std::chrono::microseconds last_cpu_time_{};
    Watch timer_, restart_timer_;
    std::vector<Event> pending_; // events raised while one is handled
    bool handling_ = false;
    std::string last_described_;
    std::vector<std::function<void(Result<>)>> start_waiters_, pause_waiters_;
    std::vector<std::function<void()>> stop_waiters_;
    std::map<uint64_t, Follower> followers_;
    uint64_t next_follower_ = 1;
};

} // namespace nullbox::cage

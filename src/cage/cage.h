// All agents of the machine, and what they share: the control group they live below, the memory they may
// promise each other, the watch on the vault and on egress, the line on the status screen.
#pragma once

#include <map>
#include <memory>

#include "cage/agent.h"
#include "cage/clock_watch.h"
#include "cage/images.h"
#include "cage/survivors.h"

namespace nullbox::cage {

class Cage {
public:
    // Kills and removes whatever an earlier cage left in its control groups, before anything new can start.
    static Result<std::unique_ptr<Cage>> make(Loop& loop, HostSetup host,
                                              const std::vector<std::string>& agent_folders);

    // What reading the agent folders again found, by agents' names.
    struct Reloaded {
        std::vector<std::string> added, changed, removed;
        std::vector<std::string> invalid; // of those that are there now
        std::vector<std::string>
            updated; // of the changed ones: their new network rules are in effect already
    };
    // New agents are there at once and do not start by themselves; removed ones stop and go; changed ones run
    // on as they are until they start again, but for their network (Agent::update). done is called once, when
    // egress has answered.
    void reload(std::function<void(const Reloaded&)> done);
    // Stops the agent, removes its manifest and its files, and answers once nothing of it is left. Its images
    // and the shared folders stay. One of the system image cannot be removed.
    void remove(Agent& agent, std::function<void(Result<>)> done);

    // Once, before anything is asked of it. Apart from make(), because reading manifests takes longer than
    // all that has to be right before the socket listens; who asks meanwhile waits for the loop.
    void read_agents();

    Agent* find(std::string_view name);
    Uploads& uploads() { return *uploads_; }
    ImageFolders image_folders() const {
        return {.all = host_.image_folders, .own = host_.uploads.image_folder};
    }
    const std::vector<std::unique_ptr<Agent>>& agents() const { return agents_; }
    // Waits for the other services to listen, so that guests do not take the processors from them; for so
    // long at most. What an agent needs of them, it waits for by itself. After a crash of an earlier cage it
    // is not the machine's boot: what was wanted then starts, and nothing else.
    void start_at_boot(std::chrono::milliseconds patience = {});
    // Stops every agent; done is called once nothing of any is left, or after the limit.
    void stop_all(std::chrono::milliseconds grace, std::function<void()> done);
    std::string status_line() const; // "agents: hello running, analyst exited 0"

private:
    Cage(Loop& loop, HostSetup host, std::vector<std::string> agent_folders);
    uint64_t promised_bytes() const;
    void on_change();
    void add(CatalogueEntry entry);
    void retire(const std::string& name, std::function<void()> done);
    bool others_listen() const;
    void drop_when_idle(const std::string& name, std::function<void()> done);

    Loop& loop_;
    HostSetup host_; // agents refer to it
    std::vector<std::string> agent_folders_;
    std::unique_ptr<Uploads> uploads_;
    VaultWatch vault_;
    EgressWatch egress_;
    StartTurns turns_;
    std::optional<ClockWatch> clock_;
    Survivors survivors_;
    bool begun_ = false;                   // start_at_boot() is done
    Watch boot_;                           // until the other services listen
    std::map<std::string, Watch> leaving_; // agents without a manifest that are not gone yet
    std::vector<std::unique_ptr<Agent>> agents_;
};

// The group cage was put into becomes the agents' (host.cgroup_root): cage moves itself into a leaf below it,
// because a group with processes of its own cannot have limited groups below. Empty when this process may not
// do so.
Result<std::string> take_over_own_cgroup();

} // namespace nullbox::cage

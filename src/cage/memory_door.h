// An agent's way to the shared memory: each stream that its guest opens to kMemoryPort is handed to ctxgraph,
// with who it is and what its manifest lets it read and write. cage sees nothing of what is said there.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/loop.h"
#include "manifest/agent.h"

namespace nullbox::cage {

class MemoryDoor {
public:
    // complain: a line for the agent's log; not for every stream that fails the same way.
    MemoryDoor(Loop& loop, std::string ctxgraph_socket, std::function<void(std::string_view)> complain);
    ~MemoryDoor();

    static bool is_wanted(const manifest::AgentManifest& manifest) {
        return !manifest.memory_read.empty() || !manifest.memory_write.empty();
    }
    void hand_over(const manifest::AgentManifest& manifest, Fd stream);
    void close_all(); // the guest is gone

private:
    struct Stream;
    void on_failure(const std::string& why);
    Loop& loop_;
    std::string socket_;
    std::function<void(std::string_view)> complain_;
    std::string last_complaint_;
    std::vector<std::shared_ptr<Stream>> waiting_; // for ctxgraph's answer
};

} // namespace nullbox::cage

// Notices that egress ended. A running agent's network ends in egress (its resolver, its proxy, its tap's
// rules), and a new egress knows nothing of it. Holds one silent connection to egress's socket, which the
// kernel closes when egress goes, however it goes.
#pragma once

#include <functional>
#include <string>

#include "base/loop.h"

namespace nullbox::cage {

class EgressWatch {
public:
    EgressWatch(Loop& loop, std::string egress_socket, std::function<void()> ended)
        : loop_(loop), path_(std::move(egress_socket)), ended_(std::move(ended)) {}

    // From now until ended(): whatever is asked of egress after this is asked of one that is watched.
    Result<> hold();

private:
    void on_ready();
    Loop& loop_;
    std::string path_;
    std::function<void()> ended_;
    Fd socket_;
    Watch watch_;
};

} // namespace nullbox::cage

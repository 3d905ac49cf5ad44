// Whose VM may start now: at most so many start at a time, the others wait in the order in which they came.
// Twenty that start together on two cores all take as long as twenty in a row, and pass their time limit.
// One thread.
#pragma once

#include <deque>
#include <functional>
#include <set>

#include "base/loop.h"

namespace nullbox::cage {

class StartTurns {
public:
    StartTurns(Loop& loop, size_t most) : loop_(loop), most_(most) {}
    // As many as keep this machine's cores busy while some of them wait for a disk.
    static size_t of_this_machine();

    // go is called once: from here, or from the loop when a turn is free, or never if `who` leaves first.
    void enter(const void* who, std::function<void()> go);
    // Its start is over, well or not, or is not wanted any more. Of one that is not here nothing happens.
    void leave(const void* who);

private:
    void next();

    struct Waiting {
        const void* who;
        std::function<void()> go;
    };
    Loop& loop_;
    size_t most_;
    std::set<const void*> starting_;
    std::deque<Waiting> waiting_;
    Watch next_; // somebody waits, and a turn is free
};

} // namespace nullbox::cage

// Group commit: writes that wait at the same time share a transaction, and with it one wait for the disk.
// Each is answered after the commit. One thread; the answers come from `later`, never from put() itself.
#pragma once

#include <deque>
#include <functional>

#include "ctxgraph/store.h"

namespace nullbox::ctxgraph {

class Writes {
public:
    using Done = std::function<void(Result<Written>)>;
    // later: calls what it is given soon, after what is ready now (asio::post).
    using Later = std::function<void(std::function<void()>)>;
    Writes(Store& store, Later later) : store_(store), later_(std::move(later)) {}

    void put(Write write, Done done);
    // Called after a commit with the namespaces that have something new.
    std::function<void(const std::vector<std::string>& spaces)> on_new;

private:
    struct Waiting {
        Write write;
        Done done;
    };
    void schedule();
    void commit();

    Store& store_;
    Later later_;
    std::deque<Waiting> waiting_;
    bool scheduled_ = false;
};

} // namespace nullbox::ctxgraph

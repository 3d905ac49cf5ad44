// The control socket /run/nulld/nulld.sock: io.nullbox.nulld over Varlink. Holds no logic: it reads
// parameters and asks System.
#pragma once

#include <memory>

#include "base/loop.h"

namespace nullbox::varlink {
class Server;
}

namespace nullbox::nulld {

class System;

class Control {
public:
    static Result<std::unique_ptr<Control>> listen(Loop& loop, System& system);
    ~Control();

private:
    explicit Control(std::unique_ptr<varlink::Server> server);
    std::unique_ptr<varlink::Server> server_;
};

} // namespace nullbox::nulld

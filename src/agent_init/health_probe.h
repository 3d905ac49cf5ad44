// One look at the agent from inside the guest, as the host asked for it (CheckHealth): a connection to its
// port on the loopback, or a GET and the first line of its answer (RFC 9112 section 4). Nothing here waits.
//
// What the agent answers is only told to the host, which decides; an agent that lies about its health fools
// its operator about itself and nobody else.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/loop.h"
#include "guest_link/frames.h"

namespace nullbox::agent_init {

class HealthProbe {
public:
    // told is called once, from the loop, never from begin(); not if the probe is dropped before.
    using Told = std::function<void(guest_link::Health)>;
    static std::unique_ptr<HealthProbe> begin(Loop& loop, guest_link::CheckHealth check, Told told);

private:
    HealthProbe(Loop& loop, guest_link::CheckHealth check, Told told)
        : loop_(loop), check_(std::move(check)), told_(std::move(told)) {}
    void connect();
    void on_connected();
    void on_answer();
    void tell(bool good, std::string says);
    void close();

    Loop& loop_;
    guest_link::CheckHealth check_;
    Told told_; // empty once it was called
    Fd socket_;
    Watch watch_, timer_;
    std::string answer_;
    size_t drained_bytes_ = 0;
};

// What a status line says: "answered 503", good only for 2xx. Nothing while the line is not whole.
std::optional<guest_link::Health> judge_status_line(std::string_view answer);

} // namespace nullbox::agent_init

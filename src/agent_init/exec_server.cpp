#include "agent_init/exec_server.h"

#include <algorithm>
#include <csignal>

#include "agent_init/exec_stream.h"

namespace nullbox::agent_init {

ExecServer::ExecServer(Loop& loop, const guest_link::Start& start,
                       std::function<void(const guest_link::ExecEnded&)> ended)
    : loop_(loop), start_(start), ended_(std::move(ended)) {}
ExecServer::~ExecServer() = default;

void ExecServer::adopt(Fd stream) {
    if (closed_ || streams_.size() > guest_link::kMaxExecAtOnce) return;
    auto one =
        std::make_unique<ExecStream>(*this, std::move(stream), streams_.size() == guest_link::kMaxExecAtOnce);
    if (!one->begin()) return;
    streams_.push_back(std::move(one));
}

void ExecServer::reaped(pid_t pid, int status) {
    auto found = std::ranges::find_if(streams_, [&](const auto& one) { return one->pid() == pid; });
    if (found != streams_.end()) (*found)->reaped(status);
}

void ExecServer::close() {
    closed_ = true;
    std::erase_if(streams_, [](const auto& one) { return one->pid() < 0; });
    for (const auto& one : streams_) ::kill(-one->pid(), SIGKILL);
}

void ExecServer::remove(ExecStream* stream) {
    std::erase_if(streams_, [&](const auto& one) { return one.get() == stream; });
    if (closed_ && streams_.empty() && on_idle) on_idle();
}

} // namespace nullbox::agent_init

#include "base/service.h"

#include <cstdlib>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"

namespace nullbox {

static void notify(std::string line) {
    static const int fd = [] {
        const char* number = std::getenv("NULLBOX_NOTIFY_FD");
        auto value = number ? parse_number(number, 3, 1 << 20) : std::nullopt;
        if (!value) return -1;
        // nulld's end is for us alone; a child of ours has no business on it.
        (void)set_nonblocking(static_cast<int>(*value));
        (void)::fcntl(static_cast<int>(*value), F_SETFD, FD_CLOEXEC);
        return static_cast<int>(*value);
    }();
    if (fd < 0) return;
    line += '\n';
    // A line this short is written whole or not at all (PIPE_BUF); a full pipe loses a status, no more.
    (void)!::write(fd, line.data(), line.size());
}

void notify_ready() { notify("READY"); }
void notify_status(std::string_view text) { notify(cat("STATUS=", printable(text, 480))); }

Result<std::unique_ptr<Service>> Service::make() {
    std::unique_ptr<Service> service(new Service);
    service->loop_ = TRY(Loop::make());
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGTERM);
    ::sigaddset(&set, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    ::signal(SIGPIPE, SIG_IGN); // a peer that went away is an EPIPE, not the end of the service
    service->signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!service->signals_) return errno_error("take signals through a descriptor");
    auto end = [self = service.get()](uint32_t) {
        signalfd_siginfo info{};
        if (::read(self->signals_.get(), &info, sizeof info) != sizeof info) return;
        if (auto stop = std::exchange(self->stop_, nullptr))
            stop();
        else
            self->loop_->stop();
    };
    service->watch_ = TRY(service->loop_->watch(service->signals_.get(), EPOLLIN, std::move(end), 1));
    return service;
}

int run_service(std::string_view name, const std::function<Result<>(Service&)>& body) {
    auto service = Service::make();
    auto result = service ? body(**service) : Result<>(std::move(service.error()));
    if (result) return EXIT_SUCCESS;
    log_error(cat(name, ": ", printable(result.error().message)));
    notify_status(cat("failed: ", result.error().message));
    return EXIT_FAILURE;
}

} // namespace nullbox

#include "agent_init/exec_copy.h"

#include <cerrno>
#include <csignal>
#include <grp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "guest_link/copy_tree.h"

namespace nullbox::agent_init {

using namespace guest_link;

static Result<> become(const User& user, const std::string& folder) {
    if (::getuid() == 0) {
        gid_t group = user.gid;
        if (::setgroups(1, &group) < 0 || ::setresgid(user.gid, user.gid, user.gid) < 0 ||
            ::setresuid(user.uid, user.uid, user.uid) < 0)
            return errno_error(cat("become user ", user.uid));
    }
    if (::chdir(folder.c_str()) < 0) return errno_error(cat("enter working directory ", folder));
    return {};
}

static Result<> copy(int socket, const CopyRequest& request, CopyReport& report) {
    CopyStream stream(socket);
    if (request.direction == Direction::OutOfGuest) return send_tree(stream, request.path, report, {});
    // The operator's own links go where they go, in the agent's machine.
    TRY(receive_tree(stream, {.path = request.path, .name = request.name}, {.confine_links = false}, report,
                     {}));
    return stream.send(Done{.entries = report.entries, .bytes = report.bytes});
}

// In the child, which never returns into our loop.
static int copying_process(int socket, const CopyRequest& request, const User& user,
                           const std::string& folder) {
    ::umask(0);
    CopyReport report;
    auto done = become(user, folder);
    if (done && request.direction == Direction::IntoGuest)
        done = write_all(socket, *encode(ExecGuestFrame(Running{})));
    if (done) done = copy(socket, request, report);
    if (done) return report.skipped == 0 ? 0 : 1;
    auto failed =
        encode(CopyFrame(Failed{.exit_code = 1, .message = done.error().message.substr(0, kMaxMessageText)}));
    if (failed && done.error().code != ECANCELED) (void)write_all(socket, *failed);
    // What is still on its way would make a reset of our end, and our last words might be lost.
    ::shutdown(socket, SHUT_WR);
    timeval patience{.tv_sec = 5, .tv_usec = 0};
    ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    char bytes[16384];
    while (::recv(socket, bytes, sizeof bytes, 0) > 0) {
    }
    return 1;
}

Result<pid_t> start_copy(int stream, const CopyRequest& request, const User& user,
                         const std::string& folder) {
    TRY(set_nonblocking(stream, false));
    pid_t pid = ::fork();
    if (pid < 0) return errno_error("fork");
    if (pid > 0) return pid;
    ::signal(SIGPIPE, SIG_IGN);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::setsid();
    // Nothing of agent-init's but the stream, as descriptor 3; 0 to 2 are the console.
    if (::dup2(stream, 3) < 0) ::_exit(1);
    ::syscall(SYS_close_range, 4U, ~0U, 0U);
    ::_exit(copying_process(3, request, user, folder));
}

} // namespace nullbox::agent_init

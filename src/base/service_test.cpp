#include "base/service.h"

#include <csignal>
#include <cstdlib>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox {

// Runs a service in a child with a start-up descriptor; returns what it wrote there and its exit status.
static std::pair<std::string, int> run_child(const std::function<Result<>(Service&)>& body) {
    auto pipe = make_pipe().value();
    pid_t child = ::fork();
    if (child == 0) {
        ::setenv("NULLBOX_NOTIFY_FD", cat(pipe.write.get()).c_str(), 1);
        ::_exit(run_service("test", body));
    }
    pipe.write.reset();
    int status = 0;
    ::waitpid(child, &status, 0);
    return {read_fd(pipe.read.get(), 4096).value(), WIFEXITED(status) ? WEXITSTATUS(status) : -1};
}

TEST(Service, ReportsReadyAndStatusAndEndsOnTerm) {
    auto [text, status] = run_child([](Service& service) -> Result<> {
        service.status("one\nREADY\x1b[2J");
        service.ready();
        ::kill(::getpid(), SIGTERM);
        return service.serve();
    });
    EXPECT_EQ(text, "STATUS=one?READY?[2J\nREADY\n");
    EXPECT_EQ(status, 0);
}

TEST(Service, AStopHandlerMayFinishItsWork) {
    auto [text, status] = run_child([](Service& service) -> Result<> {
        service.on_stop([&] {
            service.status("finishing");
            service.loop().stop();
        });
        ::kill(::getpid(), SIGTERM);
        return service.serve();
    });
    EXPECT_EQ(text, "STATUS=finishing\n");
    EXPECT_EQ(status, 0);
}

TEST(Service, AFailureIsItsStatusAndItsExit) {
    auto [text, status] = run_child([](Service&) -> Result<> { return error("no such thing"); });
    EXPECT_EQ(text, "STATUS=failed: no such thing\n");
    EXPECT_EQ(status, 1);
}

} // namespace nullbox

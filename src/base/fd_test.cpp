#include "base/fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>

namespace nullbox {

static bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(Fd, AssignmentClosesTheOldOne) {
    auto first = make_pipe().value();
    int old = first.read.get();
    first.read = std::move(first.write);
    EXPECT_FALSE(is_open(old));
    EXPECT_TRUE(is_open(first.read.get()));
    EXPECT_FALSE(first.write);
}

TEST(Fd, SelfMoveKeepsIt) {
    auto ends = make_pipe().value();
    Fd& alias = ends.read;
    ends.read = std::move(alias);
    EXPECT_TRUE(is_open(ends.read.get()));
}

TEST(Fd, EverythingIsCloseOnExec) {
    auto ends = make_pipe().value();
    auto pair = make_socket_pair(1).value();
    auto copy = ends.read.duplicate().value();
    for (int fd : {ends.read.get(), ends.write.get(), pair.first.get(), pair.second.get(), copy.get()})
        EXPECT_TRUE(::fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

} // namespace nullbox

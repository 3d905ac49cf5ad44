#include "nulld/console.h"

#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace nullbox::nulld {

// On a terminal of our own: what it shows is what comes out at its other end.
TEST(Console, LinesEndAsATerminalWants) {
    Fd screen(::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
    ASSERT_TRUE(screen);
    ASSERT_TRUE(::grantpt(screen.get()) == 0 && ::unlockpt(screen.get()) == 0);
    auto loop = *Loop::make();
    Console console(*loop, ::ptsname(screen.get()), [] {});
    console.print("one\ntwo\n");
    EXPECT_TRUE(loop->run_once(std::chrono::milliseconds(100)));
    char shown[64];
    ssize_t count = ::read(screen.get(), shown, sizeof shown);
    ASSERT_GT(count, 0);
    EXPECT_EQ(std::string_view(shown, static_cast<size_t>(count)), "one\r\ntwo\r\n");
}

} // namespace nullbox::nulld

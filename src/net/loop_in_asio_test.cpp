#include "net/loop_in_asio.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

namespace nullbox::net {

using namespace std::chrono_literals;

TEST(LoopInAsio, TimersAndDescriptorsAreServedWhileAsioRuns) {
    boost::asio::io_context context;
    auto loop = *Loop::make();
    auto pipe = *make_pipe();
    auto bridge = LoopInAsio::attach(context, *loop);
    ASSERT_TRUE(bridge.has_value());
    // The first timer comes before one that was set earlier; one sets another; a descriptor ends it all.
    std::vector<int> order;
    Watch late = loop->after(60ms, [&] { (void)!::write(pipe.write.get(), "x", 1); });
    Watch again;
    Watch early = loop->after(10ms, [&] {
        order.push_back(1);
        again = loop->after(10ms, [&] { order.push_back(2); });
    });
    auto readable = loop->watch(pipe.read.get(), EPOLLIN, [&](uint32_t) {
        order.push_back(3);
        context.stop();
    });
    context.run_for(5s);
    EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
    EXPECT_TRUE((*bridge)->failed().has_value());
}

} // namespace nullbox::net

// base/loop inside an Asio io_context: a network daemon runs on Asio, while its Varlink server, its start-up
// descriptor and its signals stay on base/loop. One thread runs both, so neither needs a lock.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "base/service.h"

namespace nullbox::net {

// Turns the loop whenever it has something to do, for as long as this lives. The loop must outlive it. A
// failure of the loop stops the context; failed() has it then.
class LoopInAsio {
public:
    static Result<std::unique_ptr<LoopInAsio>> attach(boost::asio::io_context& context, Loop& loop);
    ~LoopInAsio();
    const Result<>& failed() const { return result_; }

private:
    LoopInAsio(boost::asio::io_context& context, Loop& loop, int fd);
    void wait();

    boost::asio::io_context& context_;
    Loop& loop_;
    boost::asio::posix::stream_descriptor descriptor_;
    Result<> result_;
};

// In place of Service::serve(): runs both until the service is told to end. What has to be finished before
// that is wind_down's, which calls stop when it is.
using WindDown = std::function<void(std::function<void()> stop)>;
Result<> serve(Service& service, boost::asio::io_context& context, WindDown wind_down = {});

} // namespace nullbox::net

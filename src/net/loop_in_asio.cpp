#include "net/loop_in_asio.h"

namespace nullbox::net {

Result<std::unique_ptr<LoopInAsio>> LoopInAsio::attach(boost::asio::io_context& context, Loop& loop) {
    int fd = TRY(loop.fd());
    std::unique_ptr<LoopInAsio> bridge(new LoopInAsio(context, loop, fd));
    bridge->wait();
    return bridge;
}

LoopInAsio::LoopInAsio(boost::asio::io_context& context, Loop& loop, int fd)
    : context_(context), loop_(loop), descriptor_(context, fd) {}

LoopInAsio::~LoopInAsio() { descriptor_.release(); } // the descriptor is the loop's

void LoopInAsio::wait() {
    descriptor_.async_wait(descriptor_.wait_read, [this](const boost::system::error_code& code) {
        if (code) return; // we are being taken apart
        result_ = loop_.run_once(std::chrono::milliseconds(0));
        if (!result_.has_value()) return context_.stop();
        wait();
    });
}

Result<> serve(Service& service, boost::asio::io_context& context, WindDown wind_down) {
    auto bridge = TRY(LoopInAsio::attach(context, service.loop()));
    auto stop = [&] { context.stop(); };
    service.on_stop([&] { wind_down ? wind_down(stop) : stop(); });
    context.run();
    return bridge->failed();
}

} // namespace nullbox::net

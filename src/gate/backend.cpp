#include "gate/backend.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/text.h"

namespace nullbox::gate {

constexpr size_t kMostWaitingItems = 8;

asio::awaitable<void> Signal::wait(Clock::duration most) {
    timer_.expires_after(most);
    (void)co_await timer_.async_wait(asio::as_tuple(asio::use_awaitable));
}

Stream::Stream(asio::io_context& context, Loop& loop, varlink::BackgroundCall call) : arrived_(context) {
    pending_ = varlink::follow_in_background(
        loop, std::move(call), [this](Result<varlink::Answer> answer, bool last) {
            items_.push_back({.answer = std::move(answer), .last = last});
            if (items_.size() >= kMostWaitingItems) pending_.pause();
            arrived_.raise();
        });
}

asio::awaitable<std::optional<Stream::Item>> Stream::next(Clock::duration most) {
    if (items_.empty() && !interrupted_) co_await arrived_.wait(most);
    if (interrupted_ || items_.empty()) co_return std::nullopt;
    auto item = std::move(items_.front());
    items_.pop_front();
    if (items_.empty()) pending_.resume();
    co_return item;
}

void Stream::interrupt() {
    interrupted_ = true;
    arrived_.raise();
}

varlink::BackgroundCall Backend::to(std::string_view interface, std::string_view method,
                                    boost::json::object parameters) const {
    auto service = interface.substr(interface.rfind('.') + 1);
    return {.socket_path = cat(run_folder_, "/", service, "/", service, ".sock"),
            .method = cat(interface, ".", method),
            .parameters = std::move(parameters),
            .refusals_as_answers = true};
}

asio::awaitable<Result<varlink::Answer>> Backend::call(std::string_view interface, std::string_view method,
                                                       boost::json::object parameters,
                                                       std::chrono::milliseconds limit) {
    auto asked = to(interface, method, std::move(parameters));
    asked.limit = limit;
    Signal done(context_);
    std::optional<Result<varlink::Answer>> got;
    auto pending = varlink::call_in_background(loop_, std::move(asked), [&](Result<varlink::Answer> answer) {
        got = std::move(answer);
        done.raise();
    });
    while (!got) co_await done.wait(std::chrono::hours(1));
    co_return *std::move(got);
}

std::unique_ptr<Stream> Backend::follow(std::string_view interface, std::string_view method,
                                        boost::json::object parameters) {
    return std::make_unique<Stream>(context_, loop_, to(interface, method, std::move(parameters)));
}

} // namespace nullbox::gate

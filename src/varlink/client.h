// The client side of Varlink: blocking, one call at a time, for command-line tools, tests, and services at
// start-up.
#pragma once

#include <boost/json/fwd.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <vector>

#include "base/fd.h"

namespace nullbox::varlink {

struct Answer;

class Client {
public:
    static Result<Client> connect(const std::string& socket_path);
    Client(Client&&) noexcept;
    Client& operator=(Client&&) noexcept;
    ~Client();

    // method: "io.nullbox.cage.List". A Varlink error becomes an Error whose message is "<error name>:
    // <message>".
    Result<boost::json::object> call(std::string_view method, const boost::json::object& parameters,
                                     std::chrono::milliseconds limit = std::chrono::seconds(10));
    // The same with descriptors there and back, at most kMaxPassedFds each way. See server.h.
    Result<Answer> call_with_fds(std::string_view method, const boost::json::object& parameters,
                                 std::vector<Fd> fds,
                                 std::chrono::milliseconds limit = std::chrono::seconds(10));
    // A stream: each answer goes to `each`; ends when it returns false (the connection is closed then), or
    // with the last answer, or with an error; at the limit, if there is one, whatever came until then.
    Result<> call_more(std::string_view method, const boost::json::object& parameters,
                       const std::function<bool(const boost::json::object&)>& each,
                       std::optional<std::chrono::milliseconds> limit = std::nullopt);

private:
    struct Impl;
    explicit Client(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

} // namespace nullbox::varlink

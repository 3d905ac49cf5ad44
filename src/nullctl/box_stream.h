// A connection to a box that has been upgraded to a stream: its bytes are carried, by a thread of its own, to
// and from one end of a socket pair, so that what speaks on it needs to know nothing of TLS. Whoever does not
// read makes the other wait; closing our end closes the connection. Brings Asio.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <memory>
#include <thread>

#include "base/fd.h"

namespace nullbox::nullctl {

struct UpgradedConnection {
    std::unique_ptr<boost::asio::ssl::context> tls;
    std::unique_ptr<boost::asio::ssl::stream<boost::beast::tcp_stream>> stream;
    boost::beast::flat_buffer buffer; // what has come already
};

class BoxStream {
public:
    // The context is the stream's, and runs nothing else while this lives.
    static Result<std::unique_ptr<BoxStream>> carry(boost::asio::io_context& context,
                                                    UpgradedConnection connection);
    ~BoxStream();
    int socket() const { return ours_.get(); }
    // Ends it, and says how the connection ended; empty if it was the box that ended it in order, or we.
    std::string close();

private:
    struct Carrier;
    BoxStream() = default;
    Fd ours_;
    std::unique_ptr<Carrier> carrier_;
    std::thread thread_;
};

} // namespace nullbox::nullctl

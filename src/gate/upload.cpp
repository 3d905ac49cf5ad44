// Uploads: the body goes, a piece at a time, into the descriptor that cage gave for it. cage checks the
// digest and puts the whole in its place, or nothing.
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/read.hpp>
#include <cerrno>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "gate/roles.h"
#include "gate/session.h"
#include "net/await.h"

namespace nullbox::gate {

namespace json = boost::json;

using net::kAwait;
constexpr std::string_view kCage = "io.nullbox.cage";
constexpr size_t kPieceBytes = size_t{64} << 10;
constexpr std::chrono::seconds kCommitLimit{150}; // the digest of a large image, and its way to the disk

// A file takes everything at once; a pipe may make us wait.
static asio::awaitable<Result<>> write_to(asio::io_context& context, const Fd& fd, std::string_view bytes,
                                          std::chrono::milliseconds limit) {
    while (!bytes.empty()) {
        ssize_t count = ::write(fd.get(), bytes.data(), bytes.size());
        if (count >= 0) {
            bytes.remove_prefix(static_cast<size_t>(count));
        } else if (errno == EAGAIN) {
            auto second = fd.duplicate();
            if (!second.has_value()) co_return second.error();
            asio::posix::stream_descriptor pipe(context, second->release());
            asio::steady_timer timer(context, limit);
            timer.async_wait([&](const beast::error_code& failure) {
                if (!failure) pipe.cancel();
            });
            auto [failure] = co_await pipe.async_wait(asio::posix::stream_descriptor::wait_write, kAwait);
            if (failure) co_return Error{.code = ETIMEDOUT, .message = "the service takes no more bytes"};
        } else if (errno != EINTR) {
            co_return errno_error("write");
        }
    }
    co_return Result<>();
}

asio::awaitable<Result<>> Session::receive_upload(Head& head, Fd destination) {
    http::request_parser<http::buffer_body> body(std::move(head));
    body.body_limit(boost::none); // the length was checked
    std::string piece(kPieceBytes, '\0');
    while (!body.is_done()) {
        body.get().body().data = piece.data();
        body.get().body().size = piece.size();
        body.get().body().more = true;
        lower().expires_after(house_.limits.body);
        auto [failure, count] = co_await http::async_read(stream_, buffer_, body, kAwait);
        if (failure && failure != http::error::need_buffer)
            co_return error(cat("the upload was cut off: ", failure.message()));
        auto filled = std::string_view(piece).substr(0, piece.size() - body.get().body().size);
        auto written = co_await write_to(house_.backend.context(), destination, filled, house_.limits.body);
        if (!written.has_value()) co_return std::move(written).context("hand the upload over");
    }
    co_return Result<>();
}

asio::awaitable<Response> Session::upload(Head& head, const Target& target) {
    auto refuse = [](unsigned status, std::string_view name, std::string_view message) {
        auto response = refusal(status, name, message);
        response.body_unread = true;
        return response;
    };
    const auto& request = head.get();
    auto length = head.content_length();
    auto digest = parse_digest(std::string_view(request["Repr-Digest"]));
    if (who_.role < kUploadRole)
        co_return refuse(403, "NotAllowed",
                         cat("uploads need the role ", role_name(kUploadRole), "; ", who_.name, " is ",
                             role_name(who_.role)));
    if (!std::ranges::contains(kUploadKinds, std::string_view(target.first)))
        co_return refuse(404, "NotFound", "an upload is an image, an app or a manifest");
    if (!length || head.chunked()) co_return refuse(411, "BadRequest", "an upload needs Content-Length");
    if (*length > house_.limits.upload_bytes)
        co_return refuse(413, "TooLarge",
                         cat("the upload is longer than ", house_.limits.upload_bytes, " bytes"));
    if (!digest)
        co_return refuse(400, "BadRequest", "an upload needs Repr-Digest: sha-256=:BASE64: (RFC 9530)");
    if (house_.counts.uploads >= house_.limits.uploads)
        co_return refuse(429, "TooMany", cat(house_.counts.uploads, " uploads are on their way; wait"));
    struct Place {
        size_t& count;
        explicit Place(size_t& of) : count(of) { count++; }
        ~Place() { count--; }
    } place(house_.counts.uploads);

    auto& backend = house_.backend;
    auto begun = co_await backend.call(
        kCage, "BeginUpload",
        {{"kind", target.first}, {"name", target.second}, {"size_bytes", *length}, {"sha256", *digest}},
        std::chrono::seconds(30));
    const auto* number = begun.has_value() ? begun->parameters.if_contains("upload") : nullptr;
    if (!begun.has_value() || !begun->error.empty() || !number || begun->fds.size() != 1) {
        auto response = !begun.has_value() || !begun->error.empty()
                            ? from_service(std::move(begun))
                            : refusal(502, "ServiceBroke", "cage did not say where the upload goes");
        response.body_unread = true;
        co_return response;
    }
    json::object which{{"upload", *number}};
    Fd destination = std::move(begun->fds[0]);
    (void)set_nonblocking(destination.get());
    Result<> received = error("the client left");
    if (co_await go_on_if_asked(head)) received = co_await receive_upload(head, std::move(destination));
    if (received.has_value())
        co_return from_service(co_await backend.call(kCage, "CommitUpload", std::move(which), kCommitLimit));
    destination.reset();
    log_warning(cat(who_.name, ": upload/", target.first, "/", target.second, ": ",
                    printable(received.error().message, 300)));
    auto aborted = co_await backend.call(kCage, "AbortUpload", std::move(which), std::chrono::seconds(30));
    if (!aborted.has_value()) log_warning(cat("abort the upload: ", printable(aborted.error().message, 300)));
    co_return refuse(400, "UploadCut", received.error().message);
}

} // namespace nullbox::gate

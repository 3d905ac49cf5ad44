// A guest's bytes on its connection to ctxgraph: HTTP, the JSON API and the Model Context Protocol, through
// the real server. Whatever comes, the connection ends when the guest's side does, and of another agent's
// space nothing is read or written. What stands there is new for each input: an answer may well repeat what
// was asked, and a fuzzer learns constants.
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cstddef>
#include <cstdint>
#include <random>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/file.h"
#include "ctxgraph/guest_server.h"

using namespace nullbox;
using namespace nullbox::ctxgraph;

namespace {
struct Box {
    Box() : store(*Store::open(":memory:", {.entries = 500})) {}
    boost::asio::io_context context{1};
    std::unique_ptr<Store> store;
    Writes writes{*store,
                  [this](std::function<void()> soon) { boost::asio::post(context, std::move(soon)); }};
    Memory memory{*store, writes};
    GuestServer guests{context, memory};
};
} // namespace

static std::string put_secret(Box& box) {
    static std::mt19937_64 numbers;
    auto text = "secret" + std::to_string(numbers());
    Write secret{.space = "other", .key = "k", .value = '"' + text + '"', .author = "agent:other"};
    CHECK(box.store->apply({&secret, 1}).front().has_value());
    return text;
}

static void turn(Box& box) {
    box.context.restart();
    box.context.poll();
}

static void read_all(int peer, std::string_view secret) {
    static std::string bytes(1 << 16, '\0');
    for (ssize_t count; (count = ::recv(peer, bytes.data(), bytes.size(), MSG_DONTWAIT)) > 0;)
        CHECK(!std::string_view(bytes).substr(0, static_cast<size_t>(count)).contains(secret));
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static std::unique_ptr<Box> box;
    static int runs = 0;
    if (runs++ % 256 == 0) box = std::make_unique<Box>();
    auto secret = put_secret(*box);
    auto pair = *make_socket_pair(SOCK_STREAM | SOCK_NONBLOCK);
    Access access{
        .author = "agent:fuzz", .read = {"n"}, .write = {"n"}, .max_entries = 100, .max_bytes = 100'000};
    CHECK(box->guests.serve(std::move(pair.first), access).has_value());
    // The first byte says how the stream is cut into pieces, at most 64.
    std::string_view bytes(reinterpret_cast<const char*>(data), size);
    size_t piece = bytes.empty() ? 1 : 1 + bytes.size() / 64 + static_cast<uint8_t>(bytes[0]) * size_t{16};
    for (bytes.remove_prefix(bytes.empty() ? 0 : 1); !bytes.empty();) {
        auto sent = ::send(pair.second.get(), bytes.data(), std::min(piece, bytes.size()), MSG_NOSIGNAL);
        if (sent <= 0) break;
        bytes.remove_prefix(static_cast<size_t>(sent));
        turn(*box);
        read_all(pair.second.get(), secret);
    }
    ::shutdown(pair.second.get(), SHUT_WR);
    for (int i = 0; i < 1000 && box->guests.connections() > 0; i++) {
        turn(*box);
        read_all(pair.second.get(), secret);
    }
    CHECK(box->guests.connections() == 0 && box->guests.watches() == 0);
    CHECK((*box->store->head("other", "k"))->value == '"' + secret + '"');
    return 0;
}

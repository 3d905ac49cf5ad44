// A server for the tests of server and client.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <poll.h>
#include <ranges>
#include <span>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "varlink/client.h"
#include "varlink/message.h"
#include "varlink/parameters.h"
#include "varlink/server.h"

namespace nullbox::varlink {

namespace json = boost::json;
using namespace std::chrono_literals;

constexpr std::string_view kDescription = R"(interface io.nullbox.test
method Echo(text: string) -> (text: string)
)";

// A server on a loop that the test turns by hand, and peers that are plain sockets: every byte on the wire is
// the test's own.
class ServerTest : public testing::Test {
protected:
    void SetUp() override {
        char folder[] = "/tmp/nullbox-varlink-XXXXXX";
        ASSERT_NE(::mkdtemp(folder), nullptr);
        ASSERT_EQ(::chmod(folder, 0755), 0);
        folder_ = folder;
        path_ = folder_ + "/test.sock";
        loop_ = *Loop::make();
    }
    void TearDown() override {
        kept_.clear();
        server_.reset();
        std::filesystem::remove_all(folder_);
    }

    InterfaceTable table() {
        InterfaceTable table{.name = "io.nullbox.test", .description = std::string(kDescription)};
        table.methods.push_back({.name = "Echo", .handle = [this](Call call) {
                                     calls_++;
                                     Parameters p(call.parameters());
                                     auto text = p.text("text", {.most_bytes = 2 << 20});
                                     if (auto wrong = p.finish())
                                         return call.invalid_parameter(wrong->parameter, wrong->message);
                                     call.reply(json::object{{"text", text}});
                                 }});
        table.methods.push_back({.name = "Keep", .handle = [this](Call call) {
                                     calls_++;
                                     kept_.push_back(std::move(call));
                                 }});
        table.methods.push_back({.name = "Drop", .handle = [](Call) {}});
        table.methods.push_back(
            {.name = "Throw", .handle = [](Call call) { (void)call.parameters().at("absent"); }});
        table.methods.push_back({.name = "Twice", .handle = [](Call call) {
                                     call.reply({});
                                     call.error("io.nullbox.test.Late", "late");
                                 }});
        table.methods.push_back({.name = "Count", .handle = [](Call call) {
                                     for (int i = 1; i < 3; i++) call.reply_continues(json::object{{"n", i}});
                                     call.reply(json::object{{"n", 3}});
                                 }});
        table.methods.push_back({.name = "Planned"});
        table.methods.push_back(
            {.name = "Forbidden", .allowed_uids = {::getuid() + 1}, .handle = [this](Call call) {
                 calls_++;
                 call.reply({});
             }});
        table.methods.push_back(
            {.name = "OnlyMe", .allowed_uids = {::getuid() + 7, ::getuid()}, .handle = [](Call call) {
                 call.reply(json::object{{"uid", call.peer().uid}, {"pid", call.peer().pid}});
             }});
        return table;
    }
    void listen(Patience patience = {}) {
        auto server =
            Server::listen(*loop_, path_, {.product = "NullBox test", .version = "1"}, table(), patience);
        ASSERT_TRUE(server.has_value()) << server.error().message;
        server_ = *std::move(server);
    }
    Fd connect() {
        Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_un address{.sun_family = AF_UNIX};
        std::ranges::copy(path_, address.sun_path);
        EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        turn();
        return socket;
    }
    // Lets the loop do all that is due now.
    void turn(int rounds = 8) {
        for (int i = 0; i < rounds; i++) ASSERT_TRUE(loop_->run_once(0ms).has_value());
    }
    void send(const Fd& peer, std::string_view bytes) {
        ASSERT_TRUE(write_all(peer.get(), bytes).has_value());
        turn();
    }
    static std::string request(std::string_view method, std::string_view parameters = "{}",
                               std::string_view more = "") {
        std::string out =
            cat(R"({"method":"io.nullbox.test.)", method, R"(","parameters":)", parameters, more, "}");
        out += '\0';
        return out;
    }
    // What has arrived, NULs shown as '|'; "<end>" behind it when the server closed.
    std::string received(const Fd& peer) {
        std::string out;
        char bytes[65536];
        for (int idle = 0;;) {
            ssize_t count = ::recv(peer.get(), bytes, sizeof bytes, MSG_DONTWAIT);
            if (count < 0 && errno == EAGAIN) {
                if (++idle == 10) return out;
                turn(4);
                continue;
            }
            idle = 0;
            if (count <= 0) return out + "<end>";
            for (char& c : std::span(bytes, static_cast<size_t>(count)))
                if (c == '\0') c = '|';
            out.append(bytes, static_cast<size_t>(count));
        }
    }

    std::string folder_, path_;
    std::unique_ptr<Loop> loop_;
    std::unique_ptr<Server> server_;
    std::vector<Call> kept_;
    int calls_ = 0;
};

} // namespace nullbox::varlink

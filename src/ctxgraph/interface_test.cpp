#include "ctxgraph/interface.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <future>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "ctxgraph/test_memory.h"
#include "net/loop_in_asio.h"
#include "varlink/answer.h"
#include "varlink/client.h"
#include "varlink/description.h"

namespace nullbox::ctxgraph {

namespace json = boost::json;
namespace asio = boost::asio;

// The service in a thread of its own, as main() puts it together; the test is its clients.
class InterfaceTest : public testing::Test {
protected:
    void SetUp() override { start({.also_allowed = {::getuid()}}); }
    void TearDown() override { stop(); }
    void start(InterfaceOptions options) {
        stop();
        options.socket_path = folder_ / "socket";
        ready_ = std::promise<void>();
        thread_ = std::thread([this, options] { run(options); });
        ready_.get_future().wait();
    }
    void stop() {
        if (!thread_.joinable()) return;
        asio::post(*context_, [this] { context_->stop(); });
        thread_.join();
    }
    void run(const InterfaceOptions& options) {
        asio::io_context context(1);
        context_ = &context;
        auto loop = *Loop::make();
        auto store = *Store::open(folder_ / "graph.db");
        Writes writes(*store, [&](std::function<void()> soon) { asio::post(context, std::move(soon)); });
        Memory memory(*store, writes);
        GuestServer guests(context, memory);
        auto server = serve_interface(*loop, memory, guests, options);
        ASSERT_TRUE(server.has_value()) << server.error().message;
        EXPECT_TRUE(varlink::check_interface(interface_table(memory, guests, options)).has_value())
            << varlink::check_interface(interface_table(memory, guests, options)).error().message;
        auto bridge = *net::LoopInAsio::attach(context, *loop);
        ready_.set_value();
        context.run();
    }
    varlink::Client client() { return *varlink::Client::connect(folder_ / "socket"); }
    Result<json::object> call(std::string_view method, const json::object& parameters = {}) {
        return client().call(cat("io.nullbox.ctxgraph.", method), parameters);
    }
    std::string refusal(std::string_view method, const json::object& parameters = {}) {
        auto answer = call(method, parameters);
        return answer.has_value() ? "answered " + json::serialize(*answer) : answer.error().message;
    }
    static json::object put_of(std::string_view key, json::value value) {
        return {{"operator", "olga"}, {"namespace", "shared"}, {"key", key}, {"value", std::move(value)}};
    }
    static json::object agent_of(std::string_view name) {
        return {{"agent", name},
                {"read", {"shared"}},
                {"write", {"shared"}},
                {"max_entries", 10},
                {"max_bytes", 100000}};
    }
    Fd serve(const json::object& parameters) {
        auto pair = *make_socket_pair(SOCK_STREAM);
        std::vector<Fd> fds;
        fds.push_back(std::move(pair.first));
        auto answer = client().call_with_fds("io.nullbox.ctxgraph.Serve", parameters, std::move(fds));
        EXPECT_TRUE(answer.has_value()) << answer.error().message;
        return std::move(pair.second);
    }
    // Until a text has come.
    static std::string exchange(const Fd& peer, const std::string& bytes, std::string_view until) {
        EXPECT_TRUE(write_all(peer.get(), bytes).has_value());
        std::string out;
        char part[4096];
        while (!out.contains(until)) {
            ssize_t count = ::read(peer.get(), part, sizeof part);
            if (count <= 0) break;
            out.append(part, static_cast<size_t>(count));
        }
        return out;
    }

    TestFolder folder_;
    asio::io_context* context_ = nullptr;
    std::promise<void> ready_;
    std::thread thread_;
};

TEST_F(InterfaceTest, OperatorsReadAndWrite) {
    auto put = call("Put", put_of("k", json::object{{"x", 1}}));
    ASSERT_TRUE(put.has_value()) << put.error().message;
    EXPECT_EQ(put->at("created"), true);
    EXPECT_EQ(put->at("position"), 1);
    auto id = put->at("id").get_string();
    EXPECT_EQ(call("Put", put_of("k", json::object{{"x", 1}}))->at("created"), false);
    auto got = call("Get", {{"namespace", "shared"}, {"key", "k"}});
    ASSERT_TRUE(got.has_value()) << got.error().message;
    const auto& entry = got->at("entry").get_object();
    EXPECT_EQ(entry.at("id"), id);
    EXPECT_EQ(json::serialize(entry.at("value")), R"({"x":1})");
    EXPECT_EQ(entry.at("value_is_text"), false);
    EXPECT_EQ(entry.at("author"), "operator:olga");
    EXPECT_EQ(call("Get", {{"id", id}})->at("entry").get_object().at("key"), "k");
    auto conflict = put_of("k", 2);
    conflict["if_head"] = "";
    EXPECT_EQ(refusal("Put", conflict),
              "io.nullbox.ctxgraph.Conflict: the key was written by somebody else since; read it again");
    conflict["if_head"] = id;
    EXPECT_TRUE(call("Put", conflict).has_value());
    EXPECT_EQ(call("History", {{"namespace", "shared"}, {"key", "k"}})->at("entries").get_array().size(), 2u);
    EXPECT_TRUE(call("Put", {{"operator", "olga"}, {"namespace", "shared"}, {"key", "k"}, {"delete", true}})
                    .has_value());
    EXPECT_TRUE(refusal("Get", {{"namespace", "shared"}, {"key", "k"}})
                    .starts_with("io.nullbox.ctxgraph.NotFound: no key"));
    EXPECT_EQ(call("Query", {{"namespace", "shared"}})->at("entries").get_array().size(), 0u);
    auto sourced = put_of("made", "red boat");
    sourced["sources"] = json::array{id};
    auto made = call("Put", sourced);
    ASSERT_TRUE(made.has_value()) << made.error().message;
    auto links = call("Get", {{"id", id}})->at("links");
    EXPECT_EQ(links.get_array().at(0).get_object().at("other"), made->at("id"));
    auto found = call("Search", {{"query", "boat"}, {"limit", 1}});
    EXPECT_EQ(found->at("entries").get_array().size(), 1u);
    EXPECT_TRUE(found->at("next").is_null());
    EXPECT_EQ(json::serialize(*call("Namespaces")),
              R"({"namespaces":[{"name":"shared","keys":1,"entries":4}]})");
    auto status = *call("Status");
    EXPECT_EQ(status.at("entries"), 4);
    EXPECT_EQ(status.at("namespaces"), 1);
    EXPECT_EQ(status.at("connections"), 0);
}

TEST_F(InterfaceTest, WhatIsWrongIsNamed) {
    EXPECT_EQ(refusal("Put", {{"operator", "olga"}, {"namespace", "shared"}, {"key", "k"}}),
              "org.varlink.service.InvalidParameter: value: is missing (or delete: true)");
    for (json::object wrong :
         {json::object{{"namespace", "Shared"}}, json::object{{"key", "link:x"}},
          json::object{{"if_head", "x"}}, json::object{{"sources", {"x"}}}, json::object{{"delete", true}},
          json::object{{"operator", ""}}, json::object{{"more", 1}}}) {
        auto parameters = put_of("k", 1);
        for (auto& [name, value] : wrong) parameters[name] = value;
        EXPECT_TRUE(refusal("Put", parameters).starts_with("org.varlink.service.InvalidParameter"))
            << json::serialize(wrong);
    }
    EXPECT_TRUE(
        refusal("Get", {{"namespace", "shared"}}).starts_with("org.varlink.service.InvalidParameter"));
    EXPECT_TRUE(refusal("Get", {{"id", std::string(64, 'a')}}).starts_with("io.nullbox.ctxgraph.NotFound"));
    EXPECT_TRUE(refusal("Query", {{"namespace", "shared"}, {"limit", 101}})
                    .starts_with("org.varlink.service.InvalidParameter"));
    EXPECT_TRUE(refusal("Search", {{"query", "+"}}).starts_with("org.varlink.service.InvalidParameter"));
    EXPECT_TRUE(refusal("Put", put_of("k", json::string(kMaxValueBytes, 'x')))
                    .starts_with("io.nullbox.ctxgraph.TooLarge"));
    EXPECT_TRUE(refusal("Watch", {{"namespace", ""}}).starts_with("org.varlink.service.InvalidParameter"));
}

TEST_F(InterfaceTest, AnAgentIsServedOnTheStreamThatComesWithTheCall) {
    auto ana = serve(agent_of("ana"));
    auto put = exchange(ana,
                        "PUT /v1/memory/shared/deep HTTP/1.1\r\nHost: localhost\r\nContent-Length: 32\r\n\r\n"
                        "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]",
                        "}");
    EXPECT_TRUE(put.contains("201 Created")) << put;
    // Deeper than a Varlink message may be: as a text, and not a failure of the call.
    auto got = call("Get", {{"namespace", "shared"}, {"key", "deep"}});
    ASSERT_TRUE(got.has_value()) << got.error().message;
    EXPECT_EQ(got->at("entry").get_object().at("value_is_text"), true);
    EXPECT_EQ(got->at("entry").get_object().at("value"), "[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]");
    EXPECT_EQ(got->at("entry").get_object().at("author"), "agent:ana");
    EXPECT_EQ(call("Status")->at("connections"), 1);
    auto other = agent_of("ben");
    other["read"] = json::array();
    auto ben = serve(other);
    EXPECT_TRUE(
        exchange(ben, "GET /v1/memory/shared/deep HTTP/1.1\r\nHost: localhost\r\n\r\n", "}").contains("403"));
}

TEST_F(InterfaceTest, ServeTakesExactlyOneStreamAndNamesOfTheRightForm) {
    EXPECT_EQ(refusal("Serve", agent_of("ana")),
              "io.nullbox.ctxgraph.CannotServe: one descriptor must come with the call, not 0");
    EXPECT_TRUE(refusal("Serve", agent_of("Ana")).starts_with("org.varlink.service.InvalidParameter"));
    EXPECT_TRUE(
        refusal("Serve", agent_of("operator:olga")).starts_with("org.varlink.service.InvalidParameter"));
    auto wrong = agent_of("ana");
    wrong["read"] = json::array{"a/b"};
    EXPECT_TRUE(refusal("Serve", wrong).starts_with("org.varlink.service.InvalidParameter"));
    std::vector<Fd> fds;
    auto pipe = *make_pipe();
    fds.push_back(std::move(pipe.read));
    auto answer = client().call_with_fds("io.nullbox.ctxgraph.Serve", agent_of("ana"), std::move(fds));
    ASSERT_FALSE(answer.has_value());
    EXPECT_TRUE(answer.error().message.ends_with("is not a connected Unix stream socket"))
        << answer.error().message;
}

TEST_F(InterfaceTest, AWatchFollows) {
    EXPECT_TRUE(call("Put", put_of("a/1", 1)).has_value());
    std::vector<std::string> seen;
    std::thread writer;
    auto watcher = client();
    auto ended = watcher.call_more("io.nullbox.ctxgraph.Watch",
                                   {{"namespace", "shared"}, {"prefix", "a/"}, {"after", 0}},
                                   [&](const json::object& answer) {
                                       for (const auto& entry : answer.at("entries").get_array())
                                           seen.emplace_back(entry.get_object().at("key").get_string());
                                       if (!writer.joinable())
                                           writer = std::thread([this] {
                                               (void)call("Put", put_of("b", 1));
                                               (void)call("Put", put_of("a/2", 1));
                                           });
                                       return seen.size() < 2;
                                   });
    writer.join();
    EXPECT_TRUE(ended.has_value()) << ended.error().message;
    EXPECT_EQ(seen, (std::vector<std::string>{"a/1", "a/2"}));
    auto now = call("Watch", {{"namespace", "shared"}, {"after", 0}}); // without "more": what there is
    EXPECT_EQ(now->at("position"), 3);
    EXPECT_EQ(now->at("entries").get_array().size(), 3u);
}

TEST_F(InterfaceTest, WhoMayCallWhat) {
    start({});
    for (const char* method :
         {"Serve", "Put", "Get", "Query", "History", "Search", "Watch", "Namespaces", "Status"})
        EXPECT_TRUE(refusal(method).starts_with("org.varlink.service.PermissionDenied"))
            << method << ": " << refusal(method);
    asio::io_context context;
    auto store = *Store::open(folder_ / "other.db");
    Writes writes(*store, [](const std::function<void()>&) {});
    Memory memory(*store, writes);
    GuestServer guests(context, memory);
    for (const auto& method : interface_table(memory, guests, {}).methods)
        EXPECT_EQ(method.allowed_uids, std::vector<uid_t>{method.name == "Serve" ? 103u : 105u})
            << method.name;
}

} // namespace nullbox::ctxgraph

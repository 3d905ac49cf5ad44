// The door with real TLS on both sides, and services that are real Varlink servers.
#include "gate/door.h"

#include <boost/asio/io_context.hpp>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <future>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/sha.h>
#include <poll.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "gate/interface.h"
#include "gate/test_client.h"
#include "net/loop_in_asio.h"
#include "varlink/description.h"
#include "varlink/server.h"

namespace nullbox::gate {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;
using varlink::Call;

// What cage does with uploads: a file, checked when it is whole.
struct FakeCage {
    std::string folder;
    int64_t next = 1;
    struct Upload {
        std::string path, digest;
    };
    std::map<int64_t, Upload> uploads;
    std::map<std::string, std::string> kept; // kind/name: path
    std::vector<int64_t> aborted;
    bool full = false, pipes = false;
    std::vector<std::thread> readers;

    static std::string text(const Call& call, const char* name) {
        return std::string(call.parameters().at(name).as_string());
    }
    void begin(Call call) {
        if (full) return call.error("io.nullbox.cage.CannotUpload", "the disk is full");
        auto number = next++;
        auto path = cat(folder, "/upload-", number);
        Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        uploads[number] = {path, text(call, "sha256")};
        names[number] = cat(text(call, "kind"), "/", text(call, "name"));
        std::vector<Fd> fds;
        if (pipes) {
            auto pipe = *make_pipe();
            fds.push_back(std::move(pipe.write));
            readers.emplace_back([from = std::move(pipe.read), to = std::move(file)] {
                char bytes[1000];
                ssize_t count = 0;
                while ((count = ::read(from.get(), bytes, sizeof bytes)) > 0)
                    (void)write_all(to.get(), std::string_view(bytes, static_cast<size_t>(count)));
            });
        } else {
            fds.push_back(std::move(file));
        }
        call.reply(json::object{{"upload", number}}, std::move(fds));
    }
    void commit(Call call) {
        auto number = call.parameters().at("upload").as_int64();
        auto& upload = uploads.at(number);
        for (auto& reader : std::exchange(readers, {})) reader.join();
        auto content = *read_file(upload.path, size_t{64} << 20);
        unsigned char digest[32];
        ::SHA256(reinterpret_cast<const unsigned char*>(content.data()), content.size(), digest);
        std::string digits;
        for (auto byte : digest) (digits += "0123456789abcdef"[byte >> 4]) += "0123456789abcdef"[byte & 15];
        if (digits != upload.digest) {
            std::filesystem::remove(upload.path);
            return call.error("io.nullbox.cage.WrongDigest", "the bytes are not what was announced");
        }
        kept[names[number]] = upload.path;
        call.reply({});
    }
    void abort(Call call) {
        auto number = call.parameters().at("upload").as_int64();
        aborted.push_back(number);
        std::filesystem::remove(uploads.at(number).path);
        call.reply({});
    }
    std::map<int64_t, std::string> names;
};

class DoorTest : public testing::Test {
protected:
    void SetUp() override {
        std::signal(SIGPIPE, SIG_IGN); // as every service does
        char folder[] = "/tmp/nullbox-gate-XXXXXX";
        ASSERT_NE(::mkdtemp(folder), nullptr);
        folder_ = folder;
        set_log_sink([this](LogLevel, std::string_view text) {
            std::lock_guard guard(log_lock_);
            log_ += cat(text, "\n");
        });
        write_operators(
            {{"alice", "admin", &alice_}, {"olga", "operator", &olga_}, {"rita", "reader", &rita_}});
    }
    void TearDown() override {
        stop();
        set_log_sink({});
        std::filesystem::remove_all(folder_);
    }

    struct Line {
        std::string name, role;
        const net::Identity* identity;
    };
    void write_operators(const std::vector<Line>& lines) {
        std::string text;
        for (const auto& line : lines)
            text += cat("[operators.", line.name, "]\npublic_key = \"",
                        net::base64(line.identity->public_key()), "\"\nrole = \"", line.role, "\"\n");
        ASSERT_TRUE(write_file_atomic(folder_ + "/machine.toml", text, 0644));
    }
    void start(Limits limits = {}) {
        std::promise<uint16_t> ready;
        auto port = ready.get_future();
        thread_ = std::thread([this, limits, &ready] { serve(limits, ready); });
        port_ = port.get();
        ASSERT_NE(port_, 0);
    }
    void stop() {
        if (!thread_.joinable()) return;
        stopping_ = true;
        thread_.join();
    }
    std::unique_ptr<varlink::Server> service(Loop& loop, const std::string& name,
                                             std::vector<varlink::Method> methods) {
        EXPECT_TRUE(make_directories(cat(folder_, "/", name)));
        return *varlink::Server::listen(loop, cat(folder_, "/", name, "/", name, ".sock"),
                                        {.product = "test", .version = "1"},
                                        {.name = "io.nullbox." + name,
                                         .description = cat("interface io.nullbox.", name, "\n"),
                                         .methods = std::move(methods)});
    }
    void serve(const Limits& limits, std::promise<uint16_t>& ready) {
        auto loop = *Loop::make();
        Operators operators(folder_ + "/machine.toml");
        boost::asio::io_context context(1);
        auto bridge = *net::LoopInAsio::attach(context, *loop);
        auto door = *Door::open(context, *loop, box_, operators,
                                {.port = 0, .run_folder = folder_, .limits = limits});
        EXPECT_TRUE(make_directories(folder_ + "/gate"));
        auto checked = varlink::check_interface(interface_table(*door, operators, {.allowed = {105}}));
        EXPECT_TRUE(checked.has_value()) << checked.error().message;
        auto own = *serve_interface(*loop, *door, operators,
                                    {.socket_path = folder_ + "/gate/gate.sock",
                                     .allowed = {::getuid()},
                                     .fingerprint = net::fingerprint(box_.public_key())});
        cage_.folder = folder_;
        auto cage =
            service(*loop, "cage",
                    {{.name = "List", .handle = [](Call call) { call.reply({{"agents", json::array()}}); }},
                     {.name = "Start", .handle = [this](Call call) { started_.push_back(std::move(call)); }},
                     {.name = "Logs", .handle = [this](Call call) { logs(std::move(call)); }},
                     {.name = "BeginUpload", .handle = [this](Call call) { cage_.begin(std::move(call)); }},
                     {.name = "CommitUpload", .handle = [this](Call call) { cage_.commit(std::move(call)); }},
                     {.name = "AbortUpload", .handle = [this](Call call) { cage_.abort(std::move(call)); }},
                     {.name = "Exec", .handle = [this](Call call) { exec(std::move(call)); }},
                     {.name = "Copy", .handle = [this](Call call) { exec(std::move(call)); }}});
        auto warden =
            service(*loop, "warden", {{.name = "Set", .handle = [this](Call call) {
                                           secret_ = FakeCage::text(call, "value_base64");
                                           call.error("io.nullbox.warden.Locked", "the vault is locked");
                                       }}});
        auto ctxgraph = service(*loop, "ctxgraph", {{.name = "Put", .handle = [](Call call) {
                                                         call.reply(json::object(call.parameters()));
                                                     }}});
        Watch look;
        std::function<void()> again = [&] {
            if (stopping_) context.stop();
            if (winding_down_.exchange(false)) door->wind_down(5s, [&] { context.stop(); });
            if (replies_)
                for (auto& call : std::exchange(started_, {})) call.reply({});
            asked_ = started_.size();
            if (operators.refresh()) door->operators_changed();
            connections_ = door->counts().connections;
            handshakes_ = door->counts().handshakes;
            look = loop->after(10ms, again);
        };
        again();
        ready.set_value(door->port());
        context.run();
        over_ = true;
    }
    void logs(Call call) {
        auto text = [](int n) { return json::object{{"lines", json::array{json::object{{"text", n}}}}}; };
        if (!call.wants_more()) return call.reply(text(0));
        if (call.parameters().contains("refuse"))
            return call.error("io.nullbox.cage.NoSuchAgent", "no agent x");
        call.reply_continues(text(1));
        call.reply_continues(text(2));
        if (call.parameters().contains("follow"))
            started_.push_back(std::move(call));
        else
            call.reply(text(3));
    }
    // The guest's end and cage's end of the lease stay here.
    void exec(Call call) {
        if (call.parameters().at("name") == "nobody")
            return call.error("io.nullbox.cage.NoSuchAgent", "no agent nobody");
        auto pair = *make_socket_pair(SOCK_STREAM);
        auto lease = *make_pipe();
        std::vector<Fd> fds;
        fds.push_back(std::move(pair.first));
        fds.push_back(std::move(lease.write));
        std::lock_guard guard(log_lock_);
        exec_said_ = json::serialize(call.parameters());
        guest_ = std::move(pair.second);
        lease_ = std::move(lease.read);
        call.reply({}, std::move(fds));
    }
    bool lease_is_held() {
        pollfd polled{.fd = lease_.get(), .events = POLLIN, .revents = 0};
        return ::poll(&polled, 1, 0) == 0;
    }
    // As far as the guest's end is there.
    HttpAnswer begin_exec(TestClient& by, std::string_view target = "/v1/exec/researcher") {
        guest_.reset();
        auto answer = by.ask("POST", target, R"({"command":["true"]})",
                             "Connection: Upgrade\r\nUpgrade: nullbox-exec\r\n");
        if (answer.status == 101) until([&] { return static_cast<bool>(guest_); });
        return answer;
    }
    TestClient client(const net::Identity& identity) {
        return TestClient({.port = port_, .identity = &identity});
    }
    std::string log() {
        std::lock_guard guard(log_lock_);
        return log_;
    }
    bool until(const std::function<bool()>& condition) {
        auto end = Clock::now() + 5s;
        while (!condition() && Clock::now() < end) std::this_thread::sleep_for(5ms);
        return condition();
    }

    net::Identity box_ = *net::Identity::make(), alice_ = *net::Identity::make(),
                  olga_ = *net::Identity::make(), rita_ = *net::Identity::make(),
                  stranger_ = *net::Identity::make();
    std::string folder_, log_, secret_;
    std::mutex log_lock_;
    std::thread thread_;
    std::atomic<bool> stopping_ = false, winding_down_ = false, replies_ = false, over_ = false;
    std::atomic<size_t> connections_ = 0, handshakes_ = 0, asked_ = 0;
    uint16_t port_ = 0;
    FakeCage cage_;
    Fd guest_, lease_;
    std::string exec_said_;
    std::vector<Call> started_; // of the gate's thread
};

constexpr std::string_view kList = "/v1/io.nullbox.cage/List";

TEST_F(DoorTest, AnOperatorGetsTheServicesAnswer) {
    start();
    auto alice = client(alice_);
    ASSERT_TRUE(alice.connected());
    EXPECT_EQ(alice.box_fingerprint(), net::fingerprint(box_.public_key()));
    auto answer = alice.ask("POST", kList, "{}");
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, R"({"agents":[]})");
    EXPECT_TRUE(answer.head.contains("Content-Type: application/json\r\n"));
    EXPECT_TRUE(answer.head.contains("Cache-Control: no-store\r\n"));
    // The same connection again; no body at all is no parameters.
    EXPECT_EQ(alice.ask("POST", kList).status, 200);
    EXPECT_EQ(alice.ask("POST", "/v1/io.nullbox.gate/WhoAmI").body,
              cat(R"({"operator":{"name":"alice","role":"admin","fingerprint":")",
                  net::fingerprint(alice_.public_key()), R"("}})"));
    EXPECT_TRUE(log().contains("alice: io.nullbox.cage/List: 200\n"));
    auto described = alice.ask("GET", "/v1/openapi.json");
    EXPECT_EQ(described.status, 200);
    EXPECT_TRUE(described.body.starts_with(R"({"openapi":"3.1.0")"));
}

TEST_F(DoorTest, StrangersAreRefusedBeforeAnyHttp) {
    start();
    // TLS 1.3: our side is done before the box has judged; what it then says is an alert, and nothing else.
    auto stranger = client(stranger_);
    EXPECT_EQ(stranger.ask("POST", kList, "{}").status, 0);
    EXPECT_TRUE(stranger.ended());
    TestClient nobody({.port = port_});
    EXPECT_EQ(nobody.ask("POST", kList, "{}").status, 0);
    EXPECT_TRUE(nobody.ended());
    TestClient old({.port = port_, .identity = &alice_, .tls12 = true});
    EXPECT_FALSE(old.connected());
    EXPECT_TRUE(log().contains(net::fingerprint(stranger_.public_key()))) << log();
    EXPECT_FALSE(log().contains("List"));
    EXPECT_EQ(client(alice_).ask("POST", kList).status, 200);
}

TEST_F(DoorTest, WhoIsStruckOffIsOutAtOnce) {
    start();
    auto olga = client(olga_), alice = client(alice_);
    ASSERT_EQ(olga.ask("POST", kList).status, 200);
    ASSERT_EQ(alice.ask("POST", kList).status, 200);
    write_operators({{"alice", "admin", &alice_}});
    EXPECT_TRUE(olga.ended());
    EXPECT_EQ(client(olga_).ask("POST", kList).status, 0);
    EXPECT_EQ(alice.ask("POST", kList).status, 200); // who stays does not notice
    // Without a configuration nobody comes in.
    std::filesystem::remove(folder_ + "/machine.toml");
    EXPECT_TRUE(alice.ended());
    EXPECT_EQ(client(alice_).ask("POST", kList).status, 0);
}

TEST_F(DoorTest, RolesDecide) {
    start();
    auto rita = client(rita_);
    EXPECT_EQ(rita.ask("POST", kList).status, 200);
    auto refused = rita.ask("POST", "/v1/io.nullbox.cage/Start", R"({"name":"x"})");
    EXPECT_EQ(refused.status, 403);
    EXPECT_EQ(refused.body, R"({"error":"io.nullbox.gate.NotAllowed","parameters":{"message":)"
                            R"("io.nullbox.cage.Start needs the role operator; rita is reader"}})");
    auto olga = client(olga_);
    EXPECT_EQ(olga.ask("POST", "/v1/io.nullbox.warden/Set", R"({"name":"x","value_base64":"eA=="})").status,
              403);
    EXPECT_EQ(secret_, "");
    EXPECT_EQ(client(olga_).ask("PUT", "/v1/upload/app/x", "x").status, 403);
    // What services keep among themselves is not there, whoever asks.
    for (auto target : {"/v1/io.nullbox.cage/BeginUpload", "/v1/io.nullbox.egress/Attach",
                        "/v1/org.varlink.service/GetInfo", "/v1/io.nullbox.cage/list", "/", "/v1/",
                        "/v1/io.nullbox.cage/List/", "//v1/io.nullbox.cage/List",
                        "/v1/io.nullbox.cage/%4cist", "/v1/io.nullbox.cage/List?more=2"})
        EXPECT_EQ(client(alice_).ask("POST", target, "{}").status, 404) << target;
    EXPECT_EQ(client(alice_).ask("GET", kList).status, 405);
}

TEST_F(DoorTest, ARefusalHasItsStatusAndNothingSecretIsLogged) {
    start();
    auto alice = client(alice_);
    auto answer =
        alice.ask("POST", "/v1/io.nullbox.warden/Set", R"({"name":"KEY","value_base64":"c2VjcmV0"})");
    EXPECT_EQ(answer.status, 423);
    EXPECT_EQ(answer.body,
              R"({"error":"io.nullbox.warden.Locked","parameters":{"message":"the vault is locked"}})");
    EXPECT_EQ(secret_, "c2VjcmV0");
    EXPECT_FALSE(log().contains("c2VjcmV0"));
    // A service that is not there.
    EXPECT_EQ(alice.ask("POST", "/v1/io.nullbox.egress/Status").status, 503);
    EXPECT_EQ(alice.ask("POST", kList, "{").status, 400);
    EXPECT_EQ(alice.ask("POST", kList, "[]").status, 400);
    EXPECT_EQ(alice.ask("POST", kList, "{}", "Origin: https://evil.example\r\n").status, 403);
}

TEST_F(DoorTest, TheOperatorsNameIsFilledIn) {
    start();
    auto olga = client(olga_);
    EXPECT_EQ(olga.ask("POST", "/v1/io.nullbox.ctxgraph/Put", R"({"key":"k"})").body,
              R"({"key":"k","operator":"olga"})");
    EXPECT_EQ(olga.ask("POST", "/v1/io.nullbox.ctxgraph/Put", R"({"operator":"alice"})").status, 400);
}

TEST_F(DoorTest, StreamsAreLines) {
    start({.heartbeat = 200ms});
    auto rita = client(rita_);
    auto answer = rita.ask("POST", "/v1/io.nullbox.cage/Logs?more=1", R"({"name":"x"})");
    EXPECT_EQ(answer.status, 200);
    EXPECT_TRUE(answer.head.contains("application/x-ndjson"));
    auto all = rita.read_until("0\r\n\r\n");
    EXPECT_EQ(all, "17\r\n{\"lines\":[{\"text\":1}]}\n\r\n17\r\n{\"lines\":[{\"text\":2}]}\n\r\n"
                   "17\r\n{\"lines\":[{\"text\":3}]}\n\r\n0\r\n\r\n");
    EXPECT_TRUE(rita.ended());
    EXPECT_EQ(client(rita_).ask("POST", "/v1/io.nullbox.cage/Logs?more=1", R"({"refuse":1})").status, 404);
    EXPECT_EQ(client(rita_).ask("POST", "/v1/io.nullbox.cage/List?more=1").status, 400);
    EXPECT_EQ(client(rita_).ask("POST", "/v1/io.nullbox.cage/Logs", "{}").body, R"({"lines":[{"text":0}]})");

    // One that goes on: a heartbeat while nothing comes; who is struck off is out of it.
    auto olga = client(olga_);
    ASSERT_EQ(olga.ask("POST", "/v1/io.nullbox.cage/Logs?more=1", R"({"follow":true})").status, 200);
    EXPECT_TRUE(olga.read_until("1\r\n\n\r\n").ends_with("1\r\n\n\r\n"));
    write_operators({{"alice", "admin", &alice_}});
    EXPECT_TRUE(olga.ended());
}

TEST_F(DoorTest, AStreamWhoseClientLeavesIsGivenUp) {
    start();
    {
        auto olga = client(olga_);
        ASSERT_EQ(olga.ask("POST", "/v1/io.nullbox.cage/Logs?more=1", R"({"follow":true})").status, 200);
        ASSERT_TRUE(until([&] { return connections_ == 1; }));
    }
    EXPECT_TRUE(until([&] { return connections_ == 0; }));
    stop();
    ASSERT_EQ(started_.size(), 1u);
    EXPECT_FALSE(started_[0].connected()); // the service saw it leave
    started_.clear();
}

TEST_F(DoorTest, TooMuchIsRefused) {
    start({.header_bytes = 2048, .body_bytes = 1000});
    EXPECT_EQ(client(alice_).ask("POST", kList, std::string(1001, ' ')).status, 413);
    EXPECT_EQ(client(alice_).ask("POST", kList, "{}", cat("X-Long: ", std::string(4096, 'x'), "\r\n")).status,
              431);
    auto chunked = client(alice_);
    (void)chunked.send(cat("POST ", kList,
                           " HTTP/1.1\r\nHost: box\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n",
                           std::string(2000, ' '), "\r\n0\r\n\r\n"));
    EXPECT_EQ(chunked.answer().status, 413);
    auto noise = client(alice_);
    (void)noise.send("\x16\x03\x01 nonsense\r\n\r\n");
    EXPECT_EQ(noise.answer().status, 400);
    std::string deep;
    for (int i = 0; i < 100; i++) deep += "[";
    EXPECT_EQ(client(alice_).ask("POST", kList, cat(R"({"x":)", deep, "}")).status, 400);
}

TEST_F(DoorTest, TheSlowAreShownOut) {
    start({.handshakes = 4, .of_one_peer = 100, .handshake = 300ms, .header = 300ms, .idle = 300ms});
    // Connections that say nothing: each has its time, and more than the bound push the oldest out.
    std::vector<Fd> silent;
    for (int i = 0; i < 12; i++) {
        silent.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{.sin_family = AF_INET, .sin_port = htons(port_)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ASSERT_EQ(::connect(silent.back().get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    }
    EXPECT_EQ(client(alice_).ask("POST", kList).status, 200); // an operator comes in all the same
    EXPECT_TRUE(until([&] { return handshakes_ == 0; }));
    // A head that never ends, a byte at a time.
    auto slow = client(alice_);
    (void)slow.send("POST ");
    auto begin = Clock::now();
    EXPECT_TRUE(slow.ended());
    EXPECT_LT(Clock::now() - begin, 5s);
    auto idle = client(alice_);
    EXPECT_EQ(idle.ask("POST", kList).status, 200);
    EXPECT_TRUE(idle.ended());
}

TEST_F(DoorTest, OnePeerCannotTakeAllPlaces) {
    start({.of_one_peer = 3});
    auto one = client(alice_), two = client(alice_), three = client(alice_);
    for (auto* each : {&one, &two, &three}) EXPECT_EQ(each->ask("POST", kList).status, 200);
    EXPECT_EQ(client(alice_).ask("POST", kList).status, 0);
    one.cut();
    EXPECT_TRUE(until([&] { return connections_ == 2; }));
    EXPECT_EQ(client(alice_).ask("POST", kList).status, 200);
}

// A script that calls nullctl again and again must not be taken for one that takes all places.
TEST_F(DoorTest, WhoeverHasLeftTakesNoPlace) {
    start({.of_one_peer = 3});
    for (int i = 0; i < 6; i++) {
        auto one = client(alice_);
        EXPECT_EQ(one.ask("POST", kList).status, 200);
        one.end();
        auto begin = Clock::now();
        EXPECT_TRUE(until([&] { return connections_ == 0; }));
        EXPECT_LT(Clock::now() - begin, 1s);
    }
}

// As when the machine reboots because somebody asked for it through this very door.
TEST_F(DoorTest, ItWindsDownWithTheAnswersThatAreOnTheirWay) {
    start();
    auto olga = client(olga_), idle = client(alice_), reader = client(rita_);
    ASSERT_EQ(idle.ask("POST", kList).status, 200);
    ASSERT_EQ(reader.ask("POST", "/v1/io.nullbox.cage/Logs?more=1", R"({"follow":true})").status, 200);
    ASSERT_TRUE(until([&] { return asked_ == 1; }));
    auto answered = std::async(std::launch::async, [&] {
        return olga.ask("POST", "/v1/io.nullbox.cage/Start", R"({"name":"x"})").status;
    });
    ASSERT_TRUE(until([&] { return asked_ == 2; }));

    winding_down_ = true;
    EXPECT_TRUE(idle.ended());
    EXPECT_TRUE(reader.ended());
    EXPECT_FALSE(client(alice_).connected());
    EXPECT_FALSE(over_);
    replies_ = true;
    EXPECT_EQ(answered.get(), 200);
    EXPECT_TRUE(olga.ended());
    olga.cut();
    EXPECT_TRUE(until([&] { return over_.load(); }));
}

TEST_F(DoorTest, WithNobodyInItWindsDownAtOnce) {
    start();
    winding_down_ = true;
    EXPECT_TRUE(until([&] { return over_.load(); }));
}

std::string digest_header(std::string_view body) {
    unsigned char digest[32];
    ::SHA256(reinterpret_cast<const unsigned char*>(body.data()), body.size(), digest);
    return cat("Repr-Digest: sha-256=:", net::base64({reinterpret_cast<const char*>(digest), 32}), ":\r\n");
}

TEST_F(DoorTest, AnUploadArrivesWhole) {
    start();
    std::string body;
    for (int i = 0; i < 300'000; i++) body += static_cast<char>(i * 7);
    auto alice = client(alice_);
    EXPECT_EQ(alice.ask("PUT", "/v1/upload/app/researcher", body, digest_header(body)).status, 200);
    EXPECT_EQ(alice.ask("PUT", "/v1/upload/manifest/researcher", "x", digest_header("y")).status, 409);
    // Asked first, so that a refusal costs no upload.
    (void)alice.send(cat(
        "PUT /v1/upload/image/python HTTP/1.1\r\nHost: box\r\nContent-Length: 3\r\nExpect: 100-continue\r\n",
        digest_header("abc"), "\r\n"));
    EXPECT_EQ(alice.answer().status, 100);
    (void)alice.send("abc");
    EXPECT_EQ(alice.answer().status, 200);
    stop();
    ASSERT_TRUE(cage_.kept.contains("app/researcher"));
    EXPECT_EQ(*read_file(cage_.kept["app/researcher"]), body);
    EXPECT_EQ(*read_file(cage_.kept["image/python"]), "abc");
    EXPECT_FALSE(cage_.kept.contains("manifest/researcher"));
}

TEST_F(DoorTest, AnUploadWaitsForAPipe) {
    cage_.pipes = true;
    start();
    std::string body(2'000'000, 'x');
    EXPECT_EQ(client(alice_).ask("PUT", "/v1/upload/app/big", body, digest_header(body)).status, 200);
    stop();
    EXPECT_EQ(read_file(cage_.kept["app/big"], size_t{4} << 20)->size(), body.size());
}

TEST_F(DoorTest, AnUploadThatIsCutLeavesNothing) {
    start();
    for (size_t sent : {size_t{0}, size_t{1}, size_t{70'000}}) {
        auto alice = client(alice_);
        (void)alice.send(cat("PUT /v1/upload/app/x HTTP/1.1\r\nHost: box\r\nContent-Length: 100000\r\n",
                             digest_header("never"), "\r\n", std::string(sent, 'x')));
        std::this_thread::sleep_for(50ms);
        alice.cut();
    }
    EXPECT_TRUE(until([&] { return connections_ == 0 && log().contains("upload/app/x"); }));
    stop();
    EXPECT_EQ(cage_.aborted, (std::vector<int64_t>{1, 2, 3}));
    EXPECT_TRUE(cage_.kept.empty());
    for (const auto& entry : std::filesystem::directory_iterator(folder_))
        EXPECT_FALSE(entry.path().filename().string().starts_with("upload-")) << entry.path();
}

TEST_F(DoorTest, UploadsAreChecked) {
    start({.upload_bytes = 1000});
    auto status = [&](std::string_view target, std::string_view headers) {
        return client(alice_).ask("PUT", target, "x", headers).status;
    };
    EXPECT_EQ(status("/v1/upload/app/x", ""), 400); // no digest
    EXPECT_EQ(status("/v1/upload/app/x", "Repr-Digest: sha-256=:AAAA:\r\n"), 400);
    EXPECT_EQ(status("/v1/upload/kernel/x", digest_header("x")), 404);
    EXPECT_EQ(status("/v1/upload/app/..", digest_header("x")), 404);
    EXPECT_EQ(status("/v1/upload/app/a%2fb", digest_header("x")), 404);
    EXPECT_EQ(
        client(alice_).ask("PUT", "/v1/upload/app/x", std::string(1001, 'x'), digest_header("x")).status,
        413);
    auto chunked = client(alice_);
    (void)chunked.send(cat("PUT /v1/upload/app/x HTTP/1.1\r\nHost: box\r\nTransfer-Encoding: chunked\r\n",
                           digest_header("x"), "\r\n1\r\nx\r\n0\r\n\r\n"));
    EXPECT_EQ(chunked.answer().status, 411);
    cage_.full = true;
    auto refused = client(alice_).ask("PUT", "/v1/upload/app/x", "x", digest_header("x"));
    EXPECT_EQ(refused.status, 409);
    EXPECT_TRUE(refused.body.contains("the disk is full"));
}

TEST_F(DoorTest, AStreamIntoAnAgentCarriesBytesBothWays) {
    start();
    auto olga = client(olga_);
    auto answer = begin_exec(olga);
    EXPECT_EQ(answer.status, 101);
    EXPECT_TRUE(answer.head.contains("Upgrade: nullbox-exec\r\n")) << answer.head;
    EXPECT_EQ(exec_said_, R"({"command":["true"],"operator":"olga","name":"researcher"})");
    EXPECT_TRUE(lease_is_held());
    std::string binary("\0\xff\r\n\r\n", 6);
    EXPECT_TRUE(olga.send(binary + "|"));
    char bytes[16] = {};
    EXPECT_EQ(::recv(guest_.get(), bytes, 7, MSG_WAITALL), 7);
    EXPECT_EQ(std::string(bytes, 6), binary);
    EXPECT_TRUE(write_all(guest_.get(), binary + "|"));
    EXPECT_EQ(olga.read_until("|"), binary + "|");
    // What the guest said last arrives, then the end.
    EXPECT_TRUE(write_all(guest_.get(), "last words|"));
    guest_.reset();
    EXPECT_EQ(olga.read_until("|"), "last words|");
    EXPECT_TRUE(olga.ended());
    EXPECT_TRUE(until([&] { return !lease_is_held(); }));
    EXPECT_TRUE(until([&] { return log().contains("olga: exec/researcher: ended\n"); }));
    EXPECT_TRUE(log().contains("olga: exec/researcher: 101\n"));
}

TEST_F(DoorTest, WhoLeavesAStreamIntoAnAgentEndsIt) {
    start();
    for (bool cut : {false, true}) {
        auto olga = std::make_unique<TestClient>(TestClient::Options{.port = port_, .identity = &olga_});
        ASSERT_EQ(begin_exec(*olga, "/v1/copy/researcher").status, 101);
        if (cut) olga->cut();
        olga.reset();
        char byte = 0;
        EXPECT_EQ(::recv(guest_.get(), &byte, 1, 0), 0); // the guest sees it
        EXPECT_TRUE(until([&] { return !lease_is_held(); }));
    }
    auto olga = client(olga_);
    ASSERT_EQ(begin_exec(olga).status, 101);
    write_operators({{"alice", "admin", &alice_}}); // struck off in the middle
    EXPECT_TRUE(olga.ended());
    EXPECT_TRUE(until([&] { return !lease_is_held(); }));
}

TEST_F(DoorTest, AReaderWhoWaitsStopsItsOwnGuestOnly) {
    start();
    auto olga = client(olga_);
    ASSERT_EQ(begin_exec(olga).status, 101);
    ASSERT_TRUE(set_nonblocking(guest_.get()));
    size_t sent = 0;
    std::string piece(65536, 'x');
    auto quiet_since = Clock::now();
    while (Clock::now() - quiet_since < 300ms) { // until nothing more goes in
        ssize_t count = ::send(guest_.get(), piece.data(), piece.size(), MSG_NOSIGNAL);
        if (count > 0) sent += static_cast<size_t>(count), quiet_since = Clock::now();
    }
    EXPECT_LT(sent, size_t{64} << 20); // the kernel's buffers, and one piece of ours
    EXPECT_EQ(client(alice_).ask("POST", kList, "{}").status, 200);
    std::string all;
    while (all.size() < sent) {
        auto some = olga.read_until("never");
        if (some.empty()) break;
        all += some;
    }
    EXPECT_EQ(all.size(), sent);
}

TEST_F(DoorTest, StreamsIntoAgentsAreChecked) {
    start({.execs = 1});
    auto rita = client(rita_);
    auto refused = begin_exec(rita);
    EXPECT_EQ(refused.status, 403);
    EXPECT_TRUE(refused.body.contains("exec needs the role operator; rita is reader")) << refused.body;
    EXPECT_EQ(exec_said_, "");
    auto upgrade = "Connection: Upgrade\r\nUpgrade: nullbox-exec\r\n";
    auto status = [&](std::string_view target, std::string_view body, std::string_view headers) {
        return client(alice_).ask("POST", target, body, headers).status;
    };
    EXPECT_EQ(status("/v1/exec/researcher", "{}", ""), 426);
    EXPECT_EQ(status("/v1/exec/researcher", "{}", "Upgrade: websocket\r\n"), 426);
    EXPECT_EQ(status("/v1/exec/researcher", R"({"operator":"bob"})", upgrade), 400);
    EXPECT_EQ(status("/v1/exec/researcher", R"({"name":"other"})", upgrade), 400);
    EXPECT_EQ(status("/v1/exec/researcher", "{", upgrade), 400);
    EXPECT_EQ(status("/v1/exec/Researcher", "{}", upgrade), 404);
    EXPECT_EQ(status("/v1/exec/nobody", "{}", upgrade), 404);
    EXPECT_EQ(status("/v1/io.nullbox.cage/Exec", "{}", upgrade), 404);
    EXPECT_EQ(client(alice_).ask("GET", "/v1/exec/researcher").status, 405);
    auto olga = client(olga_);
    ASSERT_EQ(begin_exec(olga).status, 101);
    EXPECT_EQ(status("/v1/exec/researcher", R"({"command":["x"]})", upgrade), 429);
}

} // namespace
} // namespace nullbox::gate

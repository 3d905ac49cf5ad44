// Egress over its interface, as cage and gate use it, on a network that is a socket pair.
#include "egress/egress.h"

#include <atomic>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <filesystem>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <set>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "egress/interface.h"
#include "egress/loop_thread_for_test.h"
#include "varlink/answer.h"
#include "varlink/client.h"
#include "varlink/description.h"
#include "varlink/lines.h"

namespace nullbox::egress {
namespace {

namespace json = boost::json;

Fd loopback_socket(int type) {
    Fd fd(::socket(AF_INET, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    if (type == SOCK_STREAM) EXPECT_EQ(::listen(fd.get(), 8), 0);
    return fd;
}

class EgressTest : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_TRUE(make_directories(folder_));
        thread_ = std::make_unique<LoopThread>();
        NetworkAccess network{
            .attach = [this](unsigned slot, std::vector<Endpoint4> literals) -> Result<AttachedTap> {
                if (!rules_loaded_)
                    return error("the firewall rules are not loaded: the kernel refused rule 3");
                taps_.insert(slot);
                literals_ = std::move(literals);
                return AttachedTap{tap_link(slot), std::move((*make_socket_pair(SOCK_STREAM)).first)};
            },
            .detach = [this](unsigned slot) { taps_.erase(slot); },
            .set_literals = [this](unsigned, std::vector<Endpoint4> literals) -> Result<> {
                literals_ = std::move(literals);
                return {};
            },
            .open_dns = [](const TapLink&) -> Result<DnsSockets> {
                return DnsSockets{loopback_socket(SOCK_DGRAM), loopback_socket(SOCK_STREAM)};
            },
            .dropped_packets = [](unsigned) { return uint64_t{7}; },
            .status =
                [this] {
                    NetworkStatus status{.rules_loaded = true};
                    status.uplink = {.name = "eth0",
                                     .carrier = carrier_,
                                     .state = carrier_ ? "static address" : "no cable"};
                    status.addresses = {*IpAddress::parse("fe80::1"), *IpAddress::parse("192.0.2.7")};
                    status.own_addresses = {{*IpAddress::parse("203.0.113.9"), 24}};
                    status.gateway = Ip4::parse("192.0.2.1");
                    if (has_problem_) status.problems = {"no answer to DHCP"};
                    if (has_ipv6_) {
                        status.addresses.push_back(*IpAddress::parse("2001:db8::7"));
                        status.gateway6 = Ip6::parse("fe80::1");
                    }
                    return status;
                }};
        egress_ = *Egress::make(thread_->tasks(), std::move(network), {.state_folder = folder_});
        ASSERT_TRUE(varlink::check_interface(interface_table(*egress_, {})));
        server_ = *serve_interface(thread_->loop(), *egress_, folder_ + "/egress.sock", allowed_);
        thread_->start();
    }
    void TearDown() override {
        thread_->stop();
        server_.reset();
        egress_.reset();
        thread_.reset();
        std::filesystem::remove_all(folder_);
    }
    Result<json::object> call(std::string_view method, json::object parameters) {
        auto client = TRY(varlink::Client::connect(folder_ + "/egress.sock"));
        return client.call(cat("io.nullbox.egress.", method), parameters);
    }
    static json::object attach_parameters(std::string agent) {
        return {{"agent", agent},
                {"allow", json::array{"api.example.org", "*.example.net", "192.0.2.9:8080"}},
                {"allow_private", json::array{}},
                {"inject", json::array{json::object{{"secret", "KEY"},
                                                    {"host", "api.example.org"},
                                                    {"header", "Authorization"},
                                                    {"format", "Bearer {secret}"},
                                                    {"placeholder", "nullbox-KEY-x"}}}}};
    }
    // On egress's own thread, so that nothing races.
    template <typename Do>
    std::invoke_result_t<Do> there(Do todo) {
        return thread_->there(std::move(todo));
    }
    void drop(DroppedPacket packet) {
        there([&] {
            egress_->packet_dropped(packet);
            return true;
        });
    }

    std::string folder_ = cat(testing::TempDir(), "egress_test_", ::getpid());
    std::vector<uid_t> allowed_{::getuid()};
    bool rules_loaded_ = true;
    std::atomic<bool> carrier_ = true, has_ipv6_ = false, has_problem_ = false;
    std::set<unsigned> taps_;
    std::vector<Endpoint4> literals_;
    std::unique_ptr<LoopThread> thread_;
    std::unique_ptr<Egress> egress_;
    std::unique_ptr<varlink::Server> server_;
};

TEST_F(EgressTest, RulesAreReplacedWhileAnAgentRuns) {
    ASSERT_TRUE(call("Attach", attach_parameters("one")));
    auto other = attach_parameters("one");
    other["allow"] = json::array{"api.example.org", "new.example.com", "192.0.2.10:22"};
    auto answer = call("Update", other);
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->at("ended").to_number<int>(), 0);
    EXPECT_EQ(literals_, (std::vector<Endpoint4>{{*Ip4::parse("192.0.2.10"), 22}}));
    auto allowed = [&](std::string_view destination) {
        return call("Explain", {{"agent", "one"}, {"destination", destination}})->at("allowed").as_bool();
    };
    EXPECT_TRUE(allowed("new.example.com"));
    EXPECT_FALSE(allowed("x.example.net"));
    // Wrong rules change nothing.
    other["allow"] = json::array{"https://example.org"};
    EXPECT_FALSE(call("Update", other));
    EXPECT_TRUE(allowed("new.example.com"));
    EXPECT_FALSE(call("Update", attach_parameters("nobody")));
}

// Control: Egress::attach() takes the ledger by the agent's name.
TEST_F(EgressTest, ABudgetStaysOverDetachAndAttach) {
    auto parameters = attach_parameters("one");
    parameters["budget"] = {{"connections", 5}, {"bytes", 1000}};
    auto used = [&] {
        auto status = *call("Status", {});
        auto budget = status.at("agents").at(0).at("budget").get_array();
        EXPECT_EQ(budget.size(), 2u);
        EXPECT_EQ(budget.at(1).at("resource").get_string(), "connections");
        EXPECT_EQ(budget.at(1).at("limit").to_number<int>(), 5);
        return budget.at(1).at("used").to_number<int>();
    };
    ASSERT_TRUE(call("Attach", parameters));
    there([&] {
        auto agent = egress_->agents().find("one");
        return agent->ledger->take(Resource::Connections, 3, agent->policy->budget(), Clock::now());
    });
    EXPECT_EQ(used(), 3);
    ASSERT_TRUE(call("Attach", parameters));
    EXPECT_EQ(used(), 3);
    ASSERT_TRUE(call("Detach", {{"agent", "one"}}));
    ASSERT_TRUE(call("Attach", parameters));
    EXPECT_EQ(used(), 3);
    ASSERT_TRUE(call("Update", parameters));
    EXPECT_EQ(used(), 3);
    EXPECT_TRUE(read_file(folder_ + "/budgets.json")->contains("\"one\""));
}

TEST_F(EgressTest, RulesForRequestsAreTakenAndExplained) {
    auto parameters = attach_parameters("one");
    parameters["rules"] = json::array{json::object{{"host", "api.example.org"},
                                                   {"methods", json::array{"GET", "HEAD"}},
                                                   {"paths", json::array{"/v1/*"}}}};
    ASSERT_TRUE(call("Attach", parameters));
    auto explain = [&](const char* to, const char* method) {
        return *call("Explain", {{"agent", "one"}, {"destination", to}, {"method", method}});
    };
    EXPECT_TRUE(explain("api.example.org", "GET").at("allowed").as_bool());
    EXPECT_EQ(explain("api.example.org", "GET").at("requests").at(0).get_string(), "GET, HEAD /v1/*");
    EXPECT_EQ(explain("https://api.example.org/v1/a", "GET").at("rule").get_string(),
              "api.example.org GET /v1/*");
    auto denied = explain("https://api.example.org/v1/a?x", "POST");
    EXPECT_FALSE(denied.at("allowed").as_bool());
    EXPECT_EQ(denied.at("add").get_string(),
              "rule = [{ host = \"api.example.org\", methods = [\"POST\"], paths = [\"/v1/a\"] }]");
    EXPECT_FALSE(explain("https://api.example.org/v1/%2e%2e/a", "GET").at("allowed").as_bool());
    EXPECT_TRUE(explain("a.example.net/any", "POST").at("allowed").as_bool());
}

TEST_F(EgressTest, AnAgentIsAttachedWithATapAndTheBoxsCertificate) {
    auto client = *varlink::Client::connect(folder_ + "/egress.sock");
    auto answer = client.call_with_fds("io.nullbox.egress.Attach", attach_parameters("one"), {});
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->fds.size(), 1);
    EXPECT_EQ(answer->parameters.at("address").get_string(), "198.18.0.2");
    EXPECT_EQ(answer->parameters.at("gateway").get_string(), "198.18.0.1");
    EXPECT_EQ(answer->parameters.at("prefix").get_int64(), 30);
    EXPECT_TRUE(answer->parameters.at("ca_pem").get_string().starts_with("-----BEGIN CERTIFICATE-----"));
    auto status = *call("Status", {});
    EXPECT_EQ(status.at("agents").get_array().size(), 1);
    EXPECT_EQ(status.at("agents").get_array()[0].at("dropped_packets").to_number<int>(), 7);
    EXPECT_EQ(there([&] { return egress_->status_line(); }), "192.0.2.7 via 192.0.2.1, 1 agent");
    EXPECT_TRUE(status.at("gateway6").is_null());
    has_ipv6_ = true;
    EXPECT_EQ(there([&] { return egress_->status_line(); }),
              "192.0.2.7 via 192.0.2.1, 2001:db8::7 via fe80::1, 1 agent");
    EXPECT_EQ(call("Status", {})->at("gateway6").get_string(), "fe80::1");
    carrier_ = false;
    EXPECT_EQ(there([&] { return egress_->status_line(); }), "no cable, address 192.0.2.7, 2001:db8::7");
    has_ipv6_ = false;
    has_problem_ = carrier_ = true;
    EXPECT_EQ(there([&] { return egress_->status_line(); }),
              "192.0.2.7 via 192.0.2.1, 1 agent; no answer to DHCP");
    has_problem_ = carrier_ = false;
    EXPECT_EQ(there([&] { return egress_->status_line(); }), "no cable, address 192.0.2.7");
    ASSERT_TRUE(call("Attach", attach_parameters("one"))) << "again: replaced";
    EXPECT_EQ(taps_.size(), 1);
    ASSERT_TRUE(call("Attach", attach_parameters("two")));
    EXPECT_EQ(taps_.size(), 2);
    EXPECT_EQ(literals_, (std::vector<Endpoint4>{{*Ip4::parse("192.0.2.9"), 8080}}));
    ASSERT_TRUE(call("Detach", {{"agent", "one"}}));
    ASSERT_TRUE(call("Detach", {{"agent", "one"}}));
    EXPECT_EQ(taps_, std::set<unsigned>{1});
}

// Control: fail closed. What cannot be held back is not let out.
TEST_F(EgressTest, WithoutRulesNobodyGetsANetworkAndTheReasonIsSaid) {
    rules_loaded_ = false;
    auto answer = call("Attach", attach_parameters("one"));
    ASSERT_FALSE(answer);
    EXPECT_TRUE(answer.error().message.starts_with(
        "io.nullbox.egress.CannotAttach: agent one gets no network: the firewall rules"))
        << answer.error().message;
    EXPECT_TRUE((*call("Status", {})).at("agents").get_array().empty());
}

TEST_F(EgressTest, WhatIsWrongInARequestIsRefused) {
    auto wrong = [&](auto change) {
        auto parameters = attach_parameters("one");
        change(parameters);
        auto answer = call("Attach", parameters);
        EXPECT_FALSE(answer);
        return answer ? std::string() : answer.error().message;
    };
    EXPECT_TRUE(wrong([](auto& p) { p["agent"] = "../x"; }).contains("InvalidParameter"));
    EXPECT_TRUE(wrong([](auto& p) { p["inject"] = json::array{1}; }).contains("InvalidParameter"));
    EXPECT_TRUE(wrong([](auto& p) { p.erase("inject"); }).contains("InvalidParameter"));
    EXPECT_TRUE(
        wrong([](auto& p) { p["inject"].at(0).get_object()["host"] = "a b"; }).contains("InvalidParameter"));
    EXPECT_TRUE(wrong([](auto& p) {
                    p["inject"].at(0).get_object()["host"] = "other.example";
                }).contains("CannotAttach"));
    EXPECT_TRUE(wrong([](auto& p) { p["allow"] = json::array{"https://x.org"}; }).contains("CannotAttach"));
    EXPECT_TRUE(wrong([](auto& p) { p["rules"] = json::array{1}; }).contains("InvalidParameter"));
    EXPECT_TRUE(wrong([](auto& p) {
                    p["rules"] = json::array{json::object{{"host", "api.example.org"},
                                                          {"methods", json::array{"get"}},
                                                          {"paths", json::array{}}}};
                }).contains("upper case"));
    EXPECT_TRUE(wrong([](auto& p) { p["budget"] = {{"bytes", -1}}; }).contains("InvalidParameter"));
    EXPECT_TRUE(wrong([](auto& p) { p["budget"] = 5; }).contains("InvalidParameter"));
    EXPECT_TRUE(wrong([](auto& p) { p["colour"] = "blue"; }).contains("InvalidParameter"));
    EXPECT_TRUE(taps_.empty());
}

TEST_F(EgressTest, ExplainSaysWhatWouldHappenAndWhatWouldHelp) {
    ASSERT_TRUE(call("Attach", attach_parameters("one")));
    auto explain = [&](const char* to) { return *call("Explain", {{"agent", "one"}, {"destination", to}}); };
    EXPECT_EQ(explain("api.example.org").at("mode").get_string(), "terminate");
    EXPECT_EQ(explain("a.example.net:443").at("rule").get_string(), "*.example.net");
    EXPECT_EQ(explain("evil.test").at("add").get_string(), "allow = [\"evil.test\"]");
    EXPECT_FALSE(call("Explain", {{"agent", "one"}, {"destination", "a b"}}));
    EXPECT_TRUE(call("Denials", {{"lines", varlink::kMostLines}})) << "as many as nullctl may ask for";
    EXPECT_FALSE(call("Denials", {{"lines", varlink::kMostLines + 1}}));
    EXPECT_FALSE(call("Explain", {{"agent", "nobody"}, {"destination", "a.org"}}));
}

// Each kind of packet that the rules drop, with the line that would let it through where there is one.
TEST_F(EgressTest, DroppedPacketsAreDenials) {
    ASSERT_TRUE(call("Attach", attach_parameters("one")));
    auto source = *IpAddress::parse("198.18.0.2");
    auto packet = [&](uint8_t protocol, const char* to, uint16_t port) {
        drop({.slot = 0,
              .protocol = protocol,
              .source = source,
              .destination = *IpAddress::parse(to),
              .destination_port = port});
    };
    packet(IPPROTO_TCP, "8.8.8.8", 443);
    packet(IPPROTO_UDP, "8.8.8.8", 53);
    packet(IPPROTO_TCP, "169.254.169.254", 80);
    packet(IPPROTO_TCP, "198.18.4.2", 80); // another agent
    packet(IPPROTO_ICMP, "8.8.8.8", 0);
    packet(IPPROTO_TCP, "203.0.113.9", 8443);   // the box itself
    packet(IPPROTO_ICMPV6, "ff02::2", 0);       // housekeeping
    drop({.slot = 9, .protocol = IPPROTO_TCP}); // nobody's
    auto records = (*call("Denials", {{"agent", "one"}})).at("records").get_array();
    ASSERT_EQ(records.size(), 6);
    EXPECT_EQ(records[0].at("add").get_string(), "allow = [\"8.8.8.8:443\"]");
    EXPECT_EQ(records[0].at("kind").get_string(), "packet");
    for (size_t i = 1; i < 6; i++) EXPECT_TRUE(records[i].at("add").is_null()) << i;
    EXPECT_TRUE(std::string(records[1].at("reason").get_string()).contains("resolver at 198.18.0.1"));
    EXPECT_TRUE(std::string(records[2].at("reason").get_string()).contains("metadata"));
    EXPECT_TRUE(std::string(records[3].at("reason").get_string()).contains("this box"));
    EXPECT_TRUE((*call("Denials", {{"agent", "two"}})).at("records").get_array().empty());
}

TEST_F(EgressTest, DenialsAreFollowed) {
    ASSERT_TRUE(call("Attach", attach_parameters("one")));
    std::thread later;
    int answers = 0;
    auto client = *varlink::Client::connect(folder_ + "/egress.sock");
    auto followed =
        client.call_more("io.nullbox.egress.Denials", {{"follow", true}}, [&](const json::object& answer) {
            if (answers++ == 0) {
                EXPECT_TRUE(answer.at("records").get_array().empty());
                later = std::thread([&] {
                    drop({.slot = 0,
                          .protocol = IPPROTO_UDP,
                          .destination = *IpAddress::parse("8.8.8.8"),
                          .destination_port = 123});
                });
                return true;
            }
            EXPECT_EQ(answer.at("records").get_array().size(), 1);
            return false;
        });
    EXPECT_TRUE(followed);
    later.join();
    EXPECT_EQ(answers, 2);
    EXPECT_FALSE(call("Denials", {{"follow", true}})) << "needs more";
}

// Control: the table of who may call what.
TEST_F(EgressTest, OnlyCageAttachesAndOnlyGateReads) {
    auto table = interface_table(*egress_, {});
    auto allowed = [&](std::string_view name) {
        return std::ranges::find(table.methods, name, &varlink::Method::name)->allowed_uids;
    };
    EXPECT_EQ(allowed("Attach"), std::vector<uid_t>{103});
    EXPECT_EQ(allowed("Detach"), std::vector<uid_t>{103});
    EXPECT_EQ(allowed("Denials"), std::vector<uid_t>{105});
    EXPECT_EQ(allowed("Records"), std::vector<uid_t>{105});
    EXPECT_EQ(allowed("Explain"), std::vector<uid_t>{105});
    EXPECT_EQ(allowed("Status"), (std::vector<uid_t>{103, 105}));
    auto strict =
        there([&] { return *serve_interface(thread_->loop(), *egress_, folder_ + "/strict.sock", {}); });
    auto client = *varlink::Client::connect(folder_ + "/strict.sock");
    auto answer = client.call("io.nullbox.egress.Status", {});
    ASSERT_FALSE(answer);
    EXPECT_TRUE(answer.error().message.contains("PermissionDenied")) << answer.error().message;
    there([&] { return strict.reset(), true; });
}

} // namespace
} // namespace nullbox::egress

#include "manifest/machine.h"

#include <gtest/gtest.h>

#include "manifest/test_document.h"

namespace nullbox::manifest {

constexpr std::string_view kFile = "machine.toml";

static const TestDocument kWhole(R"(hostname = "box1"
time_servers = ["time.example.org", "192.0.2.1"]
dns_servers = ["192.0.2.53", "2001:db8::53"]
[network]
address = "192.0.2.7/24"
gateway = "192.0.2.1")");

constexpr std::string_view kKey = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE+/8=";

static MachineConfig applied(std::initializer_list<std::string_view> documents,
                             std::string_view command_line = "") {
    MachineConfig config;
    for (auto text : documents) apply_machine_document(config, text, kFile);
    apply_kernel_command_line(config, command_line);
    return config;
}

TEST(Machine, WholeDocument) {
    auto config = applied({kWhole.text()});
    EXPECT_EQ(to_text(config.diagnostics), "");
    EXPECT_EQ(config.hostname, "box1");
    EXPECT_EQ(config.time_servers, (std::vector<std::string>{"time.example.org", "192.0.2.1"}));
    EXPECT_EQ(config.dns_servers, (std::vector<std::string>{"192.0.2.53", "2001:db8::53"}));
    EXPECT_EQ(config.address, "192.0.2.7/24");
    EXPECT_EQ(config.gateway, "192.0.2.1");
    EXPECT_FALSE(config.dhcp);
}

TEST(Machine, NothingIsRequired) {
    auto config = applied({"", "# nothing\n"}, "quiet console=ttyS0");
    EXPECT_EQ(to_text(config.diagnostics), "");
    EXPECT_EQ(config.hostname, std::nullopt);
    EXPECT_TRUE(config.dhcp);
}

TEST(Machine, LaterWinsKeyByKey) {
    auto config =
        applied({kWhole.text(), "hostname = \"box2\"\n", "dns_servers = []\n"}, "nullbox.hostname=box3");
    EXPECT_EQ(to_text(config.diagnostics), "");
    EXPECT_EQ(config.hostname, "box3");
    EXPECT_TRUE(config.dns_servers.empty());
    EXPECT_EQ(config.time_servers.size(), 2u);
    EXPECT_EQ(config.address, "192.0.2.7/24");
}

TEST(Machine, AddressAndDhcpReplaceEachOther) {
    auto config = applied({kWhole.text(), "network.dhcp = true\n"});
    EXPECT_TRUE(config.dhcp);
    EXPECT_EQ(config.address, std::nullopt);
    EXPECT_EQ(config.gateway, std::nullopt);
    config = applied({kWhole.text(), "network.gateway = \"192.0.2.2\"\n"});
    EXPECT_EQ(config.gateway, "192.0.2.2");
    EXPECT_EQ(config.address, "192.0.2.7/24");
    config = applied({"network.dhcp = false\n"});
    EXPECT_FALSE(config.dhcp);
    EXPECT_EQ(to_text(config.diagnostics), "");
}

TEST(Machine, EachFamilyIsConfiguredForItself) {
    EXPECT_TRUE(applied({""}).router_advertisements);
    auto config = applied({"[network]\naddress6 = \"2001:db8::7/64\"\ngateway6 = \"fe80::1\"\n"});
    EXPECT_EQ(to_text(config.diagnostics), "");
    EXPECT_EQ(config.address6, "2001:db8::7/64");
    EXPECT_EQ(config.gateway6, "fe80::1");
    EXPECT_FALSE(config.router_advertisements);
    EXPECT_TRUE(config.dhcp) << "IPv4 is as before";
    config = applied({kWhole.text(), "network.address6 = \"2001:db8::7/64\"\n"},
                     "nullbox.network.gateway6=2001:db8::1 nullbox.network.dhcp=true");
    EXPECT_EQ(to_text(config.diagnostics), "");
    EXPECT_TRUE(config.dhcp);
    EXPECT_EQ(config.gateway6, "2001:db8::1");
    config = applied({"network.address6 = \"2001:db8::7/64\"\nnetwork.gateway6 = \"fe80::1\"\n",
                      "network.router_advertisements = true\n"});
    EXPECT_TRUE(config.router_advertisements);
    EXPECT_EQ(config.address6, std::nullopt);
    EXPECT_EQ(config.gateway6, std::nullopt);
    EXPECT_FALSE(applied({}, "nullbox.network.router_advertisements=false").router_advertisements);
    EXPECT_EQ(applied({"[network]\nvlan = 4094\n"}).vlan, 4094);
    EXPECT_EQ(applied({"network.vlan = 5\n"}, "nullbox.network.vlan=0").vlan, 0) << "taken back";
}

TEST(Machine, AWrongKeyKeepsItsEarlierValueAndTheRestCounts) {
    struct {
        std::string_view key, line, message;
        std::string_view at = "";
    } cases[] = {
        {"hostname", "hostname = 5", "must be a text, is a whole number"},
        {"hostname", "hostname = \"Box\"", "must be in lower case"},
        {"hostname", "hostname = \"a b\"", "lower-case letters"},
        {"hostname", "hostname = \"192.0.2.1\"", "must not end in a number"},
        {"hostname", "hostname = \"a123456789012345678901234567890123456789012345678901234567890.bcd\"",
         "1 to 64 bytes long, is 65"},
        {"time_servers", "time_servers = \"x\"", "must be a list of texts, is a text"},
        {"time_servers", "time_servers = [\"x_y\"]", "lower-case letters", "time_servers[0]"},
        {"dns_servers", "dns_servers = [\"dns.example.org\"]", "must be an IPv4 or IPv6 address",
         "dns_servers[0]"},
        {"dns_servers", "dns_servers = [\"192.0.2.1\",\"192.0.2.1\"]", "a second time", "dns_servers[1]"},
        {"network.address", "address = \"192.0.2.7\"", "with the length of its network"},
        {"network.address", "address = \"192.0.2.7/33\"", "with the length of its network"},
        {"network.address", "address = \"192.0.2.7/0\"", "with the length of its network"},
        {"network.address", "address = \"box/24\"", "with the length of its network"},
        {"network.gateway", "gateway = \"192.0.2\"", "must be an IPv4 or IPv6 address"},
        {"network.gateway", "gateway = \"2001:db8::1\"", "an IPv6 one belongs in address6 and gateway6"},
        {"network.address", "address = \"2001:db8::7/64\"", "must be an IPv4 address with the length"},
        {"network.gateway", "vlan = 4095", "must be a whole number from 0 to 4094", "network.vlan"},
        {"network.gateway", "gateway6 = \"192.0.2.1\"", "must be an IPv6 address", "network.gateway6"},
        {"network.gateway", "gateway6 = \"fe80::1\"", "needs an address beside it", "network.gateway6"},
        {"network.gateway", "address6 = \"fe80::1\"", "an IPv6 address with the length of its network",
         "network.address6"},
        {"network.gateway", "router_advertisements = true\naddress6 = \"2001:db8::1/64\"",
         "must not be true beside address6", "network.router_advertisements"},
        {"network.gateway", "dhcp = \"yes\"", "must be true or false", "network.dhcp"},
        {"network.gateway", "dhcp = true", "must not be true beside address", "network.dhcp"},
        {"network.gateway", "gatewy = \"192.0.2.1\"", "did you mean \"gateway\"?", "network.gatewy"},
        {"hostname", "hostnme = \"x\"", "did you mean \"hostname\"?", "hostnme"},
        {"hostname", "address = \"192.0.2.7/24\"", "it belongs in [network]", "address"},
    };
    for (const auto& one : cases) {
        SCOPED_TRACE(one.line);
        auto key = kWhole.find(one.key);
        auto config = applied(
            {"hostname = \"old\"\ndns_servers = [\"192.0.2.99\"]\n", kWhole.with(key.line, one.line)});
        expect_one(config.diagnostics, kFile, key.line, one.at.empty() ? one.key : one.at, one.message);
        EXPECT_EQ(config.hostname, one.key == "hostname" ? "old" : "box1");
        EXPECT_EQ(config.dns_servers.at(0), one.key == "dns_servers" ? "192.0.2.99" : "192.0.2.53");
    }
    auto config = applied({"network.gateway = \"192.0.2.1\"\n"});
    expect_one(config.diagnostics, kFile, 1, "network.gateway", "needs an address beside it");
    config = applied({kWhole.text(), "hostname = \n"});
    expect_one(config.diagnostics, kFile, 1, "", "is not valid TOML");
    EXPECT_EQ(config.hostname, "box1");
}

TEST(Machine, CommandLine) {
    auto config = applied({}, "quiet nullbox.hostname=box9 nullbox.dns_servers=192.0.2.1,2001:db8::1 "
                              "nullbox.time_servers=time.example.org nullbox.network.address=192.0.2.9/28 "
                              "nullbox.network.gateway=192.0.2.1 other=nullbox.x\n");
    EXPECT_EQ(to_text(config.diagnostics), "");
    EXPECT_EQ(config.hostname, "box9");
    EXPECT_EQ(config.dns_servers, (std::vector<std::string>{"192.0.2.1", "2001:db8::1"}));
    EXPECT_EQ(config.time_servers, std::vector<std::string>{"time.example.org"});
    EXPECT_EQ(config.address, "192.0.2.9/28");
    EXPECT_EQ(config.gateway, "192.0.2.1");
    EXPECT_FALSE(config.dhcp);
    config = applied({kWhole.text()}, "nullbox.network.dhcp=true nullbox.dns_servers=");
    EXPECT_TRUE(config.dhcp);
    EXPECT_TRUE(config.dns_servers.empty());
}

static const TestDocument kDoor(R"([gate]
port = 9443
[operators.bob]
public_key = "MFkw"
role = "reader"
[operators.alice]
role = "admin"
public_key = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE+/8=")");

TEST(Machine, OperatorsAndGate) {
    auto config = applied({kDoor.text()});
    EXPECT_EQ(to_text(config.diagnostics), "");
    EXPECT_EQ(config.gate_port, 9443);
    std::vector<Operator> wanted = {{.name = "alice", .public_key = std::string(kKey), .role = "admin"},
                                    {.name = "bob", .public_key = "MFkw", .role = "reader"}};
    EXPECT_EQ(config.operators, wanted);
    EXPECT_EQ(applied({""}).gate_port, 8443);
    // A later document changes what it names, and nothing else of that operator.
    config = applied({kDoor.text(), "[operators.bob]\nrole = \"operator\"\n"},
                     cat("nullbox.gate.port=444 nullbox.operators.carol.public_key=", kKey,
                         " nullbox.operators.carol.role=reader nullbox.operators.alice.role=reader"));
    EXPECT_EQ(to_text(config.diagnostics), "");
    EXPECT_EQ(config.gate_port, 444);
    wanted = {{.name = "alice", .public_key = std::string(kKey), .role = "reader"},
              {.name = "bob", .public_key = "MFkw", .role = "operator"},
              {.name = "carol", .public_key = std::string(kKey), .role = "reader"}};
    EXPECT_EQ(config.operators, wanted);
}

TEST(Machine, AnOperatorThatIsWrongDoesNotComeIn) {
    struct {
        std::string_view key, line, message;
        std::string_view at = "";
        uint32_t line_number = 0;
    } cases[] = {
        {"gate.port", "port = 0", "from 1 to 65535, is 0"},
        {"gate.port", "port = \"x\"", "must be a whole number"},
        {"operators.bob.public_key", "public_key = \"AAAA\"", "must be a public key"},
        {"operators.bob.public_key", "public_key = \"MFk\"", "must be a public key"},
        {"operators.bob.public_key", "public_key = \"M===\"", "must be a public key"},
        {"operators.bob.public_key", "public_key = \"MF=k\"", "must be a public key"},
        {"operators.bob.public_key", "public_key = \"MF k\"", "must be a public key"},
        {"operators.bob.public_key", "", "is missing", "operators.bob.public_key", 3},
        {"operators.bob.role", "", "is missing", "operators.bob.role", 3},
        {"operators.bob.role", "role = \"root\"", "must be \"admin\", \"operator\" or \"reader\""},
        {"operators.bob.role", "rle = \"reader\"\nrole = \"reader\"", "did you mean \"role\"?",
         "operators.bob.rle"},
    };
    for (const auto& one : cases) {
        SCOPED_TRACE(one.line);
        auto key = kDoor.find(one.key);
        auto config = applied({kDoor.with(key.line, one.line)});
        expect_one(config.diagnostics, kFile, one.line_number ? one.line_number : key.line,
                   one.at.empty() ? one.key : one.at, one.message);
        bool port = one.key == "gate.port";
        EXPECT_EQ(config.operators.size(), port ? 2u : 1u);
        EXPECT_EQ(config.gate_port, port ? 8443 : 9443);
        EXPECT_EQ(config.operators.at(0).name, "alice") << "the others still may";
    }
    // A known one stays as it was.
    auto config = applied({kDoor.text(), "[operators.alice]\nrole = \"reader\"\npublic_key = 5\n"});
    expect_one(config.diagnostics, kFile, 3, "operators.alice.public_key", "must be a text");
    EXPECT_EQ(config.operators.at(0).role, "admin");
    config = applied({cat("[operators.\"A B\"]\npublic_key = \"", kKey, "\"\nrole = \"admin\"\n")});
    expect_one(config.diagnostics, kFile, 1, "operators.A B", "lower-case letters");
    std::string many;
    for (int i = 0; i < 65; i++)
        many += cat("[operators.o", i, "]\npublic_key = \"", kKey, "\"\nrole = \"reader\"\n");
    config = applied({many});
    expect_one(config.diagnostics, kFile, 64 * 3 + 1, "operators.o64", "at most 64 are allowed");
    EXPECT_EQ(config.operators.size(), 64u);
}

static constexpr std::string_view kTrust = R"(certificate_authorities = """
-----BEGIN CERTIFICATE-----
AAAA
-----END CERTIFICATE-----
"""
[hosts]
"nas.lan" = "192.0.2.9"
"api.example.org" = "2001:db8::9"
)";

TEST(Machine, HostsAndAuthorities) {
    auto config = applied({kTrust, "[hosts]\n\"nas.lan\" = \"192.0.2.10\"\n"});
    EXPECT_EQ(to_text(config.diagnostics), "");
    EXPECT_EQ(config.hosts, (std::map<std::string, std::string>{{"api.example.org", "2001:db8::9"},
                                                                {"nas.lan", "192.0.2.10"}}));
    EXPECT_TRUE(config.certificate_authorities.starts_with("-----BEGIN")) << config.certificate_authorities;
    struct {
        std::string_view document, key, message;
    } cases[] = {
        {"[hosts]\n\"Nas.lan\" = \"192.0.2.9\"", "hosts.Nas.lan", "lower case"},
        {"[hosts]\n\"nas.lan\" = \"here\"", "hosts.nas.lan", "must be an IPv4 or IPv6 address"},
        {"[hosts]\n\"nas.lan\" = 5", "hosts.nas.lan", "must be a text"},
        {"hosts = 5", "hosts", "must be a table"},
        {"certificate_authorities = \"x\"", "certificate_authorities", "certificates in PEM"},
        {"certificate_authorities = []", "certificate_authorities", "must be a text"},
    };
    for (const auto& one : cases) {
        SCOPED_TRACE(one.document);
        auto wrong = applied({kTrust, one.document});
        ASSERT_EQ(wrong.diagnostics.size(), 1u) << to_text(wrong.diagnostics);
        EXPECT_TRUE(to_text(wrong.diagnostics).contains(one.key)) << to_text(wrong.diagnostics);
        EXPECT_TRUE(to_text(wrong.diagnostics).contains(one.message)) << to_text(wrong.diagnostics);
        EXPECT_EQ(wrong.hosts.at("nas.lan"), "192.0.2.9");
    }
}

TEST(Machine, WhatIsWrittenReadsBackTheSame) {
    auto check = [](const MachineConfig& config) {
        auto text = to_toml(config);
        MachineConfig again;
        apply_machine_document(again, text, "written");
        EXPECT_EQ(to_text(again.diagnostics), "") << text;
        EXPECT_EQ(again.hostname, config.hostname);
        EXPECT_EQ(again.time_servers, config.time_servers);
        EXPECT_EQ(again.dns_servers, config.dns_servers);
        EXPECT_EQ(again.dhcp, config.dhcp);
        EXPECT_EQ(again.address, config.address);
        EXPECT_EQ(again.gateway, config.gateway);
        EXPECT_EQ(again.vlan, config.vlan);
        EXPECT_EQ(again.router_advertisements, config.router_advertisements);
        EXPECT_EQ(again.address6, config.address6);
        EXPECT_EQ(again.gateway6, config.gateway6);
        EXPECT_EQ(again.gate_port, config.gate_port);
        EXPECT_EQ(again.operators, config.operators);
        EXPECT_EQ(again.hosts, config.hosts);
        EXPECT_EQ(again.certificate_authorities, config.certificate_authorities);
        EXPECT_EQ(to_toml(again), text);
    };
    check({});
    check(applied({"network.dhcp = false\n"}));
    check(applied({"network.router_advertisements = false\nnetwork.vlan = 7\n"}));
    check(applied({"network.address6 = \"2001:db8::7/64\"\nnetwork.gateway6 = \"fe80::1\"\n"}));
    check(applied({kWhole.text()}));
    check(applied({kWhole.text(), kDoor.text()}));
    check(applied({kWhole.text(), "network.dhcp = true\n", kDoor.text()}));
    check(applied({kTrust, kWhole.text(), kDoor.text()}));
}

// As the kernel itself reads them: quotes group, and are no part of the value.
TEST(Machine, CommandLineQuotes) {
    EXPECT_EQ(applied({}, "nullbox.hostname=\"a\" x").hostname, "a");
    EXPECT_EQ(applied({}, "\"nullbox.hostname=b\"").hostname, "b");
    auto config = applied({}, "x=\"y nullbox.hostname=c\" z");
    EXPECT_EQ(config.hostname, std::nullopt) << "inside another option's value";
    EXPECT_EQ(applied({}, "nullbox.hostname=d nullbox.hostname=e").hostname, "e");
}

TEST(Machine, CommandLineMistakes) {
    struct {
        std::string_view line, key, message;
    } cases[] = {
        {"nullbox.hostname=Foo", "nullbox.hostname", "must be in lower case"},
        {"nullbox.hostname=", "nullbox.hostname", "1 to 64 bytes long, is 0"},
        {"nullbox.hostname", "nullbox.hostname", "needs a value: nullbox.hostname=VALUE"},
        {"nullbox.hostnam=x", "nullbox.hostnam", "did you mean \"nullbox.hostname\"?"},
        {"nullbox.zzzzzz=x", "nullbox.zzzzzz", "known are hostname, "},
        {"nullbox.=x", "nullbox.", "is no option"},
        {"nullbox.dns_servers=192.0.2.1,x", "nullbox.dns_servers[1]", "must be an IPv4 or IPv6 address"},
        {"nullbox.network.dhcp=yes", "nullbox.network.dhcp", "must be true or false, is a text"},
        {"nullbox.gate.port=x", "nullbox.gate.port", "must be a whole number from 1 to 65535, is a text"},
        {"nullbox.operators.a.role=admin", "nullbox.operators.a.public_key", "is missing"},
        {"nullbox.operators.role=admin", "nullbox.operators.role", "is no option"},
        {"nullbox.operators..role=admin", "nullbox.operators..role", "is no option"},
        {"nullbox.network.gateway=192.0.2.1", "nullbox.network.gateway", "needs an address"},
    };
    for (const auto& one : cases) {
        SCOPED_TRACE(one.line);
        expect_one(applied({}, one.line).diagnostics, "kernel command line", 0, one.key, one.message);
    }
    expect_one(applied({}, std::string(70'000, 'x')).diagnostics, "kernel command line", 0, "", "is ignored");
}

} // namespace nullbox::manifest

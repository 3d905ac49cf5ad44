#include "cage/needs.h"

#include <gtest/gtest.h>

#include "cage/base64.h"
#include "cage/test_services.h"

namespace nullbox::cage {
namespace {

using namespace std::chrono_literals;

class NeedsTest : public testing::Test {
protected:
    NeedsTest() { manifest_.name = "t"; }
    template <typename Done>
    bool until(Done done, std::chrono::milliseconds limit = 5s) {
        for (auto end = Clock::now() + limit; Clock::now() < end && !done();)
            EXPECT_TRUE(loop_->run_once(5ms));
        return done();
    }
    void get() {
        granted_.reset();
        needs_.get(manifest_);
    }
    bool ready() {
        return until([&] { return granted_.has_value(); });
    }
    bool waits(std::string_view what) {
        return until([&] { return !waits_.empty() && waits_.back().contains(what); });
    }
    size_t asked(std::string_view what) {
        return static_cast<size_t>(
            std::ranges::count_if(services_.asked, [&](const auto& one) { return one.starts_with(what); }));
    }
    void use_network(bool inject = false) {
        manifest_.network_allow = {"api.example.org"};
        if (inject)
            manifest_.credentials = {
                {.name = "KEY",
                 .variable = "API_KEY",
                 .inject = {
                     {.host = "api.example.org", .header = "Authorization", .format = "Bearer {secret}"}}}};
    }
    void expose() { manifest_.credentials = {{.name = "KEY", .variable = "API_KEY", .exposed = true}}; }

    std::unique_ptr<Loop> loop_ = *Loop::make();
    TestServices services_{*loop_};
    manifest::AgentManifest manifest_;
    std::vector<std::string> waits_;
    std::optional<Granted> granted_;
    int lost_ = 0;
    VaultWatch vault_{*loop_, services_.sockets.warden, [this] { needs_.try_again(); }};
    EgressWatch egress_{*loop_, services_.sockets.egress, [this] { lost_ += needs_.network_lost() ? 1 : 0; }};
    Needs needs_{*loop_,
                 services_.sockets,
                 vault_,
                 egress_,
                 {.waits_for = [this](std::string what) { waits_.push_back(std::move(what)); },
                  .ready = [this](Granted granted) { granted_ = std::move(granted); }}};
};

TEST_F(NeedsTest, AManifestThatNamesNothingAsksNobody) {
    get();
    EXPECT_TRUE(granted_) << "at once";
    EXPECT_FALSE(granted_->network);
    EXPECT_TRUE(granted_->variables.all().empty());
}

TEST_F(NeedsTest, ANetworkWithItsBindings) {
    services_.start_egress();
    services_.start_warden();
    use_network(true);
    manifest_.network_allow_private = {"api.example.org"};
    get();
    ASSERT_TRUE(ready());
    ASSERT_TRUE(granted_->network);
    EXPECT_EQ(granted_->network->network.address, "10.88.1.2");
    EXPECT_EQ(granted_->network->network.mtu, 1400);
    EXPECT_EQ(granted_->network->mac, (std::array<uint8_t, 6>{2, 0x4e, 0x42, 0, 0, 7}));
    ASSERT_EQ(granted_->variables.all().size(), 1U);
    auto [name, placeholder] = granted_->variables.all()[0];
    EXPECT_EQ(name, "API_KEY");
    EXPECT_TRUE(placeholder.starts_with("nullbox-KEY-"));
    EXPECT_EQ(placeholder.size(), 12U + 22U);
    EXPECT_EQ(services_.asked,
              std::vector<std::string>{cat(
                  R"(Attach {"agent":"t","allow":["api.example.org"],"allow_private":["api.example.org"],)",
                  R"("inject":[{"secret":"KEY","host":"api.example.org","header":"Authorization",)",
                  R"("format":"Bearer {secret}","placeholder":")", placeholder,
                  R"("}],"rules":[],"budget":{"bytes":0,"connections":0,"requests":0}})")});
}

// Control: what egress is told last is what the manifest says last, with the agent's own placeholders.
TEST_F(NeedsTest, OtherRulesForTheNetworkItHas) {
    services_.start_egress();
    services_.start_warden();
    use_network(true);
    std::vector<std::string> said;
    auto tell = [&](const Result<uint64_t>& ended) {
        said.push_back(ended ? cat(*ended, " ended") : ended.error().message);
    };
    needs_.update_network(manifest_, tell);
    EXPECT_EQ(said, std::vector<std::string>{"the agent has no network now"});
    said.clear();
    get();
    ASSERT_TRUE(ready());
    auto placeholder = granted_->variables.all()[0].second;
    auto other = manifest_;
    other.network_allow = {"api.example.org", "first.example.org"};
    needs_.update_network(other, tell);
    other.network_allow = {"api.example.org", "second.example.org"};
    needs_.update_network(other, tell);
    other.network_allow = {"api.example.org"};
    other.network_rules = {{.host = "api.example.org", .methods = {"GET"}, .paths = {"/v1/*"}}};
    other.network_budget = {.bytes = 1 << 20, .connections = 7};
    needs_.update_network(other, tell);
    ASSERT_TRUE(until([&] { return said.size() == 3; }));
    EXPECT_EQ(said,
              (std::vector<std::string>{"newer rules came before they could be sent", "2 ended", "2 ended"}));
    ASSERT_EQ(services_.asked.size(), 3U);
    EXPECT_TRUE(services_.asked[1].contains("first.example.org")) << services_.asked[1];
    EXPECT_EQ(services_.asked[2],
              cat(R"(Update {"agent":"t","allow":["api.example.org"],"allow_private":[],)",
                  R"("inject":[{"secret":"KEY","host":"api.example.org","header":"Authorization",)",
                  R"("format":"Bearer {secret}","placeholder":")", placeholder,
                  R"("}],"rules":[{"host":"api.example.org","methods":["GET"],"paths":["/v1/*"]}],)",
                  R"("budget":{"bytes":1048576,"connections":7,"requests":0}})"));
    // Given back while egress is told: Detach comes last.
    needs_.update_network(other, tell);
    needs_.release();
    ASSERT_TRUE(until([&] { return needs_.idle(); }));
    EXPECT_EQ(services_.asked.back(), "Detach");
    EXPECT_EQ(said.size(), 4U);
}

TEST_F(NeedsTest, EveryStartHasItsOwnPlaceholder) {
    manifest_.credentials = {{.name = "KEY", .variable = "KEY"}}; // the old form: no service is asked
    get();
    auto first = granted_->variables.all()[0].second;
    needs_.release();
    get();
    EXPECT_NE(granted_->variables.all()[0].second, first);
}

TEST_F(NeedsTest, WaitsUntilTheVaultIsOpen) {
    services_.start_egress();
    use_network(true);
    get();
    EXPECT_TRUE(waits("the vault: ")) << "warden is not there";
    services_.vault = "absent";
    services_.start_warden();
    EXPECT_TRUE(waits("the vault: nullctl vault init"));
    services_.set_vault("locked");
    EXPECT_TRUE(waits("the vault: nullctl vault unlock"));
    EXPECT_EQ(asked("Attach"), 0U);
    services_.set_vault("damaged");
    EXPECT_TRUE(waits("the vault, which is damaged: nullctl vault status"));
    services_.set_vault("unlocked");
    EXPECT_TRUE(ready());
}

TEST_F(NeedsTest, AWardenThatComesBackIsNoticed) {
    services_.start_warden();
    services_.vault = "locked";
    expose();
    get();
    EXPECT_TRUE(waits("nullctl vault unlock"));
    services_.warden.reset();
    EXPECT_TRUE(waits("the vault: io.nullbox.warden.Watch"));
    services_.vault = "unlocked";
    services_.exposed_base64 = "aGVsbG8=";
    services_.start_warden();
    EXPECT_TRUE(ready());
}

TEST_F(NeedsTest, AnExposedSecretOnlyFromWarden) {
    services_.start_warden();
    expose();
    get();
    EXPECT_TRUE(waits("the secret KEY: "));
    EXPECT_TRUE(waits("not granted to t"));
    services_.exposed_base64 = "c2Vj*mV0";
    EXPECT_TRUE(waits("holds no value"));
    services_.exposed_base64 = "YQBi"; // a, NUL, b
    EXPECT_TRUE(waits("a zero byte"));
    services_.exposed_base64 = "c2VjcmV0";
    ASSERT_TRUE(ready());
    EXPECT_EQ(granted_->variables.all()[0], (std::pair<std::string, std::string>{"API_KEY", "secret"}));
    EXPECT_EQ(services_.asked.back(), R"(Exposed {"agent":"t","secret":"KEY"})");
}

TEST_F(NeedsTest, AnEgressThatIsNotThereOrRefusesIsTriedAgain) {
    use_network();
    get();
    EXPECT_TRUE(waits("the network: connect to ")) << "no egress";
    services_.refusal = "the rules could not be loaded";
    services_.start_egress();
    EXPECT_TRUE(waits("the network: ") && waits("the rules could not be loaded"));
    EXPECT_FALSE(granted_);
    services_.refusal.clear();
    EXPECT_TRUE(ready());
    EXPECT_EQ(asked("Detach"), 0U) << "a refused attach leaves nothing to give back";
}

TEST_F(NeedsTest, WhatIsReleasedIsGivenBackOnceAndBeforeTheNext) {
    services_.start_egress();
    use_network();
    get();
    ASSERT_TRUE(ready());
    get(); // again, at once
    ASSERT_TRUE(ready());
    needs_.release();
    EXPECT_FALSE(needs_.idle());
    EXPECT_TRUE(until([&] { return needs_.idle(); }));
    ASSERT_EQ(services_.asked.size(), 4U);
    for (size_t i = 0; i < 4; i++)
        EXPECT_TRUE(services_.asked[i].starts_with(i % 2 == 0 ? "Attach" : "Detach")) << services_.asked[i];
}

TEST_F(NeedsTest, AnAttachThatIsNotWantedAnyMoreIsStillGivenBack) {
    services_.start_egress();
    use_network();
    get();
    needs_.release(); // before egress has even heard of it
    EXPECT_TRUE(until([&] { return needs_.idle(); }));
    EXPECT_EQ(asked("Attach"), 1U);
    EXPECT_EQ(asked("Detach"), 1U);
    EXPECT_FALSE(granted_);
}

TEST_F(NeedsTest, TheEndOfEgressIsNoticedAndANewOneIsAsked) {
    services_.start_egress();
    use_network();
    get();
    ASSERT_TRUE(ready());
    services_.egress.reset();
    EXPECT_TRUE(until([&] { return lost_ == 1; }));
    get();
    EXPECT_TRUE(waits("the network: "));
    services_.start_egress();
    EXPECT_TRUE(ready());
    EXPECT_EQ(asked("Detach"), 0U) << "the new egress knows nothing of the old network";
    EXPECT_EQ(lost_, 1);
}

TEST(Base64, ReadsOnlyWhatItWouldWrite) {
    EXPECT_EQ(from_base64(""), "");
    EXPECT_EQ(from_base64("Zg=="), "f");
    EXPECT_EQ(from_base64("Zm8="), "fo");
    EXPECT_EQ(from_base64("Zm9v"), "foo");
    EXPECT_EQ(from_base64("+/+/"), "\xfb\xff\xbf");
    for (const char* wrong : {"Zg=", "Zg", "Zh==", "Z===", "Zm9v\n", "Zm9v====", "-_-_", "Zg==Zg=="})
        EXPECT_EQ(from_base64(wrong), std::nullopt) << wrong;
    std::byte bytes[16] = {std::byte{0xfb}, std::byte{0xff}, std::byte{0xbf}};
    EXPECT_EQ(to_base64url(std::span(bytes).first(3)), "-_-_");
    EXPECT_EQ(to_base64url(std::span(bytes).first(1)), "-w");
    EXPECT_EQ(to_base64url(bytes).size(), 22U);
}

} // namespace
} // namespace nullbox::cage

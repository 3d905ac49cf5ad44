#include "egress/net/dhcp.h"

#include <gtest/gtest.h>

namespace nullbox::egress {
namespace {

using std::chrono::seconds;

constexpr Mac kMac{{2, 0, 0, 0, 0, 9}};
constexpr Ip4 kAddress{0xc0000232}, kServer{0xc0000201}, kOther{0xc0000205};

// A client with a clock of its own; pauses have no random part.
class DhcpTest : public testing::Test {
protected:
    DhcpMessage reply(DhcpType type, Ip4 from = kServer) const {
        return {.reply = true,
                .type = type,
                .transaction = 7,
                .yours = kAddress,
                .mac = kMac,
                .server = from,
                .mask = 0xffffff00,
                .routers = {kServer},
                .lease_s = 1000};
    }
    DhcpActions receive(const DhcpMessage& message) { return client_.receive(now_, message); }
    DhcpActions after(seconds time) {
        now_ += time;
        return client_.tick(now_);
    }
    void get_lease() {
        (void)client_.start(now_);
        (void)receive(reply(DhcpType::Offer));
        (void)receive(reply(DhcpType::Ack));
        ASSERT_TRUE(probed().use);
    }
    // Nobody answers to our probes.
    DhcpActions probed() {
        DhcpActions actions;
        while (client_.state() == DhcpState::Probing) {
            now_ = client_.next();
            actions = client_.tick(now_);
        }
        return actions;
    }
    seconds until_next() const { return std::chrono::duration_cast<seconds>(client_.next() - now_); }

    Clock::time_point now_ = Clock::time_point(seconds(1000));
    uint32_t random_ = 7; // the transaction, and 993 ms less than the middle of a pause's spread
    DhcpClient client_{kMac, "box", [this] { return random_; }};
};

TEST_F(DhcpTest, FourMessagesMakeALease) {
    auto start = client_.start(now_);
    ASSERT_EQ(start.send.size(), 1u);
    EXPECT_EQ(start.send[0].message.type, DhcpType::Discover);
    EXPECT_FALSE(start.send[0].to);
    EXPECT_EQ(start.send[0].message.hostname, "box");
    auto offered = receive(reply(DhcpType::Offer));
    ASSERT_EQ(offered.send.size(), 1u);
    EXPECT_EQ(offered.send[0].message.type, DhcpType::Request);
    EXPECT_EQ(offered.send[0].message.requested, kAddress);
    EXPECT_EQ(offered.send[0].message.server, kServer);
    EXPECT_EQ(offered.send[0].message.client, Ip4{0});
    EXPECT_FALSE(offered.send[0].to);
    auto probe = receive(reply(DhcpType::Ack));
    EXPECT_EQ(probe.probe, kAddress);
    EXPECT_FALSE(probe.use);
    EXPECT_EQ(client_.state(), DhcpState::Probing);
    EXPECT_EQ(client_.next() - now_, std::chrono::milliseconds(200));
    auto given = probed();
    ASSERT_TRUE(given.use);
    EXPECT_EQ(now_ - Clock::time_point(seconds(1000)), std::chrono::milliseconds(600)) << "three probes";
    EXPECT_EQ(given.use->address, (Prefix4{kAddress, 24}));
    EXPECT_EQ(given.use->gateway, kServer);
    EXPECT_EQ(given.use->duration, seconds(1000));
    EXPECT_EQ(client_.state(), DhcpState::Bound);
    EXPECT_EQ(until_next(), seconds(499)) << "of 500 since it was given";
}

TEST_F(DhcpTest, PausesDoubleUpToAMinute) {
    (void)client_.start(now_);
    for (int expected : {3, 7, 15, 31, 63, 63}) {
        EXPECT_EQ(until_next(), seconds(expected));
        EXPECT_TRUE(client_.tick(now_).send.empty()) << "not before its time";
        EXPECT_EQ(after(until_next() + seconds(1)).send.size(), 1u);
    }
}

TEST_F(DhcpTest, ARequestWithoutAnAnswerStartsAnew) {
    (void)client_.start(now_);
    (void)receive(reply(DhcpType::Offer));
    for (int i = 0; i < 3; i++) EXPECT_EQ(after(seconds(70)).send[0].message.type, DhcpType::Request);
    auto actions = after(seconds(70));
    EXPECT_EQ(actions.send[0].message.type, DhcpType::Discover);
    EXPECT_FALSE(actions.problem.empty());
    EXPECT_FALSE(actions.give_up_address);
}

TEST_F(DhcpTest, OnlyAnswersToUsCount) {
    (void)client_.start(now_);
    auto wrong = [&](auto change) {
        auto message = reply(DhcpType::Offer);
        change(message);
        return receive(message).send.empty();
    };
    EXPECT_TRUE(wrong([](auto& m) { m.transaction = 8; }));
    EXPECT_TRUE(wrong([](auto& m) { m.mac.bytes[5] = 1; }));
    EXPECT_TRUE(wrong([](auto& m) { m.reply = false; }));
    EXPECT_TRUE(wrong([](auto& m) { m.server.reset(); }));
    EXPECT_TRUE(wrong([](auto& m) { m.lease_s.reset(); }));
    EXPECT_TRUE(wrong([](auto& m) { m.yours = Ip4{0}; }));
    EXPECT_TRUE(wrong([](auto& m) { m.yours = Ip4{0x7f000001}; }));
    EXPECT_TRUE(wrong([](auto& m) { m.yours = Ip4{0xe0000001}; }));
    EXPECT_TRUE(wrong([](auto& m) { m.yours = Ip4{0xc6120002}; })) << "an agent's address";
    EXPECT_TRUE(wrong([](auto& m) { m.type = DhcpType::Ack; })) << "nothing was requested";
    EXPECT_FALSE(wrong([](auto&) {}));
    EXPECT_FALSE(receive(reply(DhcpType::Ack, kOther)).use) << "another server's word on this one's offer";
    EXPECT_FALSE(receive(reply(DhcpType::Nak, kOther)).give_up_address);
    auto bad_mask = reply(DhcpType::Ack);
    bad_mask.mask = 0xff00ff00;
    EXPECT_FALSE(receive(bad_mask).use);
}

TEST_F(DhcpTest, RenewsThenRebindsThenLosesTheAddress) {
    get_lease();
    auto renew = after(seconds(500));
    ASSERT_EQ(renew.send.size(), 1u);
    EXPECT_EQ(renew.send[0].to, kServer);
    EXPECT_EQ(renew.send[0].message.client, kAddress);
    EXPECT_FALSE(renew.send[0].message.requested) << "RFC 2131 table 5";
    EXPECT_FALSE(renew.send[0].message.server);
    EXPECT_EQ(client_.state(), DhcpState::Renewing);
    EXPECT_EQ(until_next(), seconds(187)) << "half of what is left to T2";
    (void)after(seconds(187));
    EXPECT_EQ(client_.state(), DhcpState::Renewing);
    (void)after(seconds(875 - 687));
    EXPECT_EQ(client_.state(), DhcpState::Rebinding);
    (void)after(until_next());
    auto lost = after(seconds(1000));
    EXPECT_TRUE(lost.give_up_address);
    EXPECT_FALSE(client_.lease());
    EXPECT_EQ(client_.state(), DhcpState::Selecting);
    EXPECT_EQ(after(seconds(1)).send[0].message.type, DhcpType::Discover);
}

TEST_F(DhcpTest, ARenewalProlongs) {
    get_lease();
    (void)after(seconds(500));
    auto longer = receive(reply(DhcpType::Ack));
    ASSERT_TRUE(longer.use);
    EXPECT_EQ(longer.use->expires, now_ + seconds(1000));
    EXPECT_EQ(until_next(), seconds(500));
}

TEST_F(DhcpTest, ANakGivesTheAddressUpAtOnceAndPauses) {
    get_lease();
    (void)after(seconds(500));
    auto refused = receive(reply(DhcpType::Nak));
    EXPECT_TRUE(refused.give_up_address);
    EXPECT_TRUE(refused.send.empty());
    EXPECT_EQ(until_next(), seconds(1));
}

TEST_F(DhcpTest, AfterAPauseOfTheLinkTheOldAddressIsAskedFor) {
    get_lease();
    client_.stop();
    EXPECT_EQ(client_.next(), Clock::time_point::max());
    now_ += seconds(10);
    auto again = client_.start(now_);
    EXPECT_EQ(again.send[0].message.type, DhcpType::Request);
    EXPECT_EQ(again.send[0].message.requested, kAddress);
    EXPECT_FALSE(again.send[0].message.server);
    // Nobody answers: all is forgotten.
    for (int i = 0; i < 3; i++) (void)after(seconds(70));
    EXPECT_TRUE(after(seconds(70)).give_up_address);
    EXPECT_EQ(client_.state(), DhcpState::Selecting);
}

TEST_F(DhcpTest, AnExpiredLeaseIsNotAskedFor) {
    get_lease();
    client_.stop();
    now_ += seconds(1001);
    EXPECT_EQ(client_.start(now_).send[0].message.type, DhcpType::Discover);
}

TEST_F(DhcpTest, ForEverNeedsNoRenewal) {
    (void)client_.start(now_);
    (void)receive(reply(DhcpType::Offer));
    auto ack = reply(DhcpType::Ack);
    ack.lease_s = UINT32_MAX;
    (void)receive(ack);
    ASSERT_TRUE(probed().use);
    EXPECT_EQ(client_.next(), Clock::time_point::max());
}

TEST_F(DhcpTest, AServersTimesCountOnlyInOrder) {
    (void)client_.start(now_);
    (void)receive(reply(DhcpType::Offer));
    auto ack = reply(DhcpType::Ack);
    ack.lease_s = 0; // taken as the shortest
    ack.renewal_s = 5000;
    ack.rebinding_s = 4000;
    (void)receive(ack);
    ASSERT_TRUE(probed().use);
    EXPECT_EQ(client_.next() - now_, std::chrono::milliseconds(1400));
}

// Control: in_use(). RFC 2131 section 3.1 step 5, section 4.4.1.
TEST_F(DhcpTest, AnAddressThatSomebodyHasIsDeclined) {
    (void)client_.start(now_);
    (void)receive(reply(DhcpType::Offer));
    (void)receive(reply(DhcpType::Ack));
    auto declined = client_.in_use(now_, Mac{{2, 0, 0, 0, 0, 0x66}});
    ASSERT_EQ(declined.send.size(), 1u);
    EXPECT_EQ(declined.send[0].message.type, DhcpType::Decline);
    EXPECT_EQ(declined.send[0].message.requested, kAddress);
    EXPECT_EQ(declined.send[0].message.server, kServer);
    EXPECT_EQ(declined.send[0].message.client, Ip4{0});
    EXPECT_FALSE(declined.send[0].to);
    EXPECT_FALSE(declined.give_up_address) << "it never was on the card";
    EXPECT_TRUE(declined.problem.contains("192.0.2.50, which 02:00:00:00:00:66 has already"))
        << declined.problem;
    EXPECT_FALSE(client_.lease());
    EXPECT_EQ(until_next(), seconds(10));
    EXPECT_TRUE(client_.in_use(now_, kMac).send.empty()) << "said once";
    EXPECT_EQ(after(seconds(10)).send[0].message.type, DhcpType::Discover);
}

TEST_F(DhcpTest, ALeaseIsGivenBackAtTheEnd) {
    get_lease();
    auto released = client_.release(now_);
    ASSERT_EQ(released.send.size(), 1u);
    EXPECT_EQ(released.send[0].message.type, DhcpType::Release);
    EXPECT_EQ(released.send[0].message.client, kAddress);
    EXPECT_EQ(released.send[0].message.server, kServer);
    EXPECT_EQ(released.send[0].to, kServer);
    EXPECT_EQ(client_.state(), DhcpState::Stopped);
    EXPECT_TRUE(client_.release(now_).send.empty()) << "there is none any more";
    EXPECT_EQ(client_.start(now_).send[0].message.type, DhcpType::Discover);
}

TEST_F(DhcpTest, ItIsKnownForHowLongNobodyHasAnswered) {
    EXPECT_FALSE(client_.waiting_since());
    (void)client_.start(now_);
    auto began = now_;
    for (int i = 0; i < 5; i++) (void)after(seconds(70));
    EXPECT_EQ(client_.waiting_since(), began);
    (void)receive(reply(DhcpType::Offer));
    EXPECT_EQ(client_.waiting_since(), began) << "an offer is no address";
    (void)receive(reply(DhcpType::Ack));
    EXPECT_FALSE(client_.waiting_since());
    (void)probed();
    (void)after(seconds(1000));
    EXPECT_FALSE(client_.waiting_since()) << "there is an address";
    (void)after(seconds(1000));
    (void)after(seconds(1000));
    EXPECT_EQ(client_.waiting_since(), now_);
    client_.stop();
    EXPECT_FALSE(client_.waiting_since());
}

} // namespace
} // namespace nullbox::egress

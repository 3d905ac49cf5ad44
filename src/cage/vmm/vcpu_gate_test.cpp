// The gate with plain threads where vCPUs are, under a vCPU thread's own filter.
#include "cage/vmm/vcpu_gate.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/prctl.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "cage/vmm/jail.h"

namespace nullbox::cage {
namespace {

class VcpuGateTest : public testing::Test {
protected:
    static constexpr uint32_t kThreads = 4;
    void TearDown() override {
        ended_ = true;
        gate_->open();
        for (auto& thread : threads_) thread.join();
    }
    void run() {
        for (uint32_t i = 0; i < kThreads; i++)
            threads_.emplace_back([this, i] {
                while (!ended_) {
                    if (gate_->closed()) gate_->wait();
                    rounds_[i]++;
                    std::this_thread::yield();
                }
            });
    }
    bool all_wait(int limit_ms = 5000) {
        pollfd wanted{.fd = gate_->all_wait_fd(), .events = POLLIN, .revents = 0};
        return ::poll(&wanted, 1, limit_ms) == 1;
    }
    uint64_t rounds() const {
        uint64_t sum = 0;
        for (const auto& one : rounds_) sum += one;
        return sum;
    }

    std::unique_ptr<VcpuGate> gate_ = *VcpuGate::make(kThreads);
    std::atomic<bool> ended_ = false;
    std::atomic<uint64_t> rounds_[kThreads] = {};
    std::vector<std::thread> threads_;
};

TEST_F(VcpuGateTest, NobodyPassesWhileItIsClosed) {
    run();
    for (int i = 0; i < 50; i++) {
        gate_->close();
        ASSERT_TRUE(all_wait());
        EXPECT_TRUE(gate_->all_wait());
        auto before = rounds();
        std::this_thread::sleep_for(std::chrono::milliseconds(i == 0 ? 50 : 1));
        EXPECT_EQ(rounds(), before);
        gate_->open();
        EXPECT_FALSE(all_wait(0)) << "an old word is taken back";
        while (rounds() == before) std::this_thread::yield();
    }
}

TEST_F(VcpuGateTest, ClosedAgainBeforeAnybodyWokeItStillSaysWhenAllWait) {
    run();
    for (int i = 0; i < 1000; i++) {
        gate_->close();
        if (i % 3 != 0) ASSERT_TRUE(all_wait()) << i;
        gate_->open();
        gate_->close();
        ASSERT_TRUE(all_wait()) << i;
        gate_->open();
    }
}

TEST_F(VcpuGateTest, OneThatDoesNotComeIsWaitedFor) {
    gate_->close();
    for (uint32_t i = 0; i + 1 < kThreads; i++) threads_.emplace_back([this] { gate_->wait(); });
    EXPECT_FALSE(all_wait(100));
    EXPECT_FALSE(gate_->all_wait());
    threads_.emplace_back([this] { gate_->wait(); });
    EXPECT_TRUE(all_wait());
}

TEST_F(VcpuGateTest, AVcpusFilterIsEnough) {
    auto filter = vcpu_filter();
    ASSERT_TRUE(filter);
    std::atomic<uint32_t> passed = 0, installed = 0;
    gate_->close();
    for (uint32_t i = 0; i < kThreads; i++)
        threads_.emplace_back([&] {
            bool filtered = ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && filter->install() == 0;
            if (filtered) installed++;
            gate_->wait();
            passed++;
            for (;;) ::pause(); // a thread's own end needs more than a vCPU may
        });
    ASSERT_TRUE(all_wait());
    EXPECT_EQ(installed, kThreads);
    gate_->open();
    while (passed < kThreads) std::this_thread::yield();
    for (auto& thread : threads_) thread.detach(); // they end with the process, as vCPUs do
    threads_.clear();
}

} // namespace
} // namespace nullbox::cage

#include "cage/vmm/cpuid.h"

#include <algorithm>
#include <gtest/gtest.h>

namespace nullbox::cage {

static kvm_cpuid_entry2 full(uint32_t function, uint32_t index = 0) {
    return {.function = function, .index = index, .eax = ~0u, .ebx = ~0u, .ecx = ~0u, .edx = ~0u};
}
static kvm_cpuid_entry2 filtered(uint32_t function, uint32_t vcpu, uint32_t vcpus, uint32_t index = 0) {
    return guest_cpuid({full(function, index)}, vcpu, vcpus).front();
}

TEST(Cpuid, HidesNestedVirtualisation) {
    EXPECT_FALSE(filtered(1, 0, 1).ecx & 1u << 5) << "VMX";
    EXPECT_FALSE(filtered(0x80000001, 0, 1).ecx & 1u << 2) << "SVM";
    auto svm = filtered(0x8000000a, 0, 1);
    EXPECT_EQ(svm.eax | svm.ebx | svm.ecx | svm.edx, 0u);
}

TEST(Cpuid, HidesPerformanceCounters) {
    EXPECT_EQ(filtered(0xa, 0, 1).eax, 0u);
    EXPECT_EQ(filtered(0x80000022, 0, 1).eax, 0u);
    EXPECT_FALSE(filtered(0x80000001, 0, 1).ecx & (1u << 23 | 1u << 24 | 1u << 28));
}

TEST(Cpuid, SaysItIsAGuestWithADeadlineTimer) {
    auto leaf = filtered(1, 2, 4);
    EXPECT_TRUE(leaf.ecx & 1u << 31);
    EXPECT_TRUE(leaf.ecx & 1u << 24);
    EXPECT_EQ(leaf.ebx >> 24, 2u);
    EXPECT_EQ(leaf.ebx >> 16 & 0xff, 4u);
}

TEST(Cpuid, TopologyIsOnePackageOfCores) {
    auto threads = filtered(0xb, 3, 6, 0), cores = filtered(0xb, 3, 6, 1), rest = filtered(0xb, 3, 6, 2);
    EXPECT_EQ(threads.eax, 0u);
    EXPECT_EQ(threads.ebx, 1u);
    EXPECT_EQ(cores.eax, 3u) << "bits for 6 CPUs";
    EXPECT_EQ(cores.ebx, 6u);
    EXPECT_EQ(rest.ecx >> 8, 0u);
    EXPECT_EQ(cores.edx, 3u);
    EXPECT_EQ(filtered(0x80000008, 0, 6).ecx, 5u | 3u << 12);
    EXPECT_EQ(filtered(0xb, 0, 1, 1).eax, 0u);
}

} // namespace nullbox::cage

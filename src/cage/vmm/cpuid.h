// What the guest sees of the processor: what KVM can give, less what an agent has no business with (nested
// virtualisation, the performance counters), plus the guest's own topology.
#pragma once

#include <cstdint>
#include <linux/kvm.h>
#include <vector>

namespace nullbox::cage {

// entries: KVM_GET_SUPPORTED_CPUID's answer. Pure.
std::vector<kvm_cpuid_entry2> guest_cpuid(std::vector<kvm_cpuid_entry2> entries, uint32_t vcpu,
                                          uint32_t vcpus);

} // namespace nullbox::cage

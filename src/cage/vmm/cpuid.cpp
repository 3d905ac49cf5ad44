#include "cage/vmm/cpuid.h"

#include <algorithm>
#include <bit>

namespace nullbox::cage {

namespace {
constexpr uint32_t bit(unsigned number) { return 1u << number; }

struct Topology {
    uint32_t vcpu, vcpus;
    // How many bits of an APIC id tell the CPUs of the one package apart.
    uint32_t id_bits() const { return static_cast<uint32_t>(std::bit_width(vcpus - 1)); }
};

// Every CPU is a core of one package, with one thread.
void set_extended_topology(kvm_cpuid_entry2& entry, Topology topology) {
    constexpr uint32_t kThread = 1, kCore = 2;
    entry.eax = entry.index == 0 ? 0 : entry.index == 1 ? topology.id_bits() : 0;
    entry.ebx = entry.index == 0 ? 1 : entry.index == 1 ? topology.vcpus : 0;
    entry.ecx = entry.index | (entry.index == 0 ? kThread << 8 : entry.index == 1 ? kCore << 8 : 0);
    entry.edx = topology.vcpu;
}

void filter(kvm_cpuid_entry2& entry, Topology topology) {
    switch (entry.function) {
    case 1:
        entry.ebx = (entry.ebx & 0xffff) | topology.vcpus << 16 | topology.vcpu << 24;
        entry.ecx &= ~(bit(5) | bit(15));         // VMX, PDCM (performance counters)
        entry.ecx |= bit(21) | bit(24) | bit(31); // x2APIC, TSC deadline timer, hypervisor
        entry.edx = topology.vcpus > 1 ? entry.edx | bit(28) : entry.edx & ~bit(28);
        break;
    case 4: // Intel's caches: threads that share them, cores in the package
        if ((entry.eax & 0x1f) != 0) {
            bool shared_by_all = ((entry.eax >> 5) & 7) >= 3;
            entry.eax = (entry.eax & 0x3fff) | (shared_by_all ? topology.vcpus - 1 : 0) << 14 |
                        (topology.vcpus - 1) << 26;
        }
        break;
    case 6:
        entry.ecx &= ~bit(3);
        break; // energy-performance bias: an MSR that only costs exits
    case 0xa:
        entry.eax = entry.ebx = entry.ecx = entry.edx = 0;
        break; // performance counters
    case 0xb:
    case 0x1f:
        set_extended_topology(entry, topology);
        break;
    case 0x8000'0001:
        entry.ecx &= ~(bit(2) | bit(23) | bit(24) | bit(28)); // SVM; AMD's performance counters
        break;
    case 0x8000'0008:
        entry.ecx = (topology.vcpus - 1) | topology.id_bits() << 12;
        break;
    case 0x8000'000a:
        entry.eax = entry.ebx = entry.ecx = entry.edx = 0;
        break;        // SVM's details
    case 0x8000'001d: // AMD's caches
        if ((entry.eax & 0x1f) != 0) {
            bool shared_by_all = ((entry.eax >> 5) & 7) >= 3;
            entry.eax = (entry.eax & 0x3fff) | (shared_by_all ? topology.vcpus - 1 : 0) << 14;
        }
        break;
    case 0x8000'001e:
        entry.eax = topology.vcpu;
        entry.ebx = topology.vcpu; // core id, one thread a core
        entry.ecx = 0;             // one node
        break;
    case 0x8000'0022:
        entry.eax = entry.ebx = entry.ecx = entry.edx = 0;
        break; // AMD's counters, version 2
    default:
        break;
    }
}
} // namespace

std::vector<kvm_cpuid_entry2> guest_cpuid(std::vector<kvm_cpuid_entry2> entries, uint32_t vcpu,
                                          uint32_t vcpus) {
    for (kvm_cpuid_entry2& entry : entries) filter(entry, {vcpu, vcpus});
    return entries;
}

} // namespace nullbox::cage

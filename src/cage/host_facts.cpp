#include "cage/host_facts.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "base/text.h"

namespace nullbox::cage {

Result<uint64_t> available_memory(std::string_view meminfo) {
    constexpr std::string_view kKey = "MemAvailable:";
    for (auto line : split(meminfo, '\n')) {
        if (!line.starts_with(kKey) || !line.ends_with(" kB")) continue;
        line.remove_prefix(kKey.size());
        line.remove_suffix(3);
        if (auto kib = parse_number(trim(line), 0, INT64_MAX >> 10)) return static_cast<uint64_t>(*kib) << 10;
    }
    return error("/proc/meminfo has no MemAvailable");
}

Result<> check_memory(uint64_t guest_bytes, uint64_t available_bytes, uint64_t promised_bytes) {
    uint64_t taken = promised_bytes + kHostReserveBytes;
    uint64_t left = available_bytes - std::min(available_bytes, taken);
    uint64_t needed = guest_bytes + kVmOverheadBytes;
    if (needed <= left) return {};
    return error(
        cat("needs ", needed >> 20, " MB, ", left >> 20,
            " MB available: lower max_memory_mb, stop another agent, or give the machine more memory"));
}

Result<Fd> open_kvm(const char* path) {
    constexpr std::string_view kRemedy = "enable virtualisation (VT-x or AMD-V) in the firmware, or nested "
                                         "virtualisation if this machine is a VM";
    Fd kvm(::open(path, O_RDWR | O_CLOEXEC));
    if (!kvm && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
        return error(cat("no ", path, ": ", kRemedy));
    if (!kvm) return errno_error(cat("open ", path));
    int version = ::ioctl(kvm.get(), KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION) return error(cat(path, " is not KVM (version ", version, "): ", kRemedy));
    return kvm;
}

} // namespace nullbox::cage

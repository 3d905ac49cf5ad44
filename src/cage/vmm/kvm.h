// KVM's ioctls with errors that name what failed. fds are borrowed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <vector>

#include "base/check.h"
#include "base/fd.h"

namespace nullbox::cage {

// The kernel's structures that end in a flexible array have another size in C++ than in C with some versions
// of its headers (an empty struct in a union takes a byte), and the size is part of the request's number.
template <typename Entry>
class KvmTable {
public:
    explicit KvmTable(std::vector<Entry> entries) : storage_(kHeaderBytes + entries.size() * sizeof(Entry)) {
        auto count = static_cast<uint32_t>(entries.size());
        std::memcpy(storage_.data(), &count, sizeof count);
        std::memcpy(storage_.data() + kHeaderBytes, entries.data(), entries.size() * sizeof(Entry));
    }
    std::byte* data() { return storage_.data(); }
    // As many as the kernel says there are now.
    std::vector<Entry> entries() const {
        uint32_t count = 0;
        std::memcpy(&count, storage_.data(), sizeof count);
        CHECK(count <= (storage_.size() - kHeaderBytes) / sizeof(Entry));
        std::vector<Entry> out(count);
        std::memcpy(out.data(), storage_.data() + kHeaderBytes, count * sizeof(Entry));
        return out;
    }
    static constexpr size_t kHeaderBytes = 8; // the count, and 32 bits of padding

private:
    std::vector<std::byte> storage_;
};
constexpr unsigned long kGetSupportedCpuid = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, 8);
constexpr unsigned long kSetCpuid = _IOC(_IOC_WRITE, KVMIO, 0x90, 8);
constexpr unsigned long kSetMsrs = _IOC(_IOC_WRITE, KVMIO, 0x89, 8);

template <typename Argument = unsigned long>
Result<int> kvm_call(int fd, unsigned long request, const char* what, Argument argument = {}) {
    int answer = ::ioctl(fd, request, argument);
    if (answer < 0) return errno_error(what);
    return answer;
}

} // namespace nullbox::cage

// Memory for what must not leak: keys, passphrases, secrets. Each SecretBytes has pages of its own, locked
// (mlock: never swapped), left out of core dumps (MADV_DONTDUMP), empty in a forked child
// (MADV_WIPEONFORK), and overwritten before they go back to the kernel.
//
// What no class can promise: a secret comes in and goes out as JSON, so it has been in ordinary strings, in
// the socket's buffers and on the stack for a moment. Those are overwritten as soon as we let go of them:
// strings by wipe(), every freed block of the heap by base/wiping_heap.cpp, the stack by wipe_stack(). The
// kernel's socket buffers and the CPU's registers are out of reach; only the same kernel could read them.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace nullbox::warden {

class SecretBytes {
public:
    SecretBytes() = default; // empty
    SecretBytes(SecretBytes&& other) noexcept;
    SecretBytes& operator=(SecretBytes&& other) noexcept;
    ~SecretBytes() { clear(); }

    // Zeros. Fails if the kernel does not lock the pages (RLIMIT_MEMLOCK).
    static Result<SecretBytes> make(size_t size);
    static Result<SecretBytes> copy_of(std::span<const std::byte> bytes);
    static Result<SecretBytes> copy_of(std::string_view text);
    Result<SecretBytes> copy() const { return copy_of(bytes()); }

    std::span<std::byte> bytes() { return {data_, size_}; }
    std::span<const std::byte> bytes() const { return {data_, size_}; }
    std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
    size_t size() const { return size_; }
    // The rest is overwritten at once.
    void shrink(size_t size);
    void clear();

private:
    std::byte* data_ = nullptr;
    size_t size_ = 0, mapped_ = 0;
};

// Overwrites; no compiler leaves it out.
void wipe(std::span<std::byte> bytes);
void wipe(std::string& text); // and empties it
// The stack below the caller, where functions that have returned left their variables: as far down as any of
// them reached.
void wipe_stack();

// No core dump, no ptrace and no /proc/self/mem by our own uid (PR_SET_DUMPABLE), for the process.
Result<> hide_process();

} // namespace nullbox::warden

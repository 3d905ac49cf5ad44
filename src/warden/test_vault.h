// For tests: folders that go, keys made of one byte, vaults from hexadecimal text.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>

#include "warden/vault.h"

namespace nullbox::warden {

class Folder {
public:
    Folder() {
        // In memory if possible: tests write hundreds of megabytes, each synced.
        char memory[] = "/dev/shm/nullbox-warden-XXXXXX", disk[] = "/tmp/nullbox-warden-XXXXXX";
        const char* made = ::mkdtemp(memory);
        path = made ? made : ::mkdtemp(disk);
    }
    ~Folder() { std::filesystem::remove_all(path); }
    std::string path;
};

inline Bytes from_hex(std::string_view hex) {
    Bytes bytes;
    for (size_t i = 0; i + 1 < hex.size(); i += 2)
        bytes.push_back(static_cast<std::byte>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
    return bytes;
}

inline SecretBytes secret(std::string_view text) { return *SecretBytes::copy_of(text); }

// In place of one that was derived from a passphrase.
inline SecretBytes test_key(char byte) { return secret(std::string(kKeyBytes, byte)); }

// Without the sync that the real writer does: tests write thousands.
inline void write_plain(const std::string& path, BytesView bytes) {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

inline void fix_checksum(Bytes& bytes) {
    auto checksum = *sha256(BytesView(bytes).first(bytes.size() - kDigestBytes));
    std::ranges::copy(checksum, bytes.end() - kDigestBytes);
}

template <typename T>
testing::AssertionResult is_ok(const Result<T>& result) {
    if (result.has_value()) return testing::AssertionSuccess();
    return testing::AssertionFailure() << result.error().message;
}
template <typename T>
testing::AssertionResult fails_with(const Result<T>& result, int code) {
    if (result.has_value()) return testing::AssertionFailure() << "it succeeds";
    if (result.error().code == code) return testing::AssertionSuccess();
    return testing::AssertionFailure() << "code " << result.error().code << ": " << result.error().message;
}
#define EXPECT_OK(result) EXPECT_TRUE(is_ok(result))
#define EXPECT_CODE(result, code) EXPECT_TRUE(fails_with(result, code))

} // namespace nullbox::warden

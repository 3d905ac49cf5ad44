// What the host's side of a measured network offers, to a guest's virtio-net or vsock.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nullbox::bench {

constexpr uint16_t kEchoPort = 7; // what comes goes back
constexpr uint16_t kSinkPort = 9; // takes bytes; at their end it answers how many, as a number of 8 bytes
constexpr const char* kTapName = "bench0";
constexpr const char* kHostAddress = "10.99.0.1";
constexpr const char* kGuestAddress = "10.99.0.2";
constexpr uint8_t kPrefixLength = 24;

// Each block of the measured file begins with its number, so that a wrong byte order or place is seen.
constexpr size_t kFileBlockBytes = 4096;

} // namespace nullbox::bench

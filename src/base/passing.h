// Bytes with descriptors over a Unix socket (unix(7), SCM_RIGHTS). What arrives is CLOEXEC and owned at once;
// more descriptors than the bound are closed by the kernel and reported. Never blocks, never raises SIGPIPE.
#pragma once

#include <span>
#include <sys/types.h>
#include <vector>

#include "base/fd.h"

namespace nullbox {

constexpr size_t kMaxPassedFds = 8; // with one send

struct Received {
    ssize_t count = 0; // as recv() returns it; errno tells why it is negative
    std::vector<Fd> fds;
    bool fds_lost = false; // the peer sent more than kMaxPassedFds
};

Received receive_with_fds(int socket, std::span<char> bytes);
// As send() returns it. The descriptors go with the first byte: they are sent if the result is positive.
ssize_t send_with_fds(int socket, std::span<const char> bytes, std::span<const Fd> fds);

} // namespace nullbox

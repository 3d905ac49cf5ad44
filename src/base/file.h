// Whole-file and whole-buffer I/O with bounds. Every error names the file. Reads take a limit, because a file
// may be larger than we are willing to hold; exceeding it is an error (EFBIG), never a silent cut.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/fd.h"

namespace nullbox {

Result<Fd> open_readonly(const std::string& path);
// Below directory_fd, with no "..", absolute path or symlink that leaves it (openat2 RESOLVE_BENEATH).
Result<Fd> open_beneath(int directory_fd, const std::string& path, int flags, mode_t mode = 0);

Result<std::string> read_file(const std::string& path, size_t limit_bytes = size_t{1} << 20);
Result<std::string> read_fd(int fd, size_t limit_bytes);
// Writes into an existing file (sysctl, cgroup, /proc): one write call, no truncation, no creation.
Result<> write_existing(const std::string& path, std::string_view text);
// New content appears whole or not at all: temporary file, fsync, rename, fsync of the folder.
Result<> write_file_atomic(const std::string& path, std::string_view content, mode_t mode);

// All bytes, over short writes and EINTR. On a nonblocking descriptor EAGAIN is an error.
Result<> write_all(int fd, std::span<const std::byte> bytes);
Result<> write_all(int fd, std::string_view text);
// Exactly bytes.size() bytes; an early end is an error (code 0, "ended after N of M bytes").
Result<> read_exact(int fd, std::span<std::byte> bytes);

// mkdir -p; existing folders are fine.
Result<> make_directories(const std::string& path, mode_t mode = 0755);

} // namespace nullbox

#include "cage/scratch_disk.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "cage/empty_ext4.h"

namespace nullbox::cage {

constexpr uint64_t kMb = uint64_t{1} << 20;

static Result<> write_at(const Fd& file, const Extent& extent) {
    size_t done = 0;
    while (done < extent.bytes.size()) {
        ssize_t count = ::pwrite(file.get(), extent.bytes.data() + done, extent.bytes.size() - done,
                                 static_cast<off_t>(extent.offset + done));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno_error("write its file system");
        done += static_cast<size_t>(count);
    }
    return {};
}

Result<Fd> make_scratch_file(const std::string& folder, uint64_t bytes) {
    Fd file(::open(folder.c_str(), O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
    if (!file) return errno_error(cat("make a file in ", folder));
    if (::fallocate(file.get(), 0, 0, static_cast<off_t>(bytes)) < 0)
        return errno_error(cat("take ", bytes / kMb, " MB in ", folder));
    for (const Extent& extent : empty_ext4(bytes)) TRY(write_at(file, extent));
    return file;
}

Result<Fd> make_scratch_disk(const std::string& folder, uint32_t megabytes) {
    TRY(make_directories(folder, 0700));
    struct statfs info{};
    if (::statfs(folder.c_str(), &info) < 0) return errno_error(cat("look at ", folder));
    if (info.f_type == TMPFS_MAGIC)
        return error("a scratch disk needs a data partition, and this machine has none: add one, or take "
                     "scratch_mb out of the manifest");
    uint64_t free = uint64_t{info.f_bavail} * static_cast<uint64_t>(info.f_bsize);
    uint64_t left = free - std::min(free, kDataReserveBytes);
    if (megabytes * kMb > left)
        return error(cat("a scratch disk of ", megabytes, " MB: the data partition has ", left / kMb,
                         " MB to give; lower scratch_mb, stop another agent that has one, or remove images"));
    return make_scratch_file(folder, megabytes * kMb);
}

} // namespace nullbox::cage

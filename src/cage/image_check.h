// Whether a file can be a guest's root before a VM is started for it: SquashFS or EROFS by its superblock,
// and as long as the superblock says. A truncated copy is found here, with a reason, instead of as I/O errors
// in a guest. Pure. SquashFS: kernel fs/squashfs/squashfs_fs.h; EROFS: fs/erofs/erofs_fs.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/error.h"

namespace nullbox::cage {

constexpr size_t kImageHeadBytes = 1024 + 128; // what check_image wants to see of a file

// head: the first kImageHeadBytes of the file, or all of a shorter one. The name of the format, or what is
// wrong.
Result<std::string_view> check_image(std::span<const std::byte> head, uint64_t file_bytes);

} // namespace nullbox::cage

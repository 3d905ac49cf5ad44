// An agent's scratch disk: a file on the data partition without a name, with an empty file system in it,
// which is there as long as somebody has it open. So each start has a fresh one, nothing is left of it
// afterwards, not even after a power cut, and no path leads to it. Its space is taken at once: an agent never
// finds less than its manifest says, and many agents cannot fill the partition that the vault and the memory
// are on.
#pragma once

#include "base/fd.h"

namespace nullbox::cage {

// Never given to scratch disks: the services write there too.
constexpr uint64_t kDataReserveBytes = uint64_t{32} << 20;

// folder: made if it is not there; a tmpfs is refused. megabytes: as a manifest has it, not 0.
Result<Fd> make_scratch_disk(const std::string& folder, uint32_t megabytes);
// The same on whatever file system, for tests.
Result<Fd> make_scratch_file(const std::string& folder, uint64_t bytes);

} // namespace nullbox::cage

// A guest kernel's file with any content: loaded or refused.
#include <sys/mman.h>

#include "base/check.h"
#include "base/file.h"
#include "cage/vmm/loader.h"

using namespace nullbox;       // NOLINT: a fuzz target
using namespace nullbox::cage; // NOLINT

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static GuestMemory memory = *GuestMemory::make(kLeastMemoryBytes);
    Fd file(::memfd_create("kernel", MFD_CLOEXEC));
    CHECK(write_all(file.get(), std::as_bytes(std::span(data, size))));
    auto loaded = load_kernel(memory, file.get());
    CHECK(!loaded || (loaded->entry >= kExtendedMemoryStart && loaded->entry < loaded->end &&
                      memory.range(loaded->entry, 1)));
    CHECK(loaded || !loaded.error().message.empty());
    return 0;
}

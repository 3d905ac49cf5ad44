#include "cage/vmm/vm_end.h"

#include <algorithm>
#include <sys/eventfd.h>
#include <unistd.h>

namespace nullbox::cage {

Result<VmEndReport> VmEndReport::make() {
    Fd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake) return errno_error("make eventfd");
    return VmEndReport(std::move(wake));
}

void VmEndReport::report(VmEnd reason, std::string_view text, std::string_view detail) noexcept {
    if (taken_.exchange(true)) return;
    message_.reason = reason;
    size_t room = sizeof message_.text - 1;
    char* out = message_.text;
    for (std::string_view part : {text, detail}) {
        part = part.substr(0, room);
        out = std::ranges::copy(part, out).out;
        room -= part.size();
    }
    uint64_t one = 1; // orders the message before the wake-up
    (void)!::write(wake_.get(), &one, sizeof one);
}

} // namespace nullbox::cage

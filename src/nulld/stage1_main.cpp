// /init of the initramfs: finds the root image, and becomes nulld in it. A program of its own, because every
// boot unpacks it before anything else runs: it is a fifth of nulld.
#include <cstdio>
#include <unistd.h>

#include "nulld/stage1.h"

int main() {
    if (::getpid() == 1) nullbox::nulld::run_stage1();
    std::fputs("stage1 is /init of NullBox's boot file; it does nothing elsewhere.\n", stderr);
    return 2;
}

// nulld: PID 1. As /init of the initramfs it is stage 1; from the root image it is stage 2.
#include <cstdio>
#include <cstring>
#include <unistd.h>

#include "nulld/check_config.h"
#include "nulld/stage1.h"
#include "nulld/stage2.h"

int main(int count, char** arguments) {
    using namespace nullbox::nulld;
    if (::getpid() != 1 && count >= 3 && std::strcmp(arguments[1], "--check-config") == 0)
        return check_config({arguments + 2, arguments + count});
    if (::getpid() != 1) {
        std::fputs("nulld is PID 1 of NullBox. By hand: nulld --check-config nulld.toml [machine.toml]\n",
                   stderr);
        return 2;
    }
    // The kernel passes what it does not know of its command line as arguments; only the name says the stage.
    if (std::strcmp(arguments[0], "/init") == 0) run_stage1();
    run_stage2();
}

// nulld: PID 1, once /init of the initramfs (stage1_main.cpp) has found the root image.
#include <cstdio>
#include <cstring>
#include <unistd.h>

#include "nulld/check_config.h"
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
    run_stage2();
}

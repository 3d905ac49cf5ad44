#include "nulld/power_button.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/input.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/text.h"

namespace nullbox::nulld {

PowerButton::PowerButton(Loop& loop, std::function<void()> pressed) : pressed_(std::move(pressed)) {
    DIR* folder = ::opendir("/dev/input");
    if (!folder) return;
    while (dirent* entry = ::readdir(folder))
        if (std::string_view(entry->d_name).starts_with("event"))
            open(loop, cat("/dev/input/", std::string_view(entry->d_name)));
    ::closedir(folder);
}

void PowerButton::open(Loop& loop, const std::string& path) {
    Fd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (!fd) return;
    unsigned char keys[KEY_MAX / 8 + 1]{};
    if (::ioctl(fd.get(), EVIOCGBIT(EV_KEY, sizeof keys), keys) < 0) return;
    if (!(keys[KEY_POWER / 8] >> (KEY_POWER % 8) & 1)) return;
    auto watch = loop.watch(fd.get(), EPOLLIN, [this, raw = fd.get()](uint32_t) {
        input_event events[16];
        ssize_t bytes = ::read(raw, events, sizeof events);
        for (size_t i = 0; bytes > 0 && i < static_cast<size_t>(bytes) / sizeof(input_event); i++)
            if (events[i].type == EV_KEY && events[i].code == KEY_POWER && events[i].value == 1) pressed_();
    });
    if (!watch) return;
    fds_.push_back(std::move(fd));
    watches_.push_back(std::move(*watch));
}

} // namespace nullbox::nulld

// The ACPI power button: the kernel shows it as an input device with one key (linux/input.h).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/loop.h"

namespace nullbox::nulld {

class PowerButton {
public:
    PowerButton(Loop& loop, std::function<void()> pressed);
    size_t devices() const { return watches_.size(); }

private:
    void open(Loop& loop, const std::string& path);
    std::function<void()> pressed_;
    std::vector<Fd> fds_;
    std::vector<Watch> watches_; // after what they watch
};

} // namespace nullbox::nulld

#include "cage/survivors.h"

#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

namespace nullbox::cage {

constexpr size_t kMostBytes = size_t{256} << 10;
constexpr mode_t kMode = 0600;

Survivors::Survivors(std::string path) : path_(std::move(path)) {
    if (path_.empty() || ::access(path_.c_str(), F_OK) != 0) return;
    auto text = read_file(path_, kMostBytes);
    if (!text) {
        log_error(text.error().message);
        return;
    }
    written_ = *text;
    left_.emplace();
    for (auto line : split(*text, '\n'))
        if (!line.empty()) left_->emplace_back(line);
}

void Survivors::keep(const std::vector<std::string>& wanted) {
    if (path_.empty() || !keeps_) return;
    std::string text = "\n"; // nobody is wanted, which is not the same as no file
    for (const auto& name : wanted) text += cat(name, "\n");
    if (text == written_) return;
    written_ = std::move(text);
    auto done = write_file_atomic(path_, written_, kMode);
    if (!done && !std::exchange(complained_, true))
        log_error(cat("after a crash agents would start as at boot: ", done.error().message));
}

void Survivors::forget() {
    keeps_ = false;
    if (!path_.empty()) ::unlink(path_.c_str());
}

} // namespace nullbox::cage

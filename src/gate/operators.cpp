#include "gate/operators.h"

#include <algorithm>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"
#include "manifest/machine.h"
#include "net/identity.h"

namespace nullbox::gate {

bool Operators::refresh() {
    struct stat now{};
    Version version;
    if (::stat(path_.c_str(), &now) == 0)
        version = {.seconds = now.st_mtim.tv_sec,
                   .nanoseconds = now.st_mtim.tv_nsec,
                   .bytes = now.st_size,
                   .inode = now.st_ino};
    if (read_once_ && version == version_) return false;
    read_once_ = true;
    version_ = version;
    auto before = std::pair(std::move(all_), std::move(problems_));
    read();
    return before != std::pair(all_, problems_);
}

void Operators::read() {
    constexpr size_t kMostBytes = size_t{256} << 10;
    all_.clear();
    problems_.clear();
    port_ = manifest::MachineConfig().gate_port;
    auto text = read_file(path_, kMostBytes);
    if (!text.has_value()) {
        problems_.push_back(cat("nobody may come in: ", text.error().message));
        return;
    }
    manifest::MachineConfig config;
    manifest::apply_machine_document(config, *text, path_);
    port_ = config.gate_port;
    for (const auto& diagnostic : config.diagnostics) problems_.push_back(manifest::to_text(diagnostic));
    for (const auto& one : config.operators) {
        auto key = net::from_base64(one.public_key);
        auto role = role_of(one.role);
        if (!key.has_value() || !role)
            problems_.push_back(cat("operator ", one.name, " is left out: ",
                                    role ? "its public_key is not base64" : "it has no such role"));
        else if (find(*key))
            problems_.push_back(
                cat("operator ", one.name, " is left out: its key is ", find(*key)->name, "'s"));
        else
            all_.push_back({.name = one.name, .role = *role, .public_key = std::move(*key)});
    }
}

const Operator* Operators::find(std::string_view public_key) const {
    auto found = std::ranges::find(all_, public_key, &Operator::public_key);
    return found == all_.end() ? nullptr : &*found;
}

const Operator* Operators::named(std::string_view name) const {
    auto found = std::ranges::find(all_, name, &Operator::name);
    return found == all_.end() ? nullptr : &*found;
}

} // namespace nullbox::gate

// What is to run again when cage comes back after a crash: the names of the agents that were wanted, kept in
// a file of /run, which is gone with the machine. Their VMs ended with cage (decision 52). Agents that an
// operator had stopped stay stopped, whatever their manifests say of the machine's boot.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace nullbox::cage {

class Survivors {
public:
    // path empty: keeps nothing (tests). Reads what an earlier cage left.
    explicit Survivors(std::string path);

    // Of the cage that crashed; nothing if the one before, if any, ended in order.
    const std::optional<std::vector<std::string>>& left() const { return left_; }
    // Writes only what is new. A failure costs no more than this memory, and is logged once.
    void keep(const std::vector<std::string>& wanted);
    // From now on an end is in order.
    void forget();

private:
    std::string path_, written_;
    std::optional<std::vector<std::string>> left_;
    bool keeps_ = true, complained_ = false;
};

} // namespace nullbox::cage

// The machine's end: the last steps of an ordered shutdown, when no service is left.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "nulld/mounts.h"

namespace nullbox::nulld {

enum class PowerAction { Reboot, PowerOff, Halt };
std::string_view name_of(PowerAction action); // "reboot"

// The mounts to undo, in order: /var first, then the others in reverse of their mounting; the root and the
// API file systems stay (they hold nothing that could be lost).
std::vector<std::string> unmount_order(const std::vector<MountedAt>& mounts);

// Kills what is left, syncs, unmounts, ends. Nothing here can hold it for ever: what may block on a broken
// disk runs in a child with a time limit.
[[noreturn]] void end_machine(PowerAction action, const std::function<void(std::string_view)>& say,
                              const std::function<void()>& before_end);

} // namespace nullbox::nulld

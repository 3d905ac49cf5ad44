// The folders that agents share with each other: the path P of a manifest is the folder P below the machine's
// share root, for every agent that names it. The root may be entered by cage alone; a VM process gets each
// folder as a descriptor, and its own uid may do there what the mode of the folder, which is 0777, lets it.
#pragma once

#include "base/fd.h"
#include "cage/vmm_channel.h"
#include "guest_link/frames.h"
#include "manifest/agent.h"

namespace nullbox::cage {

struct DeclaredFolder {
    std::string path;
    bool read_only = true;
};

// Outer folders before those inside them; a path that is in both lists may be written. Pure.
std::vector<DeclaredFolder> shared_folders(const manifest::AgentManifest& manifest);
// Why the manifest's folders cannot be shared, a line each, or empty: a path that would hide what the guest's
// system needs, more folders than a VM takes. Pure.
std::string wrong_shares(const manifest::AgentManifest& manifest);

struct OpenShare {
    guest_link::StartShare guest;
    Share vm;
    Fd folder;
};

// Makes what is not there. What an agent made is never followed out of the root.
Result<std::vector<OpenShare>> open_shares(const std::string& root, const manifest::AgentManifest& manifest);

} // namespace nullbox::cage

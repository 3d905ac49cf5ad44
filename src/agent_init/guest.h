// What makes a bare kernel a place to run an agent in: file systems, the image under a writable overlay, host
// name, network, trust, shared folders, clock. Runs once, as PID 1 of the guest, in the order of the calls
// below. Each step says what failed.
#pragma once

#include "agent_init/exec_server.h"
#include "guest_link/frames.h"

namespace nullbox::agent_init {

// /dev of the initramfs, which the rest needs.
Result<> mount_devices();
// A stream to a port of the host.
Result<Fd> connect_host(uint32_t port);
// The same without waiting: writable once it is connected, or has failed (SO_ERROR).
Result<Fd> begin_to_connect_host(uint32_t port);
// Streams that the host, and nobody in the guest, opens to a port of ours.
Result<ExecPort> listen_to_host(Loop& loop, uint32_t port, std::function<void(Fd)> adopt);
// Where what the agent changes in its image goes.
enum class Changes : uint8_t { Memory, ScratchDisk };
// The first block device's image (SquashFS or EROFS) becomes the root, with a layer for changes over it: the
// scratch disk if the VM has one, else a tmpfs.
Result<Changes> enter_image();
// /proc, /sys, /dev/pts, /tmp, ... of the new root. On a scratch disk /tmp is a folder like any other: it has
// the disk's room, where a tmpfs has half of the memory.
Result<> mount_api_filesystems(Changes changes);
// Fewer wake-ups of an idle guest, each of which is an exit, and work, to the host.
Result<> let_kernel_rest();
// What Start says of the machine: host name, clock, network, the app image at /app, shared folders. Adds to
// the environment where the box's authority is, for programs that ask there.
Result<> apply(guest_link::Start& start);
// To the host's, unless it is within a second of it: kvmclock normally has it right already, and more exactly
// than a message that has travelled. 0: leaves it.
Result<> set_clock(uint64_t clock_ns);
// Ends the VM. The monitor takes the reset for the end; there is no ACPI to power off with.
[[noreturn]] void end_machine();

} // namespace nullbox::agent_init

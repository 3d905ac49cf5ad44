// Stage 1: nulld as /init of the initramfs. Mounts /root.squashfs from there read-only, makes it the root,
// and executes /system/bin/nulld (stage 2) in it. If it cannot, the console says what is wrong and what to
// do, and the machine stays up (or does what nulld.on_failure on the kernel command line says).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nullbox::nulld {

// In the environment of stage 2: when stage 1 began, in microseconds of CLOCK_BOOTTIME.
constexpr const char* kStage1Variable = "NULLBOX_STAGE1_US";

[[noreturn]] void run_stage1();

// What is wrong with a SquashFS image, from its first 96 bytes and its size; empty if it looks right.
std::string squashfs_problem(std::string_view superblock, uint64_t file_bytes);
// What is wrong with a machine of so much memory (what the kernel has not kept for itself); empty: nothing.
std::string memory_problem(uint64_t total_bytes);

} // namespace nullbox::nulld

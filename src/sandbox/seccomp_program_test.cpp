// The program is run here by a small interpreter, for every number and for arguments around each check, and
// held against what libseccomp makes of the same rules.
#include "sandbox/seccomp_program.h"

#include <algorithm>
#include <cstring>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/file.h"

namespace nullbox::sandbox {

// The classic BPF that both compilers use; anything else fails the test.
static uint32_t run(std::span<const sock_filter> program, const seccomp_data& data) {
    uint32_t accumulator = 0;
    for (size_t at = 0; at < program.size(); at++) {
        const auto& step = program[at];
        switch (step.code) {
        case BPF_LD | BPF_W | BPF_ABS:
            std::memcpy(&accumulator, reinterpret_cast<const char*>(&data) + step.k, 4);
            break;
        case BPF_ALU | BPF_AND | BPF_K:
            accumulator &= step.k;
            break;
        case BPF_JMP | BPF_JA:
            at += step.k;
            break;
        case BPF_JMP | BPF_JEQ | BPF_K:
            at += accumulator == step.k ? step.jt : step.jf;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            at += accumulator >= step.k ? step.jt : step.jf;
            break;
        case BPF_JMP | BPF_JGT | BPF_K:
            at += accumulator > step.k ? step.jt : step.jf;
            break;
        case BPF_RET | BPF_K:
            return step.k;
        default:
            ADD_FAILURE() << "instruction " << step.code;
            return 0;
        }
    }
    ADD_FAILURE() << "the program has no end";
    return 0;
}

// libseccomp's answer for rules in which no call is both allowed and refused.
static std::vector<sock_filter> reference(std::span<const SyscallRule> rules) {
    auto context = ::seccomp_init(SCMP_ACT_KILL_PROCESS);
    ::seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    for (const auto& rule : rules) {
        std::vector<scmp_arg_cmp> checks;
        for (const auto& check : rule.arguments)
            checks.push_back({.arg = check.index,
                              .op = SCMP_CMP_MASKED_EQ,
                              .datum_a = check.mask,
                              .datum_b = check.value});
        auto action =
            rule.refuse_with ? SCMP_ACT_ERRNO(static_cast<uint16_t>(rule.refuse_with)) : SCMP_ACT_ALLOW;
        EXPECT_EQ(::seccomp_rule_add_array(context, action, rule.syscall,
                                           static_cast<unsigned>(checks.size()), checks.data()),
                  0);
    }
    Fd memory(::memfd_create("reference", MFD_CLOEXEC));
    EXPECT_EQ(::seccomp_export_bpf(context, memory.get()), 0);
    ::seccomp_release(context);
    ::lseek(memory.get(), 0, SEEK_SET);
    auto bytes = read_fd(memory.get(), size_t{1} << 20).value();
    std::vector<sock_filter> program(bytes.size() / sizeof(sock_filter));
    std::memcpy(program.data(), bytes.data(), bytes.size());
    return program;
}

static void expect_same(std::span<const SyscallRule> rules) {
    auto ours = seccomp_program(rules), theirs = reference(rules);
    std::vector<uint64_t> values{0, 1, UINT32_MAX, UINT64_MAX, uint64_t{1} << 32};
    for (const auto& rule : rules)
        for (const auto& check : rule.arguments)
            for (uint64_t value : {check.value, check.value ^ 1, check.value | ~check.mask, ~check.value})
                values.push_back(value);
    for (int number = 0; number < 600; number++)
        for (uint64_t value : values)
            for (size_t index = 0; index < 6; index++) {
                seccomp_data data{.nr = number, .arch = AUDIT_ARCH_X86_64};
                data.args[index] = value;
                ASSERT_EQ(run(ours, data), run(theirs, data))
                    << number << " argument " << index << " " << value;
            }
    for (uint32_t arch : {uint32_t{AUDIT_ARCH_I386}, uint32_t{AUDIT_ARCH_AARCH64}, 0u})
        EXPECT_EQ(run(ours, {.nr = SYS_read, .arch = arch}), SECCOMP_RET_KILL_PROCESS);
    for (int number : {0x40000000, 0x40000001, -1, INT32_MIN})
        EXPECT_EQ(run(ours, {.nr = number, .arch = AUDIT_ARCH_X86_64}), SECCOMP_RET_KILL_PROCESS) << number;
}

TEST(SeccompProgram, NothingIsAllowedByNoRules) { expect_same({}); }

TEST(SeccompProgram, ListsRangesAndEnds) {
    expect_same(std::vector<SyscallRule>{{SYS_read, {}, ""}});
    expect_same(
        std::vector<SyscallRule>{{SYS_read, {}, ""}, {SYS_write, {}, ""}, {SYS_open, {}, ""}, {462, {}, ""}});
    std::vector<SyscallRule> many;
    for (int number = 1; number < 450; number += 2) many.push_back({number, {}, "", number % 3 ? 0 : EPERM});
    expect_same(many); // long jumps too
}

TEST(SeccompProgram, ArgumentsInBothHalves) {
    expect_same(std::vector<SyscallRule>{
        {SYS_ioctl, {{.index = 1, .value = 0xae80}}, ""},
        {SYS_mmap, {{.index = 2, .value = 0, .mask = 4}, {.index = 3, .value = 0x22, .mask = 0x22}}, ""},
        {SYS_socket, {{.index = 0, .value = AF_UNIX}}, ""},
        {SYS_socket, {{.index = 0, .value = AF_NETLINK}, {.index = 2, .value = 12}}, ""},
        {SYS_lseek, {{.index = 1, .value = uint64_t{5} << 32 | 7, .mask = UINT64_MAX}}, ""},
        {SYS_clone, {{.index = 0, .value = uint64_t{1} << 40, .mask = uint64_t{1} << 40}}, ""},
        {SYS_prctl, {{.index = 0, .value = 38}}, "", EINVAL},
    });
}

TEST(SeccompProgram, EveryGroupOfServices) {
    for (auto group : syscall_group_names()) {
        auto rules = resolve_syscalls({std::string(group)}).value();
        // libseccomp refuses doubles and mixtures, which are ours to merge: left to the next test.
        std::vector<SyscallRule> simple;
        for (const auto& rule : rules) {
            bool doubled = std::ranges::count(rules, rule.syscall, &SyscallRule::syscall) > 1;
            if (!doubled) simple.push_back(rule);
        }
        expect_same(simple);
    }
}

TEST(SeccompProgram, AllowingCoversRefusingAndConditions) {
    auto of = [](const std::vector<SyscallRule>& rules, uint64_t argument) {
        seccomp_data data{.nr = SYS_ioctl, .arch = AUDIT_ARCH_X86_64};
        data.args[1] = argument;
        return run(seccomp_program(rules), data);
    };
    SyscallRule conditional{SYS_ioctl, {{.index = 1, .value = 7}}, ""}, always{SYS_ioctl, {}, ""},
        refused{SYS_ioctl, {}, "", ENOTTY};
    EXPECT_EQ(of({conditional}, 7), SECCOMP_RET_ALLOW);
    EXPECT_EQ(of({conditional}, 8), SECCOMP_RET_KILL_PROCESS);
    EXPECT_EQ(of({conditional, always}, 8), SECCOMP_RET_ALLOW);
    EXPECT_EQ(of({refused, conditional}, 7), SECCOMP_RET_ALLOW);
    EXPECT_EQ(of({refused, conditional}, 8), SECCOMP_RET_KILL_PROCESS);
    EXPECT_EQ(of({refused}, 8), SECCOMP_RET_ERRNO | ENOTTY);
    EXPECT_EQ(of({refused, always}, 8), SECCOMP_RET_ALLOW);
}

} // namespace nullbox::sandbox

#include "sandbox/seccomp_program.h"

#include <algorithm>
#include <cstddef>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <map>

namespace nullbox::sandbox {

using Block = std::vector<sock_filter>; // ends in a return on every way through it

constexpr uint32_t kX32Bit = 0x40000000;
constexpr uint32_t kLongestShortJump = 255;

static sock_filter statement(int code, uint32_t operand) {
    return {.code = static_cast<uint16_t>(code), .jt = 0, .jf = 0, .k = operand};
}
static sock_filter jump(int condition, uint32_t operand, size_t if_true, size_t if_false) {
    return {.code = static_cast<uint16_t>(BPF_JMP | condition | BPF_K),
            .jt = static_cast<uint8_t>(if_true),
            .jf = static_cast<uint8_t>(if_false),
            .k = operand};
}
static sock_filter load(size_t offset) {
    return statement(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(offset));
}
static sock_filter answer(uint32_t action) { return statement(BPF_RET | BPF_K, action); }

static uint32_t action_of(const SyscallRule& rule) {
    return rule.refuse_with ? SECCOMP_RET_ERRNO | static_cast<uint16_t>(rule.refuse_with) : SECCOMP_RET_ALLOW;
}

static bool same(const Block& left, const Block& right) {
    return std::ranges::equal(left, right, [](const sock_filter& a, const sock_filter& b) {
        return a.code == b.code && a.jt == b.jt && a.jf == b.jf && a.k == b.k;
    });
}

// Two of the three instructions of one half of an argument: the jump comes when it is known how far.
static void append_half(Block& checks, size_t offset, uint32_t mask, uint32_t value) {
    if (mask == 0) return; // nothing of this half counts
    checks.push_back(load(offset));
    if (mask != UINT32_MAX) checks.push_back(statement(BPF_ALU | BPF_AND | BPF_K, mask));
    checks.push_back(jump(BPF_JEQ, value, 0, 0));
}

// All checks of one rule and its answer; what fails goes on after it.
static Block conditional(const SyscallRule& rule) {
    Block block;
    for (const auto& check : rule.arguments) {
        size_t low = offsetof(seccomp_data, args) + sizeof(uint64_t) * check.index; // little-endian
        append_half(block, low, static_cast<uint32_t>(check.mask), static_cast<uint32_t>(check.value));
        append_half(block, low + 4, static_cast<uint32_t>(check.mask >> 32),
                    static_cast<uint32_t>(check.value >> 32));
    }
    block.push_back(answer(action_of(rule)));
    for (size_t i = 0; i < block.size(); i++)
        if (block[i].code == (BPF_JMP | BPF_JEQ | BPF_K))
            block[i].jf = static_cast<uint8_t>(block.size() - i - 1);
    return block;
}

// One call's rules: an unconditional allowing one covers all; where one allows, refusing ones do not count.
static Block block_for(const std::vector<const SyscallRule*>& rules) {
    auto unconditional = [](const SyscallRule* rule) { return rule->arguments.empty(); };
    auto allowing = [](const SyscallRule* rule) { return rule->refuse_with == 0; };
    bool any_allows = std::ranges::any_of(rules, allowing);
    Block block;
    for (const auto* rule : rules) {
        if (any_allows && !allowing(rule)) continue;
        if (unconditional(rule)) return {answer(action_of(*rule))};
        std::ranges::copy(conditional(*rule), std::back_inserter(block));
    }
    block.push_back(answer(SECCOMP_RET_KILL_PROCESS));
    return block;
}

struct Interval { // of system call numbers, to the next one's first
    uint32_t first;
    Block block;
};

static std::vector<Interval> intervals(std::span<const SyscallRule> rules) {
    std::map<uint32_t, std::vector<const SyscallRule*>> by_call;
    for (const auto& rule : rules) by_call[static_cast<uint32_t>(rule.syscall)].push_back(&rule);
    const Block kill{answer(SECCOMP_RET_KILL_PROCESS)};
    std::vector<Interval> out;
    auto append = [&](uint32_t first, Block block) {
        if (!out.empty() && out.back().first == first) out.pop_back();
        if (out.empty() || !same(out.back().block, block)) out.push_back({first, std::move(block)});
    };
    append(0, kill);
    for (const auto& [number, same_call] : by_call) {
        append(number, block_for(same_call));
        append(number + 1, kill);
    }
    return out;
}

// With the number in the accumulator: the block of the interval that it is in.
static Block bisect(std::span<Interval> within) {
    if (within.size() == 1) return std::move(within[0].block);
    size_t middle = within.size() / 2;
    uint32_t first_right = within[middle].first;
    Block left = bisect(within.first(middle)), right = bisect(within.subspan(middle));
    Block block;
    if (left.size() <= kLongestShortJump) {
        block.push_back(jump(BPF_JGE, first_right, left.size(), 0));
    } else {
        block.push_back(jump(BPF_JGE, first_right, 0, 1));
        block.push_back(statement(BPF_JMP | BPF_JA, static_cast<uint32_t>(left.size())));
    }
    std::ranges::copy(left, std::back_inserter(block));
    std::ranges::copy(right, std::back_inserter(block));
    return block;
}

std::vector<sock_filter> seccomp_program(std::span<const SyscallRule> rules) {
    Block program{
        load(offsetof(seccomp_data, arch)), jump(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0),
        answer(SECCOMP_RET_KILL_PROCESS),   load(offsetof(seccomp_data, nr)),
        jump(BPF_JGE, kX32Bit, 0, 1),       answer(SECCOMP_RET_KILL_PROCESS),
    };
    auto parts = intervals(rules);
    std::ranges::copy(bisect(parts), std::back_inserter(program));
    return program;
}

} // namespace nullbox::sandbox

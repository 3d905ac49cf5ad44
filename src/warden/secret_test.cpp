#include "warden/secret.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "warden/memory_search.h"
#include "warden/test_vault.h"

namespace nullbox::warden {

// The flags of the mapping that an address lies in (proc(5), VmFlags).
static std::string flags_of(const void* address) {
    auto smaps = read_file("/proc/self/smaps", size_t{8} << 20);
    auto at = reinterpret_cast<uintptr_t>(address);
    bool inside = false;
    for (auto line : split(smaps.value_or(""), '\n')) {
        unsigned long from = 0, to = 0;
        if (std::sscanf(std::string(line).c_str(), "%lx-%lx ", &from, &to) == 2)
            inside = from <= at && at < to;
        if (inside && line.starts_with("VmFlags:")) return std::string(line);
    }
    return {};
}

TEST(SecretBytes, PagesAreLockedAndOutOfDumpsAndChildren) {
    auto bytes = secret("a secret");
    auto flags = flags_of(bytes.bytes().data());
#if !__has_feature(address_sanitizer) // which makes mlock do nothing
    EXPECT_TRUE(flags.contains(" lo")) << flags;
#endif
    EXPECT_TRUE(flags.contains(" dd")) << flags;
    EXPECT_TRUE(flags.contains(" wf")) << flags;
}

TEST(SecretBytes, AForkedChildHasZeros) {
    auto bytes = secret("x");
    pid_t child = ::fork();
    if (child == 0) ::_exit(bytes.bytes()[0] == std::byte{0} ? 0 : 1);
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(bytes.text(), "x");
}

TEST(SecretBytes, MovesAndShrinks) {
    auto first = secret("0123456789");
    auto second = std::move(first);
    EXPECT_EQ(first.size(), 0u); // NOLINT(bugprone-use-after-move): empty is the promise
    EXPECT_EQ(second.text(), "0123456789");
    const auto* rest = second.bytes().data() + 4;
    second.shrink(4);
    EXPECT_EQ(second.text(), "0123");
    EXPECT_EQ(*rest, std::byte{0});
    first = std::move(second);
    EXPECT_EQ(first.text(), "0123");
    EXPECT_EQ(SecretBytes::make(0)->size(), 0u);
    EXPECT_EQ(SecretBytes::make(4096)->size(), 4096u);
}

TEST(SecretBytes, WipedTextsLeaveNothing) {
    std::string text = "a text of more than twenty-two bytes";
    const char* place = text.data();
    wipe(text);
    EXPECT_TRUE(text.empty());
    for (int i = 0; i < 36; i++) EXPECT_EQ(place[i], '\0');
}

[[gnu::noinline]] static void leave_on_the_stack(volatile char* out) {
    volatile char copy[size_t{64} << 10]; // far below what the search itself will overwrite
    // Made here, so that it stands nowhere else.
    const char text[] = {'s', 't', 'a', 'c', 'k', '-', 'r', 'e', 's', 'i', 'd', 'u', 'e', '-', '7', '3'};
    for (size_t i = 0; i < sizeof text; i++) copy[100 + i] = static_cast<char>(text[i] ^ *out);
    *out = copy[100];
}

TEST(SecretBytes, TheStackIsWipedAndTheSearchFindsWhatIsThere) {
#if __has_feature(address_sanitizer)
    GTEST_SKIP() << "its stacks are its own";
#endif
    Needle needle("STACK\rRESIDUE\r\x17\x13"); // the text, each byte ^ 0x20
    volatile char mask = 0x20;
    leave_on_the_stack(&mask);
    auto found = find_in_memory("self", needle);
    if (!found) GTEST_SKIP() << "/proc/self/mem cannot be read here";
    EXPECT_TRUE(found->contains("[stack]")) << "the search must be able to find it: " << *found;
    wipe_stack();
    EXPECT_EQ(find_in_memory("self", needle), "");
}

} // namespace nullbox::warden

#include "warden/vault.h"

#include <cerrno>
#include <csignal>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "warden/golden_vaults.h"
#include "warden/memory_search.h"
#include "warden/test_vault.h"

namespace nullbox::warden {

using State = Vault::State;
constexpr std::string_view kPassphrase = "correct horse battery";

static KdfParameters some_kdf() { return *make_kdf(KdfParameters::Kind::Argon2id); }
static Grant for_header(std::string agent, std::string host, std::string header = "Authorization",
                        std::string format = "{secret}") {
    return {.agent = std::move(agent),
            .host = std::move(host),
            .header = std::move(header),
            .format = std::move(format)};
}
static Grant as_exposed(std::string agent) { return {.agent = std::move(agent), .exposed = true}; }

// An unlocked vault with two secrets that "a" may have.
class VaultTest : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_EQ(vault.state(), State::Absent);
        EXPECT_OK(vault.create(some_kdf(), test_key('k')));
        EXPECT_OK(vault.set("ONE", secret("value one"), 1000));
        EXPECT_OK(vault.set("TWO", secret("value two"), 2000));
        EXPECT_OK(vault.grant("ONE", as_exposed("a")));
        EXPECT_OK(vault.grant("TWO", as_exposed("a")));
    }
    std::string bytes() const { return *read_file(path, kMostVaultBytes); }
    Folder folder;
    std::string path = folder.path + "/vault";
    Vault vault{path};
};

TEST_F(VaultTest, WhatIsWrittenIsReadAgain) {
    Vault again(path);
    EXPECT_EQ(again.state(), State::Locked);
    EXPECT_EQ(again.secrets(), 2u);
    EXPECT_CODE(again.exposed("a", "ONE"), ENOKEY);
    EXPECT_CODE(again.unlock(test_key('x')), EKEYREJECTED);
    EXPECT_EQ(again.state(), State::Locked);
    EXPECT_OK(again.unlock(test_key('k')));
    EXPECT_EQ(again.state(), State::Unlocked);
    EXPECT_EQ(again.exposed("a", "ONE")->text(), "value one");
    EXPECT_EQ(again.exposed("a", "TWO")->text(), "value two");
    ASSERT_EQ(again.records().size(), 2u);
    EXPECT_EQ(again.records()[0].name, "ONE");
    EXPECT_EQ(again.records()[0].version, 1u);
    EXPECT_EQ(again.records()[0].created_ms, 1000);
    again.lock();
    EXPECT_EQ(again.state(), State::Locked);
    EXPECT_TRUE(again.records().empty());
    EXPECT_CODE(again.set("THREE", secret("x"), 0), ENOKEY);
    EXPECT_CODE(again.create(some_kdf(), test_key('k')), EEXIST);
    struct stat status{};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, 0600u);
}

TEST_F(VaultTest, NothingIsInTheFileInClear) {
    EXPECT_OK(vault.grant("ONE", for_header("researcher", "api.example.org")));
    for (std::string_view text : {"value one", "ONE", "researcher", "api.example.org", "Authorization"})
        EXPECT_EQ(bytes().find(text), std::string::npos) << text;
}

TEST_F(VaultTest, ANewValueIsANewVersion) {
    auto version = vault.set("ONE", secret("value three"), 3000);
    ASSERT_TRUE(version.has_value());
    EXPECT_EQ(*version, 2u);
    EXPECT_EQ(vault.exposed("a", "ONE")->text(), "value three") << "the grant stays";
    EXPECT_EQ(vault.records()[0].created_ms, 1000);
    EXPECT_EQ(vault.records()[0].updated_ms, 3000);
    EXPECT_OK(vault.erase("ONE"));
    EXPECT_CODE(vault.exposed("a", "ONE"), ENOKEY);
    EXPECT_CODE(vault.erase("ONE"), ENOKEY);
    EXPECT_OK(vault.set("ONE", secret("again"), 4000));
    EXPECT_CODE(vault.exposed("a", "ONE"), EACCES) << "the grants of the deleted one are gone";
}

TEST_F(VaultTest, OnlyWhatWasGrantedIsGiven) {
    EXPECT_CODE(vault.injection("a", "api.example.org"), EACCES);
    EXPECT_OK(vault.grant("ONE", for_header("a", "api.example.org", "Authorization", "Bearer {secret}!")));
    EXPECT_OK(vault.grant("TWO", for_header("a", "api.example.org", "X-Key")));
    auto items = vault.injection("a", "api.example.org");
    ASSERT_TRUE(items.has_value());
    ASSERT_EQ(items->size(), 2u);
    EXPECT_EQ((*items)[0].secret, "ONE");
    EXPECT_EQ((*items)[0].header, "Authorization");
    EXPECT_EQ((*items)[0].value.text(), "Bearer value one!");
    EXPECT_EQ((*items)[1].value.text(), "value two");
    for (auto [agent, host] : {std::pair("b", "api.example.org"),
                               {"a", "example.org"},
                               {"a", "x.api.example.org"},
                               {"a", "API.example.org"},
                               {"a", "api.example.org."},
                               {"", ""}})
        EXPECT_CODE(vault.injection(agent, host), EACCES) << agent << " " << host;
    EXPECT_CODE(vault.exposed("b", "ONE"), EACCES);
    EXPECT_CODE(vault.exposed("a", "THREE"), ENOKEY);
    // A header's grant is no exposure, and the other way round.
    EXPECT_OK(vault.grant("ONE", for_header("c", "api.example.org")));
    EXPECT_CODE(vault.exposed("c", "ONE"), EACCES);
    // Replaced, however the header is written; then revoked.
    EXPECT_OK(vault.grant("ONE", for_header("a", "api.example.org", "AUTHORIZATION", "Token {secret}")));
    items = vault.injection("a", "api.example.org");
    ASSERT_EQ(items->size(), 2u);
    EXPECT_EQ((*items)[0].value.text(), "Token value one");
    EXPECT_OK(vault.revoke("ONE", "a"));
    EXPECT_EQ(vault.injection("a", "api.example.org")->size(), 1u);
    EXPECT_CODE(vault.exposed("a", "ONE"), EACCES);
    EXPECT_CODE(vault.revoke("ONE", "a"), EACCES);
    EXPECT_OK(vault.injection("c", "api.example.org"));
}

TEST_F(VaultTest, WhatDoesNotFitAHeaderIsNotGrantedForOne) {
    for (std::string_view wrong : {"a\nb", "a\r\nSet-Cookie: x", "a\tb", "\x7f", "caf\xc3\xa9", "x\x01"}) {
        EXPECT_OK(vault.set("ODD", secret(wrong), 0));
        EXPECT_CODE(vault.grant("ODD", for_header("a", "h.example.org")), EINVAL);
        EXPECT_OK(vault.grant("ODD", as_exposed("a")));
        EXPECT_OK(vault.grant("ONE", for_header("a", "h.example.org")));
        auto refused = vault.set("ONE", secret(wrong), 0);
        EXPECT_CODE(refused, EINVAL);
        EXPECT_EQ(refused.error().message.find(wrong), std::string::npos) << "the value is in no message";
    }
    EXPECT_OK(vault.set("NUL", secret(std::string_view("a\0b", 3)), 0));
    EXPECT_CODE(vault.grant("NUL", for_header("a", "h.example.org")), EINVAL);
    EXPECT_OK(vault.set("LONG", secret(std::string(8193, 'x')), 0));
    EXPECT_CODE(vault.grant("LONG", for_header("a", "h.example.org")), EINVAL);
    EXPECT_EQ(vault.exposed("a", "ONE")->text(), "value one");
}

TEST_F(VaultTest, WrongGrantsAndValuesAreRefused) {
    for (const auto& wrong :
         {for_header("", "h.example.org"), for_header("A b", "h.example.org"), for_header("a", ""),
          for_header("a", "*.example.org"), for_header("a", "h.example.org", "A\r\nB"),
          for_header("a", "h.example.org", "Host"), for_header("a", "h.example.org", "A", "no mark"),
          for_header("a", "h.example.org", "A", "{secret}{secret}"),
          for_header("a", "h.example.org", "A", "{secret}\n"), as_exposed(std::string(33, 'a'))})
        EXPECT_CODE(vault.grant("ONE", wrong), EINVAL);
    EXPECT_CODE(vault.grant("THREE", as_exposed("a")), ENOKEY);
    EXPECT_CODE(vault.set("A B", secret("x"), 0), EINVAL);
    EXPECT_CODE(vault.set("", secret("x"), 0), EINVAL);
    EXPECT_CODE(vault.set(std::string(65, 'A'), secret("x"), 0), EINVAL);
    EXPECT_CODE(vault.set("A", secret(""), 0), EINVAL);
    EXPECT_CODE(vault.set("A", secret(std::string(65537, 'x')), 0), EINVAL);
    EXPECT_OK(vault.set("A", secret(std::string(65536, 'x')), 0));
}

TEST_F(VaultTest, LimitsHold) {
    for (int i = 0; i < 63; i++) EXPECT_OK(vault.grant("ONE", as_exposed(cat("agent-", i))));
    EXPECT_CODE(vault.grant("ONE", as_exposed("one-more")), EDQUOT);
    EXPECT_OK(vault.grant("ONE", as_exposed("a"))) << "one that is there";
    // 4 MiB in all, however few they are.
    auto big = secret(std::string(65536, 'x'));
    int count = 0;
    while (count < 200 && vault.set(cat("BIG", count), big, 0)) count++;
    EXPECT_GT(count, 50);
    EXPECT_LT(count, 64);
    EXPECT_CODE(vault.set("BIG", big, 0), EDQUOT);
    EXPECT_EQ(vault.exposed("a", "TWO")->text(), "value two");
    EXPECT_LE(bytes().size(), kMostVaultBytes);
}

TEST_F(VaultTest, ANewPassphraseMakesANewRootKey) {
    auto old = bytes();
    auto kdf = some_kdf();
    EXPECT_CODE(vault.change_key(test_key('x'), kdf, test_key('n')), EKEYREJECTED);
    EXPECT_EQ(bytes(), old);
    EXPECT_OK(vault.change_key(test_key('k'), kdf, test_key('n')));
    EXPECT_EQ(vault.exposed("a", "ONE")->text(), "value one");
    EXPECT_OK(vault.set("THREE", secret("value three"), 0));
    Vault again(path);
    EXPECT_CODE(again.unlock(test_key('k')), EKEYREJECTED);
    EXPECT_OK(again.unlock(test_key('n')));
    EXPECT_EQ(again.exposed("a", "ONE")->text(), "value one");
    // The old slot, which the old passphrase opens, put into the new file.
    auto file = *parse_vault(std::as_bytes(std::span(old)));
    auto now = bytes();
    auto mixed = *parse_vault(std::as_bytes(std::span(now)));
    mixed.slots = file.slots;
    write_plain(path, *encode(mixed));
    Vault attacked(path);
    EXPECT_CODE(attacked.unlock(test_key('k')), EBADMSG);
}

TEST_F(VaultTest, SlotsOfKindsToComeAreKept) {
    auto now = bytes();
    auto file = *parse_vault(std::as_bytes(std::span(now)));
    file.slots.insert(file.slots.begin(), Slot{.kind = 77, .body = from_hex("0102")});
    auto again = parse_vault(*encode(file));
    ASSERT_TRUE(again.has_value()) << again.error().message;
    EXPECT_EQ(again->slots, file.slots);
    write_plain(path, *encode(file));
    Vault attacked(path);
    EXPECT_CODE(attacked.unlock(test_key('k')), EBADMSG) << "but nobody adds one without the root key";
}

TEST_F(VaultTest, ADiskThatRefusesChangesNothing) {
    auto before = bytes();
    std::filesystem::create_directory(path + ".new"); // where the new file would be written
    EXPECT_CODE(vault.set("ONE", secret("other"), 0), EIO);
    EXPECT_CODE(vault.erase("TWO"), EIO);
    EXPECT_EQ(vault.exposed("a", "ONE")->text(), "value one");
    EXPECT_EQ(vault.exposed("a", "TWO")->text(), "value two");
    EXPECT_EQ(bytes(), before);
    std::filesystem::remove(path + ".new");
    EXPECT_OK(vault.set("ONE", secret("other"), 0));
}

TEST_F(VaultTest, ADamagedFileIsLeftAsItIs) {
    write_plain(path, from_hex("00"));
    Vault damaged(path);
    EXPECT_EQ(damaged.state(), State::Damaged);
    EXPECT_TRUE(damaged.problem().contains("is damaged")) << damaged.problem();
    EXPECT_CODE(damaged.create(some_kdf(), test_key('k')), EEXIST);
    EXPECT_FALSE(damaged.unlock(test_key('k')).has_value());
    EXPECT_EQ(bytes().size(), 1u);
    std::filesystem::remove(path);
    std::filesystem::create_directory(path);
    EXPECT_EQ(Vault(path).state(), State::Damaged);
}

// What a locked vault held is nowhere in the memory any more, and was not while nobody used it.
TEST_F(VaultTest, SecretsAreInMemoryOnlyWhileTheyAreUsed) {
#if __has_feature(address_sanitizer)
    GTEST_SKIP() << "its memory is too much to search";
#endif
    std::string value;
    for (int i = 0; i < 24; i++) value += static_cast<char>('a' + (i * 7) % 26);
    Needle needle(value);
    auto taken = secret(value);
    wipe(value);
    EXPECT_OK(vault.set("ONE", taken, 0));
    taken.clear();
    auto found = find_in_memory("self", needle);
    if (!found) GTEST_SKIP() << "/proc/self/mem cannot be read here";
    wipe_stack();
    EXPECT_EQ(find_in_memory("self", needle), "");
    {
        auto used = vault.exposed("a", "ONE");
        ASSERT_TRUE(used.has_value());
        EXPECT_NE(find_in_memory("self", needle), "") << "the search must be able to find it";
    }
    EXPECT_EQ(find_in_memory("self", needle), "");
    vault.lock();
    EXPECT_EQ(find_in_memory("self", needle), "");
}

// --- Attacks on the file

static bool opens_with_right_values(const std::string& path, const SecretBytes& key, std::string_view what) {
    Vault vault(path);
    if (!vault.unlock(key)) return false;
    auto one = vault.exposed("researcher", "DEMO_KEY"), two = vault.exposed("analyst", "license.key");
    auto items = vault.injection("researcher", "api.example.org");
    if (items) EXPECT_EQ((*items)[0].value.text(), "Bearer sk-demo-9876543210") << what;
    if (two) EXPECT_EQ(two->text(), "line one\nline two\n") << what;
    return items.has_value() && two.has_value();
}

struct Golden {
    Bytes bytes;
    SecretBytes key;
};
static Golden golden(std::string_view hex) {
    auto bytes = from_hex(hex);
    auto file = parse_vault(bytes);
    EXPECT_OK(file);
    auto slot = parse_passphrase_slot(file->slots.at(0).body);
    auto key = derive_key(slot->kdf, secret(kPassphrase));
    EXPECT_OK(key);
    return {std::move(bytes), *std::move(key)};
}

TEST(GoldenVaults, Open) {
    Folder folder;
    for (auto hex : {kGoldenPbkdf2, kGoldenArgon2id}) {
        auto [bytes, key] = golden(hex);
        write_plain(folder.path + "/vault", bytes);
        EXPECT_TRUE(opens_with_right_values(folder.path + "/vault", key, "untouched"));
        EXPECT_EQ(*encode(*parse_vault(bytes)), bytes);
        Vault vault(folder.path + "/vault");
        EXPECT_OK(vault.unlock(key));
        ASSERT_EQ(vault.records().size(), 2u);
        EXPECT_EQ(vault.records()[0].version, 2u);
        EXPECT_EQ(vault.records()[0].grants,
                  (std::vector<Grant>{
                      for_header("researcher", "api.example.org", "Authorization", "Bearer {secret}")}));
        EXPECT_EQ(vault.records()[1].grants, (std::vector<Grant>{as_exposed("analyst")}));
    }
}

TEST(GoldenVaults, EveryBitFlipIsSeen) {
    auto bytes = from_hex(kGoldenPbkdf2);
    for (size_t i = 0; i < bytes.size(); i++)
        for (int bit = 0; bit < 8; bit++) {
            auto flipped = bytes;
            flipped[i] ^= std::byte(1 << bit);
            auto parsed = parse_vault(flipped);
            EXPECT_CODE(parsed, EBADMSG) << "byte " << i << " bit " << bit;
            if (!parsed)
                EXPECT_TRUE(parsed.error().message.contains("the vault is damaged"))
                    << parsed.error().message;
        }
}

// By somebody who knows the format, but not the passphrase.
TEST(GoldenVaults, EveryForgedByteIsSeen) {
    Folder folder;
    auto [bytes, key] = golden(kGoldenPbkdf2);
    auto path = folder.path + "/vault";
    for (size_t i = 0; i + kDigestBytes < bytes.size(); i++) {
        auto forged = bytes;
        forged[i] ^= std::byte(1 << i % 8);
        fix_checksum(forged);
        write_plain(path, forged);
        EXPECT_FALSE(opens_with_right_values(path, key, cat("byte ", i))) << "byte " << i;
    }
}

TEST(GoldenVaults, EveryTruncationIsSeen) {
    Folder folder;
    auto [bytes, key] = golden(kGoldenPbkdf2);
    for (size_t length = 0; length < bytes.size(); length++) {
        auto cut = Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
        EXPECT_FALSE(parse_vault(cut).has_value()) << length;
        if (length < kDigestBytes) continue;
        fix_checksum(cut);
        write_plain(folder.path + "/vault", cut);
        EXPECT_FALSE(opens_with_right_values(folder.path + "/vault", key, cat("cut at ", length)));
    }
    auto longer = bytes;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(parse_vault(longer).has_value());
    fix_checksum(longer);
    EXPECT_FALSE(parse_vault(longer).has_value());
}

// Without its key, but with older files of the same vault at hand.
TEST_F(VaultTest, PartsOfOlderFilesDoNotMixIn) {
    auto old = bytes();
    EXPECT_OK(vault.set("ONE", secret("value new"), 3000));
    EXPECT_OK(vault.revoke("TWO", "a"));
    auto now = bytes();
    auto older = *parse_vault(std::as_bytes(std::span(old)));
    auto newer = *parse_vault(std::as_bytes(std::span(now)));
    auto attack = [&](const VaultFile& file, std::string_view what) {
        write_plain(path, *encode(file));
        Vault attacked(path);
        EXPECT_EQ(attacked.state(), State::Locked) << what;
        auto opened = attacked.unlock(test_key('k'));
        if (opened)
            EXPECT_CODE(attacked.exposed("a", "ONE"), EBADMSG) << what;
        else
            EXPECT_CODE(opened, EBADMSG) << what;
    };
    auto mixed = newer;
    mixed.index = older.index; // the old grants
    attack(mixed, "old index");
    mixed = newer;
    mixed.values = older.values; // the old value
    attack(mixed, "old values");
    mixed = newer; // values of two secrets swapped: both are nine bytes long
    std::rotate(mixed.values.begin(), mixed.values.begin() + 9, mixed.values.end());
    attack(mixed, "swapped values");
    mixed = newer;
    mixed.generation = older.generation;
    attack(mixed, "old generation");
    mixed = newer;
    mixed.secrets = 1;
    attack(mixed, "a secret less");
    mixed = newer;
    mixed.id[0] ^= std::byte{1};
    write_plain(path, *encode(mixed));
    EXPECT_CODE(Vault(path).unlock(test_key('k')), EKEYREJECTED) << "the slot is of another vault";
}

TEST(VaultFile, WeakerAndHeavierKeyDerivationsAreRefused) {
    struct {
        size_t at;
        uint32_t value;
    } cases[] = {
        {0, 0}, {0, 3}, {4, 1024}, {4, 19'455}, {4, UINT32_MAX}, {8, 1}, {8, 1'000'000}, {12, 0}, {12, 255},
    };
    auto bytes = from_hex(kGoldenArgon2id);
    auto file = *parse_vault(bytes);
    for (const auto& one : cases) {
        auto weaker = file;
        std::memcpy(weaker.slots[0].body.data() + one.at, &one.value, sizeof one.value);
        auto parsed = parse_vault(*encode(weaker));
        EXPECT_CODE(parsed, EBADMSG);
        EXPECT_TRUE(parsed.error().message.contains("key derivation")) << parsed.error().message;
    }
    auto iterations = *parse_vault(from_hex(kGoldenPbkdf2));
    for (uint32_t value : {1u, 599'999u, 20'000'001u}) {
        auto weaker = iterations;
        std::memcpy(weaker.slots[0].body.data() + 8, &value, sizeof value);
        EXPECT_CODE(parse_vault(*encode(weaker)), EBADMSG);
    }
}

// --- Power cuts

// Writes for as long as it lives, and tells the version of each value that is safely written.
[[noreturn]] static void write_for_ever(const std::string& path, int acknowledged) {
    Vault vault(path);
    if (!vault.unlock(test_key('k'))) ::_exit(1);
    for (uint64_t i = 0;; i++) {
        auto next = vault.records().at(0).version + 1;
        auto version = vault.set("A", secret(cat("value-", next, "-", std::string(i % 97 * 100, 'x'))), 0);
        if (!version || ::write(acknowledged, &*version, sizeof *version) != sizeof *version) ::_exit(1);
    }
}

TEST(VaultFile, IsWholeWheneverTheWriterIsKilled) {
    Folder folder;
    auto path = folder.path + "/vault";
    {
        Vault vault(path);
        EXPECT_OK(vault.create(some_kdf(), test_key('k')));
        EXPECT_OK(vault.set("A", secret("value-1-"), 0));
        EXPECT_OK(vault.grant("A", as_exposed("a")));
    }
    uint64_t written = 0, last = 1;
    for (int round = 0; round < 200; round++) {
        auto pipe = make_pipe();
        ASSERT_TRUE(pipe.has_value());
        pid_t child = ::fork();
        if (child == 0) write_for_ever(path, pipe->write.get());
        pipe->write.reset();
        ASSERT_EQ(::read(pipe->read.get(), &last, sizeof last), ssize_t{sizeof last});
        std::this_thread::sleep_for(std::chrono::microseconds(round * 37 % 3000));
        ::kill(child, SIGKILL);
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status));
        while (::read(pipe->read.get(), &last, sizeof last) > 0) {
        }
        Vault vault(path);
        ASSERT_EQ(vault.state(), State::Locked) << vault.problem();
        auto opened = vault.unlock(test_key('k'));
        ASSERT_TRUE(opened.has_value()) << opened.error().message;
        auto version = vault.records().at(0).version;
        EXPECT_GE(version, last) << "what was acknowledged is there";
        EXPECT_LE(version, last + 1);
        auto value = vault.exposed("a", "A");
        ASSERT_TRUE(value.has_value()) << value.error().message;
        EXPECT_TRUE(value->text().starts_with(cat("value-", version, "-")));
        written = version;
    }
    EXPECT_GT(written, 200u);
}

} // namespace nullbox::warden

#include "ctxgraph/store.h"

#include <algorithm>
#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <gtest/gtest.h>
#include <poll.h>
#include <ranges>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "ctxgraph/search_query.h"
#include "ctxgraph/test_folder.h"

namespace nullbox::ctxgraph {

static Write value(std::string key, std::string text, std::string space = "n",
                   std::string author = "agent:a") {
    return {.space = std::move(space),
            .key = std::move(key),
            .value = std::move(text),
            .author = std::move(author)};
}

class StoreTest : public testing::Test {
protected:
    void SetUp() override { open(); }
    void open(StoreLimits limits = {}) {
        store_.reset();
        auto store = Store::open(folder_ / "graph.db", limits);
        ASSERT_TRUE(store.has_value()) << store.error().message;
        store_ = *std::move(store);
    }
    Result<Written> put(const Write& write) { return std::move(store_->apply({&write, 1}).front()); }
    // The id of what must be created.
    std::string created(const Write& write) {
        auto done = put(write);
        EXPECT_TRUE(done.has_value()) << done.error().message;
        if (!done.has_value()) return "";
        EXPECT_EQ(done->outcome, Written::Outcome::Created);
        return done->id;
    }
    std::vector<std::string> found(const std::string& query, std::vector<std::string> spaces = {"n"}) {
        auto page = store_->search(&spaces, *fts_expression(query), "", 100);
        EXPECT_TRUE(page.has_value()) << page.error().message;
        if (!page.has_value()) return {};
        std::vector<std::string> keys;
        for (const auto& entry : page->entries) keys.push_back(entry.key);
        return keys;
    }
    using Keys = std::vector<std::string>;

    TestFolder folder_;
    std::unique_ptr<Store> store_;
};

TEST_F(StoreTest, WhatIsWrittenIsRead) {
    auto id = created(value("k", R"({"a":1})"));
    auto entry = *store_->head("n", "k");
    ASSERT_TRUE(entry.has_value());
    EXPECT_EQ(entry->id, id);
    EXPECT_EQ(entry->space, "n");
    EXPECT_EQ(entry->key, "k");
    EXPECT_EQ(entry->value, R"({"a":1})");
    EXPECT_EQ(entry->author, "agent:a");
    EXPECT_EQ(entry->position, 1u);
    EXPECT_GT(entry->time_ms, 1'500'000'000'000);
    EXPECT_EQ(entry_id(*entry), id); // what is stored is what the id stands for
    EXPECT_EQ((*store_->entry(id))->key, "k");
    EXPECT_FALSE(store_->entry(std::string(64, '0'))->has_value());
    EXPECT_FALSE(store_->head("n", "x")->has_value());
    EXPECT_FALSE(store_->head("x", "k")->has_value());
}

TEST_F(StoreTest, TheSameWriteTwiceIsOneEntry) {
    auto id = created(value("k", "1"));
    auto again = put(value("k", "1"));
    EXPECT_EQ(again->outcome, Written::Outcome::Unchanged);
    EXPECT_EQ(again->id, id);
    EXPECT_EQ(store_->totals()->entries, 1u);
    // Another author says the same: that is another entry.
    EXPECT_NE(created(value("k", "1", "n", "agent:b")), id);
}

TEST_F(StoreTest, AnOlderValueWrittenBackIsANewEntry) {
    auto first = created(value("k", "1")), second = created(value("k", "2")),
         third = created(value("k", "1"));
    EXPECT_NE(first, third);
    auto history = store_->history("n", "k", "", 10);
    ASSERT_EQ(history->entries.size(), 3u);
    EXPECT_EQ(history->entries[0].id, third);
    EXPECT_EQ(history->entries[0].parents, std::vector{second});
    EXPECT_EQ(history->entries[1].parents, std::vector{first});
    EXPECT_TRUE(history->entries[2].parents.empty());
    EXPECT_EQ(history->next, "");
}

TEST_F(StoreTest, CompareAndPut) {
    auto write = value("k", "1");
    write.if_head = "";
    auto first = created(write);
    EXPECT_EQ(put(write)->outcome, Written::Outcome::Unchanged); // the same request again
    auto other = value("k", "2");
    other.if_head = "";
    auto conflict = put(other);
    EXPECT_EQ(conflict->outcome, Written::Outcome::Conflict);
    EXPECT_EQ(conflict->id, first);
    other.if_head = first;
    auto second = created(other);
    EXPECT_EQ(put(other)->outcome, Written::Outcome::Unchanged);
    EXPECT_EQ(put(other)->id, second);
    auto third = value("k", "3", "n", "agent:b");
    third.if_head = first;
    EXPECT_EQ(put(third)->id, second);
    EXPECT_EQ(put(third)->outcome, Written::Outcome::Conflict);
    created(value("k", "4"));
    EXPECT_EQ(put(other)->outcome, Written::Outcome::Conflict); // not the head any more
    auto absent = value("absent", "1");
    absent.if_head = first;
    EXPECT_EQ(put(absent)->outcome, Written::Outcome::Conflict);
    EXPECT_EQ(put(absent)->id, "");
}

TEST_F(StoreTest, ATombstoneEndsAKeyAndKeepsItsHistory) {
    Write remove{.space = "n", .key = "k", .kind = Kind::Tombstone, .author = "agent:a"};
    EXPECT_EQ(put(remove).error().code, ENOENT);
    EXPECT_EQ(store_->namespaces()->size(), 0u); // nothing is left of what failed
    created(value("k", R"("boat")"));
    auto id = created(remove);
    EXPECT_EQ(put(remove)->outcome, Written::Outcome::Unchanged);
    EXPECT_EQ((*store_->head("n", "k"))->kind, Kind::Tombstone);
    EXPECT_EQ(found("boat"), Keys());
    EXPECT_TRUE(store_->list("n", "", "", 10)->entries.empty());
    EXPECT_EQ(store_->namespaces()->front().keys, 0u);
    auto back = value("k", R"("boat")");
    back.if_head = ""; // a key that has ended does not exist
    created(back);
    EXPECT_EQ(found("boat"), Keys{"k"});
    auto history = store_->history("n", "k", "", 10);
    ASSERT_EQ(history->entries.size(), 3u);
    EXPECT_EQ(history->entries[0].parents, std::vector{id});
}

TEST_F(StoreTest, SourcesMakeAGraph) {
    auto a = created(value("a", "1")), b = created(value("b", "2"));
    auto made = value("c", "3");
    made.sources = {a, b, a};
    auto c = created(made);
    EXPECT_EQ(put(made)->outcome, Written::Outcome::Unchanged);
    EXPECT_EQ((*store_->entry(c))->parents, (std::vector{a, b}));
    auto links = *store_->links(a, 10);
    ASSERT_EQ(links.size(), 1u);
    EXPECT_EQ(links[0].other, c);
    EXPECT_FALSE(links[0].outgoing);
    EXPECT_EQ(links[0].relation, "");
    made.sources = {std::string(64, '0')};
    EXPECT_EQ(put(made).error().code, ENOENT);

    Write link{.space = "n", .key = link_key(a, "supports", b), .kind = Kind::Link, .author = "agent:a"};
    link.value = link_value(a, "supports", b);
    auto made_link = created(link);
    EXPECT_EQ(put(link)->outcome, Written::Outcome::Unchanged);
    links = *store_->links(b, 10);
    ASSERT_EQ(links.size(), 2u);
    EXPECT_EQ(links[0].relation, "supports");
    EXPECT_EQ(links[0].other, a);
    EXPECT_EQ(links[0].entry, made_link);
    link.kind = Kind::Tombstone;
    link.value = "null";
    created(link);
    EXPECT_EQ(store_->links(b, 10)->size(), 1u);
}

TEST_F(StoreTest, SearchFindsWhatIsCurrent) {
    created(value("one", R"({"title":"The red boat","note":"caf\u00e9 at the sea"})"));
    created(value("two", R"(["blue boats",42])"));
    created(value("two-boat", "null"));
    EXPECT_EQ(found("boat"), (Keys{"two-boat", "one"}));
    EXPECT_EQ(found("boat*"), (Keys{"two-boat", "two", "one"}));
    EXPECT_EQ(found("\"red boat\""), Keys{"one"});
    EXPECT_EQ(found("\"boat red\""), Keys());
    EXPECT_EQ(found("RED sea"), Keys{"one"});
    EXPECT_EQ(found("cafe"), Keys{"one"});
    EXPECT_EQ(found("42"), Keys{"two"});
    EXPECT_EQ(found("title"), Keys{"one"});
    created(value("one", R"("another")"));
    EXPECT_EQ(found("red"), Keys());
    EXPECT_EQ(found("another"), Keys{"one"});
    // What a query of nothing but exotic punctuation means to FTS5 is not our business, but it must be no
    // error.
    EXPECT_EQ(found("\xe2\x80\x94 boat").size(), found("boat").size());
}

TEST_F(StoreTest, SearchStaysInItsNamespaces) {
    created(value("k", R"("boat")", "n"));
    created(value("k", R"("boat")", "other"));
    EXPECT_EQ(found("boat").size(), 1u);
    EXPECT_EQ(found("boat", {"n", "other"}).size(), 2u);
    EXPECT_EQ(found("boat", {"absent"}).size(), 0u);
    EXPECT_EQ(found("boat", {}).size(), 0u);
    EXPECT_EQ(found("s1").size(), 0u); // the token that stands for the namespace cannot be searched for
    EXPECT_EQ(store_->search(nullptr, "\"boat\"", "", 10)->entries.size(), 2u);
}

TEST_F(StoreTest, TenThousandEntriesPageByPage) {
    std::vector<Write> batch;
    for (int i = 0; i < 10'000; i++) {
        batch.push_back(
            value(cat("k", 10'000 + i), cat(R"({"n":)", i, R"(,"text":"common w)", i % 100, "\"}")));
        if (batch.size() < 250) continue;
        for (const auto& done : store_->apply(batch)) ASSERT_TRUE(done.has_value());
        batch.clear();
    }
    EXPECT_EQ(store_->totals()->entries, 10'000u);
    std::vector<std::string> spaces{"n"};
    auto count = [](auto next_page) {
        size_t seen = 0;
        std::string cursor;
        do {
            auto page = next_page(cursor);
            if (!page.has_value() || page->entries.empty()) break;
            seen += page->entries.size();
            cursor = page->next;
        } while (!cursor.empty());
        return seen;
    };
    EXPECT_EQ(count([&](auto& cursor) { return store_->search(&spaces, "\"common\"", cursor, 100); }),
              10'000u);
    EXPECT_EQ(count([&](auto& cursor) { return store_->search(&spaces, "\"w7\"", cursor, 30); }), 100u);
    EXPECT_EQ(count([&](auto& cursor) { return store_->list("n", "", cursor, 77); }), 10'000u);
    EXPECT_EQ(count([&](auto& cursor) { return store_->list("n", "k100", cursor, 9); }), 100u);
    EXPECT_EQ(store_->search(&spaces, "\"w7\"", std::string(64, '0'), 30).error().code, EINVAL);
    uint64_t position = 0;
    size_t fed = 0;
    for (bool more = true; more;) {
        auto feed = *store_->feed("n", "k1000", position);
        EXPECT_GT(feed.position, position);
        for (const auto& entry : feed.entries) EXPECT_TRUE(entry.key.starts_with("k1000"));
        fed += feed.entries.size();
        position = feed.position;
        more = feed.more;
    }
    EXPECT_EQ(fed, 10u);
    EXPECT_EQ(position, 10'000u);
}

TEST_F(StoreTest, ASearchThatTakesTooLongEnds) {
    open({.search = std::chrono::milliseconds(0)});
    std::vector<Write> batch;
    for (int i = 0; i < 3000; i++) batch.push_back(value(cat("k", i), cat(R"("common w)", i, "\"")));
    store_->apply(batch);
    std::vector<std::string> spaces{"n"};
    auto page = store_->search(&spaces, "\"common\"", "", 100);
    ASSERT_FALSE(page.has_value());
    EXPECT_EQ(page.error().code, ETIME);
    EXPECT_EQ(page.error().message, "the search takes too long; use rarer or more words");
    EXPECT_TRUE(store_->head("n", "k1")->has_value()); // the limit went with the search
}

TEST_F(StoreTest, PagesAreBoundedInBytes) {
    std::string large = "\"" + std::string(200'000, 'x') + "\"";
    for (int i = 0; i < 3; i++) created(value(cat("k", i), large));
    auto page = *store_->list("n", "", "", 100);
    EXPECT_EQ(page.entries.size(), 1u);
    EXPECT_EQ(page.next, "k0");
    auto feed = *store_->feed("n", "", 0);
    EXPECT_EQ(feed.entries.size(), 1u);
    EXPECT_TRUE(feed.more);
    EXPECT_EQ(feed.position, 1u);
    EXPECT_EQ(store_->feed("n", "", 3)->entries.size(), 0u);
    EXPECT_EQ(store_->feed("n", "", std::nullopt)->position, 3u);
}

TEST_F(StoreTest, HistoryPages) {
    for (int i = 0; i < 25; i++) created(value("k", cat(i)));
    auto other = created(value("other", "1"));
    std::string cursor;
    std::vector<std::string> values;
    do {
        auto page = *store_->history("n", "k", cursor, 10);
        for (const auto& entry : page.entries) values.push_back(entry.value);
        cursor = page.next;
    } while (!cursor.empty());
    ASSERT_EQ(values.size(), 25u);
    EXPECT_EQ(values.front(), "24");
    EXPECT_EQ(values.back(), "0");
    EXPECT_EQ(store_->history("n", "k", other, 10).error().code, EINVAL);
    EXPECT_EQ(store_->history("n", "k", std::string(64, '0'), 10).error().code, EINVAL);
}

TEST_F(StoreTest, QuotasOfAnAuthorAndOfAll) {
    auto write = value("k1", "1");
    write.max_entries = 2;
    created(write);
    write.key = "k2";
    created(write);
    write.key = "k3";
    auto refused = put(write);
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().code, EDQUOT);
    EXPECT_EQ(refused.error().message,
              "the quota is used up: you have 2 entries, and earlier ones are kept for the "
              "history. An operator can raise it");
    write.author = "agent:b";
    created(write); // each has its own
    auto bytes = value("k4", "\"" + std::string(900, 'x') + "\"");
    bytes.max_bytes = 1000;
    EXPECT_EQ(put(bytes).error().code, EDQUOT);
    EXPECT_EQ(store_->totals()->entries, 3u); // what was refused is not counted
    open({.entries = 4});
    created(value("k5", "1"));
    EXPECT_EQ(put(value("k6", "1")).error().code, EDQUOT);
    open({.namespaces = 1});
    EXPECT_EQ(put(value("k", "1", "second")).error().code, EDQUOT);
}

TEST_F(StoreTest, OneRefusedWriteLeavesTheOthersOfItsBatch) {
    auto refused = value("k2", "1");
    refused.sources = {std::string(64, '0')};
    auto done = store_->apply(std::vector{value("k1", "1"), refused, value("k3", "1"), value("k1", "2")});
    ASSERT_EQ(done.size(), 4u);
    EXPECT_TRUE(done[0].has_value());
    EXPECT_EQ(done[1].error().code, ENOENT);
    EXPECT_TRUE(done[2].has_value());
    EXPECT_EQ(done[3]->outcome, Written::Outcome::Created);
    EXPECT_FALSE(store_->head("n", "k2")->has_value());
    EXPECT_EQ((*store_->head("n", "k1"))->value, "2");
    EXPECT_EQ(store_->totals()->entries, 3u);
}

TEST_F(StoreTest, ItIsThereAfterwards) {
    auto id = created(value("k", R"("boat")"));
    open();
    EXPECT_EQ((*store_->head("n", "k"))->id, id);
    EXPECT_EQ(found("boat"), Keys{"k"});
    EXPECT_EQ(put(value("k", R"("boat")"))->outcome, Written::Outcome::Unchanged);
}

TEST_F(StoreTest, TheLogOfWritesStaysSmall) {
    for (int i = 0; i < 300; i++)
        created(value("k", "\"" + std::string(50'000, static_cast<char>('a' + i % 26)) + "\""));
    struct stat found{};
    ASSERT_EQ(::stat((folder_ / "graph.db-wal").c_str(), &found), 0);
    EXPECT_LE(found.st_size, 5 << 20);
    EXPECT_FALSE(std::filesystem::exists(folder_ / "graph.db-shm"));
}

TEST_F(StoreTest, OnlyOneHasItOpen) {
    auto second = Store::open(folder_ / "graph.db");
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error().code, EBUSY);
    EXPECT_TRUE(second.error().message.ends_with("Another process has it open")) << second.error().message;
}

TEST_F(StoreTest, ForeignAndDamagedFilesAreRefusedAndLeft) {
    for (int i = 0; i < 200; i++) created(value(cat("k", i), cat(R"("text )", i, "\"")));
    store_.reset();
    auto path = folder_ / "graph.db";
    auto whole = *read_file(path, 64 << 20);
    auto refusal = [&](const std::string& content) {
        std::ofstream(path, std::ios::binary) << content;
        auto store = Store::open(path);
        if (store.has_value()) return std::string("opened");
        EXPECT_EQ(*read_file(path, 64 << 20), content);
        return store.error().message;
    };
    EXPECT_EQ(refusal(whole), "opened");
    EXPECT_TRUE(
        refusal("not a database, but long enough" + std::string(5000, 'x')).contains("The file is damaged"));
    auto damaged = whole;
    for (size_t at = 8192; at < damaged.size(); at += 4096)
        std::fill_n(damaged.begin() + static_cast<long>(at), 64, '\x55');
    EXPECT_TRUE(refusal(damaged).contains("The file is damaged; nothing was changed")) << refusal(damaged);
    auto newer = whole;
    newer[63] = 2; // user_version
    EXPECT_TRUE(refusal(newer).contains("written by a newer one")) << refusal(newer);
    auto foreign = whole;
    foreign[71] = 1; // application_id
    EXPECT_TRUE(refusal(foreign).contains("not of ctxgraph")) << refusal(foreign);
    EXPECT_EQ(refusal(whole.substr(0, 100)).substr(0, 6), path.substr(0, 6));
}

// Writes one after the other and says each that was acknowledged, until it is killed.
[[noreturn]] static void write_until_killed(const std::string& path, int acknowledge) {
    auto store = Store::open(path);
    if (!store.has_value()) ::_exit(1);
    auto begin = (*store)->totals()->entries;
    for (uint64_t i = begin;; i += 3) {
        std::vector<Write> batch;
        for (uint64_t j = i; j < i + 3; j++) batch.push_back(value(cat("k", j % 50), cat("\"word", j, "\"")));
        for (const auto& done : (*store)->apply(batch))
            if (!done.has_value() || ::write(acknowledge, (done->id + "\n").data(), 65) != 65) ::_exit(1);
    }
}

TEST_F(StoreTest, KilledInTheMiddleOfWritesItLosesNothing) {
    store_.reset();
    auto path = folder_ / "graph.db";
    std::vector<std::string> acknowledged;
    for (int round = 0; round < 30; round++) {
        auto pipe = *make_pipe();
        pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) write_until_killed(path, pipe.write.get());
        pipe.write.reset();
        // The first batch, so that it is in the middle; then a little more or less of it.
        pollfd polled{.fd = pipe.read.get(), .events = POLLIN};
        ASSERT_EQ(::poll(&polled, 1, 10'000), 1);
        ::usleep(static_cast<useconds_t>(round * 700));
        ::kill(child, SIGKILL);
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status));
        auto text = *read_fd(pipe.read.get(), 1 << 20);
        for (auto id : split(text, '\n'))
            if (id.size() == 64) acknowledged.emplace_back(id);
        open();
        for (const auto& id : acknowledged) ASSERT_TRUE(store_->entry(id)->has_value()) << "round " << round;
        auto totals = *store_->totals();
        ASSERT_EQ(totals.entries % 3, 0u); // a batch is there or it is not
        ASSERT_GE(totals.entries, acknowledged.size());
        ASSERT_EQ(found("word*").size(), store_->list("n", "", "", 100)->entries.size());
        store_.reset();
    }
    EXPECT_GE(acknowledged.size(), 90u);
}

// In a file system of 3 MB of its own, in a child, which says by its exit status how far it came.
static int fill_the_disk(const std::string& folder) {
    if (::getuid() != 0 && ::unshare(CLONE_NEWUSER) < 0) return 1;
    if (::unshare(CLONE_NEWNS) < 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) < 0)
        return 1;
    if (::mount("none", folder.c_str(), "tmpfs", 0, "size=3m") < 0) return 2;
    auto store = Store::open(folder + "/graph.db");
    if (!store.has_value()) return 3;
    std::string filling = "\"" + std::string(100'000, 'x') + "\"";
    int written = 0;
    Result<Written> last = Written{};
    for (; written < 100 && last.has_value(); written++) {
        auto write = value(cat("k", written), filling);
        last = std::move((*store)->apply({&write, 1}).front());
    }
    if (last.has_value() || last.error().code != ENOSPC) return 4;
    for (int i = 0; i + 1 < written; i++)
        if (!(*store)->head("n", cat("k", i))->has_value()) return 5; // reads go on, nothing is lost
    // With space again it goes on.
    if (::mount("none", folder.c_str(), "tmpfs", MS_REMOUNT, "size=30m") < 0) return 6;
    auto write = value("after", "1");
    return (*store)->apply({&write, 1}).front().has_value() ? 0 : 7;
}

TEST_F(StoreTest, AFullDiskFailsTheWriterOnly) {
    auto folder = folder_ / "small";
    ASSERT_EQ(::mkdir(folder.c_str(), 0700), 0);
    pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) ::_exit(fill_the_disk(folder));
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

} // namespace nullbox::ctxgraph

#include "egress/records.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::egress {

using namespace std::chrono_literals;

class Records : public testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(make_directories(folder_)); }
    void TearDown() override { std::filesystem::remove_all(folder_); }
    RecordBook::Options options() {
        return {.path = folder_ + "/records.ndjson",
                .now_ms = [this] { return ms_++; },
                .now = [this] { return now_; }};
    }
    static Record denial(std::string name) {
        return {.agent = "a",
                .kind = RecordKind::Lookup,
                .name = std::move(name),
                .port = 53,
                .reason = "no",
                .add = "allow = [\"x\"]"};
    }
    static std::vector<Record> all(const RecordBook& book) {
        return book.last(10'000, [](const Record&) { return true; });
    }
    std::string folder_ = cat(testing::TempDir(), "egress_records_", ::getpid());
    Clock::time_point now_ = Clock::now();
    int64_t ms_ = 1'700'000'000'000;
};

TEST_F(Records, OutliveTheProcessAndKeepCounting) {
    {
        RecordBook book(options());
        book.add(denial("one.test"));
        book.add({.agent = "b",
                  .kind = RecordKind::Connection,
                  .verdict = Verdict::Ended,
                  .name = "n",
                  .address = "8.8.8.8",
                  .port = 443,
                  .rule = "n",
                  .bytes_up = 5,
                  .bytes_down = 7});
    }
    RecordBook book(options());
    auto found = all(book);
    ASSERT_EQ(found.size(), 2);
    EXPECT_EQ(found[0].name, "one.test");
    EXPECT_EQ(found[0].add, "allow = [\"x\"]");
    EXPECT_EQ(found[1].bytes_down, 7);
    EXPECT_EQ(found[1].verdict, Verdict::Ended);
    book.add(denial("two.test"));
    EXPECT_EQ(all(book).back().sequence, 3);
}

TEST_F(Records, ALineThatAPowerCutToreIsSkippedAndEndsThere) {
    {
        RecordBook book(options());
        book.add(denial("one.test"));
    }
    auto content = *read_file(options().path);
    ASSERT_TRUE(write_file_atomic(options().path, content + content.substr(0, 40), 0600));
    {
        RecordBook book(options());
        EXPECT_EQ(all(book).size(), 1);
        book.add(denial("two.test"));
    }
    EXPECT_EQ(all(RecordBook(options())).size(), 2);
}

// Control: repeats. Without it an agent pushes its traces out by asking the same thing again.
TEST_F(Records, TheSameAgainIsCounted) {
    RecordBook book(options());
    for (int i = 0; i < 1000; i++) book.add(denial("one.test"));
    EXPECT_EQ(all(book).size(), 1);
    now_ += 61s;
    book.tick();
    ASSERT_EQ(all(book).size(), 2);
    EXPECT_EQ(all(book)[1].count, 999);
}

// Control: the rate of one agent's records.
TEST_F(Records, AFloodIsCountedAndOthersAreStillSeen) {
    RecordBook book(options());
    for (int i = 0; i < 5000; i++) book.add(denial(cat(i, ".test")));
    auto other = denial("quiet.test");
    other.agent = "quiet";
    book.add(other);
    auto found = all(book);
    EXPECT_LT(found.size(), 600);
    EXPECT_EQ(found.front().name, "0.test") << "the first ones stay";
    EXPECT_EQ(found.back().agent, "quiet");
    now_ += 61s;
    book.tick();
    found = all(book);
    EXPECT_EQ(found.back().kind, RecordKind::Summary);
    EXPECT_GT(found.back().count, 4000);
}

// Control: a rate for each kind. With one for all, allowed look-ups hide the connection that was refused.
TEST_F(Records, AFloodOfOneKindHidesNoOther) {
    RecordBook book(options());
    for (int i = 0; i < 5000; i++) {
        auto lookup = denial(cat(i, ".test"));
        lookup.kind = RecordKind::Lookup;
        lookup.verdict = Verdict::Allowed;
        book.add(lookup);
    }
    auto refused = denial("secret.test");
    refused.kind = RecordKind::Connection;
    book.add(refused);
    EXPECT_EQ(all(book).back().name, "secret.test");
    now_ += 61s;
    book.tick();
    EXPECT_EQ(all(book).back().kind, RecordKind::Summary);
    EXPECT_TRUE(all(book).back().reason.contains("kind lookup")) << all(book).back().reason;
}

TEST_F(Records, TheFileIsRotatedAndBounded) {
    auto small = options();
    small.most_file_bytes = 4000;
    small.burst = 1e6;
    RecordBook book(small);
    for (int i = 0; i < 200; i++) book.add(denial(cat(i, ".test")));
    EXPECT_LE(std::filesystem::file_size(small.path), 4000);
    EXPECT_LE(std::filesystem::file_size(small.path + ".1"), 4000);
    EXPECT_EQ(std::filesystem::status(small.path).permissions(), std::filesystem::perms(0600));
}

TEST_F(Records, FollowersAreToldUntilTheyLeave) {
    RecordBook book(options());
    int told = 0;
    uint64_t id = 0;
    id = book.follow([&](const Record& record) {
        told++;
        if (record.name == "2.test") book.unfollow(id);
    });
    for (int i = 0; i < 5; i++) book.add(denial(cat(i, ".test")));
    EXPECT_EQ(told, 3);
}

TEST_F(Records, AFullDiskIsAProblemAndNotAnEnd) {
    auto broken = options();
    broken.path = folder_ + "/missing/records.ndjson";
    RecordBook book(broken);
    book.add(denial("one.test"));
    EXPECT_FALSE(book.problem().empty());
    EXPECT_EQ(all(book).size(), 1);
    ASSERT_TRUE(make_directories(folder_ + "/missing"));
    book.add(denial("two.test"));
    EXPECT_TRUE(book.problem().empty()) << book.problem();
}

} // namespace nullbox::egress

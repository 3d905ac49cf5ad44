#include "nulld/status_screen.h"

#include <gtest/gtest.h>

#include "base/text.h"
#include "nulld/process_facts.h"

namespace nullbox::nulld {

static SystemStatus machine() {
    SystemStatus status;
    status.hostname = "box-7";
    status.uptime_ms = 3'200;
    status.ready_ms = 1'800;
    status.data_device = "/dev/vda";
    status.data_total_bytes = uint64_t{900} << 20;
    status.data_free_bytes = uint64_t{812} << 20;
    ServiceStatus cage;
    cage.name = "cage";
    cage.actual = Actual::Up;
    cage.description = "running";
    cage.status_text = "agents: hello running, analyst exited 0";
    status.services = {cage};
    return status;
}

TEST(StatusScreen, SaysWhatAPersonWantsToKnow) {
    auto text = render_status(machine(), {.plain = true});
    for (const char* part :
         {"NullBox", "box-7, up 3 s, ready after 1800 ms", "no network", "/dev/vda, 812 MB of 900 MB",
          "cage       running", "agents: hello running, analyst exited 0", "Enter"})
        EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
    EXPECT_EQ(printable(text, 100'000).size(), text.size());
}

TEST(StatusScreen, FitsItsWidth) {
    auto status = machine();
    status.services[0].last_error = std::string(300, 'x') + " " + std::string(40, 'y');
    status.problems = {"a sentence that is so long that it has to be continued on the next line, and on one "
                       "more after that"};
    for (auto line : split(render_status(status, {.plain = true}), '\n')) EXPECT_LE(line.size(), 80u) << line;
}

TEST(StatusScreen, MemoryOnlyAndFailuresAreLoud) {
    auto status = machine();
    status.data_device.clear();
    status.services[0].failed = true;
    status.services[0].last_error = "cannot execute /system/bin/cage: No such file or directory";
    auto text = render_status(status, {.plain = false});
    EXPECT_NE(text.find("no data partition"), std::string::npos);
    EXPECT_NE(text.find("\x1b[1;31mlast error: cannot execute"), std::string::npos) << text;
}

TEST(StatusScreen, ManyProblemsAreCounted) {
    auto status = machine();
    for (int i = 0; i < 20; i++) status.problems.push_back(cat("problem ", i));
    auto text = render_status(status, {.plain = true});
    EXPECT_NE(text.find("and 14 more in the log"), std::string::npos);
}

TEST(StatusScreen, TheKeyIgnoresTimeAndCounters) {
    auto before = machine(), after = machine();
    after.uptime_ms = 99'999;
    after.data_free_bytes = 1;
    EXPECT_EQ(status_key(before), status_key(after));
    after.services[0].status_text = "agents: hello exited 1";
    EXPECT_NE(status_key(before), status_key(after));
}

TEST(ProcessFacts, StatusTextIsRead) {
    auto facts = parse_process_status("Name:\tcage\nUid:\t103\t103\t103\t103\nGid:\t104\t104\t104\t104\n"
                                      "CapEff:\t0000000000001000\nNoNewPrivs:\t1\nSeccomp:\t2\n");
    EXPECT_EQ(facts.uid, 103u);
    EXPECT_EQ(facts.gid, 104u);
    EXPECT_EQ(facts.capabilities, std::vector<std::string>{"CAP_NET_ADMIN"});
    EXPECT_TRUE(facts.no_new_privs);
    EXPECT_TRUE(facts.seccomp);
    EXPECT_FALSE(parse_process_status("").seccomp);
}

TEST(ProcessFacts, OursAreThere) {
    EXPECT_GE(self_facts().open_files, 3u);
    EXPECT_GT(self_facts().memory_bytes, 100'000u);
}

} // namespace nullbox::nulld

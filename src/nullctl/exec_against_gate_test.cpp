// Commands and copies, from the program nullctl through the program gate to a real agent-init; and a guest
// that answers what it likes.
#include <pty.h>
#include <sys/ioctl.h>

#include "base/bytes.h"
#include "nullctl/against_gate.h"

namespace nullbox::nullctl {
namespace {

namespace fs = std::filesystem;
using guest_link::ExecGuestFrame;

std::string bytes_of(const std::vector<ExecGuestFrame>& frames) {
    std::string out;
    for (const auto& frame : frames) out += as_text(*guest_link::encode(frame));
    return out;
}

class ExecAgainstGate : public AgainstGate {
protected:
    Ran exec(std::vector<std::string> words, std::string_view input = {}) {
        words.insert(words.begin(), {"agent", "exec"});
        return nullctl(words, input);
    }
    Ran copy(const std::string& from, const std::string& to) { return nullctl({"agent", "cp", from, to}); }
};

TEST_F(ExecAgainstGate, OutputApartAndTheCommandsOwnStatus) {
    auto ran = exec({"researcher", "--", "sh", "-c", "echo out; echo err >&2; echo $TOKEN; exit 7"});
    EXPECT_EQ(ran.status, 7) << ran.err;
    EXPECT_EQ(ran.out, "out\nplaceholder\n");
    EXPECT_EQ(ran.err, "err\n");
    EXPECT_EQ(exec({"researcher", "--", "true"}).status, 0);
    EXPECT_EQ(exec({"researcher", "--", "sh", "-c", "kill -TERM $$"}).status, 143);
    auto missing = exec({"researcher", "--", "no-such"});
    EXPECT_EQ(missing.status, 127);
    EXPECT_EQ(missing.err, "nullctl: command not found: no-such (PATH /usr/bin:/bin)\n");
    EXPECT_EQ(exec({"researcher", "--", "/etc/passwd"}).status, 126);
    ran = exec({"researcher", "-w", "/usr", "-e", "A=1", "-e", "B=x y", "--", "sh", "-c", "pwd; echo $A $B"});
    EXPECT_EQ(ran.out, "/usr\n1 x y\n") << ran.err;
    EXPECT_TRUE(calls_.starts_with("Exec researcher by alice\n")) << calls_;
}

TEST_F(ExecAgainstGate, BinaryInputComesBackAsItWas) {
    std::string sent(900'000, '\0');
    for (size_t i = 0; i < sent.size(); i++) sent[i] = static_cast<char>(i * 31 + i / 257);
    auto ran = exec({"researcher", "-i", "--", "cat"}, sent);
    EXPECT_EQ(ran.status, 0) << ran.err;
    EXPECT_TRUE(ran.out == sent) << ran.out.size();
    EXPECT_EQ(exec({"researcher", "--", "cat"}, "not for it").out, "");
}

TEST_F(ExecAgainstGate, RefusalsAreNullctlsOwn) {
    auto ran = exec({"nobody", "--", "true"});
    EXPECT_EQ(ran.status, 125);
    EXPECT_TRUE(ran.err.contains("no agent \"nobody\"")) << ran.err;
    EXPECT_EQ(exec({"no/such", "--", "true"}).status, 125);
    EXPECT_EQ(exec({"researcher"}).status, 2);
    write_operator("reader");
    std::this_thread::sleep_for(1500ms); // gate looks every second
    calls_.clear();
    ran = exec({"researcher", "--", "true"});
    EXPECT_EQ(ran.status, 125);
    EXPECT_TRUE(ran.err.contains("needs the role operator; alice is reader")) << ran.err;
    EXPECT_NE(copy("researcher:/etc/hostname", folder_ + "/x").status, 0);
    EXPECT_EQ(calls_, "");
}

TEST_F(ExecAgainstGate, ACallerThatIsKilledLeavesNothingRunning) {
    auto mark = folder_ + "/hup";
    // A shell says "Hangup" of its child, and ends by PIPE if nobody hears it.
    auto script = cat("exec 2>/dev/null; trap 'echo hup > ", mark,
                      "; exit' HUP; echo up; while :; do sleep 0.05; done");
    ::setenv("NULLCTL_CONFIG", config().c_str(), 1);
    auto pipe = *make_pipe();
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, pipe.write.get(), 1);
    pid_t child = spawn({NULLBOX_NULLCTL, "agent", "exec", "researcher", "--", "sh", "-c", script}, &actions);
    ::posix_spawn_file_actions_destroy(&actions);
    pipe.write.reset();
    char up[3] = {};
    EXPECT_EQ(::read(pipe.read.get(), up, 3), 3);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    for (int i = 0; i < 500 && !fs::exists(mark); i++) std::this_thread::sleep_for(20ms);
    EXPECT_TRUE(fs::exists(mark));
}

TEST_F(ExecAgainstGate, ATerminalIsPassedThroughAndComesBack) {
    int outer = -1, inner = -1;
    winsize size{.ws_row = 33, .ws_col = 101, .ws_xpixel = 0, .ws_ypixel = 0};
    ASSERT_EQ(::openpty(&outer, &inner, nullptr, nullptr, &size), 0);
    Fd outside(outer), inside(inner);
    termios before{}, after{};
    ::tcgetattr(inner, &before);
    ::setenv("NULLCTL_CONFIG", config().c_str(), 1);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    for (int fd : {0, 1, 2}) ::posix_spawn_file_actions_adddup2(&actions, inner, fd);
    pid_t child =
        spawn({NULLBOX_NULLCTL, "agent", "exec", "-i", "-t", "researcher", "--", "sh", "-c",
               "stty size; trap 'stty size; exit 9' WINCH; echo ready; while :; do sleep 0.05; done"},
              &actions);
    ::posix_spawn_file_actions_destroy(&actions);
    std::string shown;
    auto until = [&](std::string_view text) {
        char bytes[1024];
        while (!shown.contains(text)) {
            ssize_t count = ::read(outer, bytes, sizeof bytes);
            if (count <= 0) return false;
            shown.append(bytes, static_cast<size_t>(count));
        }
        return true;
    };
    ASSERT_TRUE(until("ready"));
    EXPECT_TRUE(shown.contains("33 101")) << shown;
    ::tcgetattr(inner, &after);
    EXPECT_EQ(after.c_lflag & (ICANON | ECHO | ISIG), 0U); // every key is the agent's
    size.ws_col = 55;
    ::ioctl(outer, TIOCSWINSZ, &size);
    ::kill(child, SIGWINCH); // no controlling terminal here that would do it
    EXPECT_TRUE(until("33 55")) << shown;
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(WEXITSTATUS(status), 9);
    ::tcgetattr(inner, &after);
    EXPECT_EQ(after.c_lflag, before.c_lflag);
}

TEST_F(ExecAgainstGate, AHostileGuestIsHeldToTheFrames) {
    hostile_ = bytes_of({guest_link::Running{}}) + std::string(100, 'A');
    auto ran = exec({"researcher", "--", "x"});
    EXPECT_EQ(ran.status, 125);
    EXPECT_TRUE(ran.err.contains("nonsense from the agent's machine")) << ran.err;
    hostile_ = bytes_of({guest_link::Running{}, guest_link::ExecOutput{.bytes = "half"}});
    ran = exec({"researcher", "--", "x"});
    EXPECT_EQ(ran.status, 125);
    EXPECT_EQ(ran.out, "half");
    EXPECT_TRUE(ran.err.contains("ended before the command did")) << ran.err;
    hostile_ = bytes_of({guest_link::Failed{.exit_code = 126, .message = "\x1b[2Jno"}});
    EXPECT_EQ(exec({"researcher", "--", "x"}).err, "nullctl: \\x1b[2Jno\n");
    hostile_ =
        bytes_of({guest_link::Entry{.kind = guest_link::EntryKind::Folder, .mode = 0755},
                  guest_link::Entry{.path = "../evil"}, guest_link::Data{.bytes = "x"}, guest_link::Done{}});
    ran = copy("researcher:/x", folder_ + "/copy");
    EXPECT_EQ(ran.status, 1);
    EXPECT_TRUE(ran.err.contains("the path \"../evil\" has a part")) << ran.err;
    EXPECT_TRUE(ran.err.contains("Copied so far: 1 file, 0 bytes") ||
                ran.err.contains("Copied so far: 1 file"))
        << ran.err;
    EXPECT_FALSE(fs::exists(folder_ + "/evil"));
}

TEST_F(ExecAgainstGate, CopiesOutAndIn) {
    fs::create_directories(folder_ + "/from/a/b");
    ASSERT_TRUE(write_file_atomic(folder_ + "/from/a/b/large", std::string(700'001, 'x'), 0640));
    ASSERT_TRUE(write_file_atomic(folder_ + "/from/run", "#!", 0755));
    fs::create_symlink("run", folder_ + "/from/link");
    auto in = copy(folder_ + "/from", cat("researcher:", folder_, "/in-guest"));
    EXPECT_EQ(in.status, 0) << in.err;
    EXPECT_EQ(fs::file_size(folder_ + "/in-guest/a/b/large"), 700'001U);
    auto out = copy(cat("researcher:", folder_, "/in-guest"), folder_ + "/back");
    EXPECT_EQ(out.status, 0) << out.err;
    EXPECT_EQ(*read_file(folder_ + "/back/a/b/large"), std::string(700'001, 'x'));
    EXPECT_EQ(fs::status(folder_ + "/back/run").permissions(), fs::perms(0755));
    EXPECT_EQ(fs::read_symlink(folder_ + "/back/link"), "run");
    auto single = nullctl({"agent", "cp", cat("researcher:", folder_, "/in-guest/run"), "-"});
    EXPECT_EQ(single.out, "#!");
    auto from_input = nullctl({"agent", "cp", "-", cat("researcher:", folder_, "/typed")}, "typed text");
    EXPECT_EQ(from_input.status, 0) << from_input.err;
    EXPECT_EQ(*read_file(folder_ + "/typed"), "typed text");
    auto missing = copy("researcher:/not/there", folder_ + "/y");
    EXPECT_EQ(missing.status, 1);
    EXPECT_TRUE(missing.err.contains("/not/there: No such file or directory")) << missing.err;
    auto closed = copy(folder_ + "/from/run", "researcher:/proc/x/y");
    EXPECT_EQ(closed.status, 1);
    EXPECT_EQ(nullctl({"agent", "cp", "a", "b"}).status, 2);
    EXPECT_EQ(nullctl({"agent", "cp", "a:/x", "b:/y"}).status, 2);
    EXPECT_EQ(copy("researcher:", folder_).status, 2);
}

} // namespace
} // namespace nullbox::nullctl

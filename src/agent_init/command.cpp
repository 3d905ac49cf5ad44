#include "agent_init/command.h"

#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <grp.h>
#include <optional>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::agent_init {

constexpr std::string_view kDefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

static std::optional<std::string_view> variable(const std::vector<std::string>& environment,
                                                std::string_view name) {
    for (std::string_view entry : environment)
        if (entry.starts_with(name) && entry.size() > name.size() && entry[name.size()] == '=')
            return entry.substr(name.size() + 1);
    return std::nullopt;
}

static bool is_executable_file(const std::string& path) {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && (info.st_mode & 0111) != 0;
}

Result<std::string> find_command(const std::string& name, const std::vector<std::string>& environment) {
    if (name.contains('/')) {
        struct stat info{};
        if (::stat(name.c_str(), &info) < 0)
            return Error{.code = ENOENT, .message = cat("command not found: ", name, " is not in the image")};
        if (!S_ISREG(info.st_mode)) return error(cat("command ", name, " is not a file"));
        if (!is_executable_file(name))
            return error(cat("command ", name, " is not executable: chmod +x it in the image"));
        return name;
    }
    auto path = variable(environment, "PATH").value_or(kDefaultPath);
    for (auto folder : split(path, ':')) {
        auto candidate = cat(folder.empty() ? "." : folder, "/", name);
        if (is_executable_file(candidate)) return candidate;
    }
    return Error{.code = ENOENT, .message = cat("command not found: ", name, " (PATH ", path, ")")};
}

struct Account {
    std::string name, home;
};

static std::optional<Account> account_of(uint32_t uid, std::string_view passwd_text) {
    for (auto line : split(passwd_text, '\n')) {
        auto fields = split(line, ':'); // name:password:uid:gid:comment:home:shell
        if (fields.size() == 7 && parse_number(fields[2], 0, UINT32_MAX) == int64_t{uid})
            return Account{.name = std::string(fields[0]), .home = std::string(fields[5])};
    }
    return std::nullopt;
}

static Account account_or_default(uint32_t uid, std::string_view passwd_text) {
    return account_of(uid, passwd_text).value_or(Account{.name = uid == 0 ? "root" : "agent", .home = "/"});
}

std::string home_of(uint32_t uid, std::string_view passwd_text) {
    return account_or_default(uid, passwd_text).home;
}

std::vector<std::string> full_environment(std::vector<std::string> given, uint32_t uid,
                                          std::string_view passwd_text) {
    auto account = account_or_default(uid, passwd_text);
    auto add = [&](std::string_view name, std::string_view value) {
        if (!variable(given, name)) given.push_back(cat(name, "=", value));
    };
    add("PATH", kDefaultPath);
    add("HOME", account.home);
    add("USER", account.name);
    add("TERM", "dumb"); // output goes to a log
    add("LANG", "C.UTF-8");
    return given;
}

namespace {

enum class Stage : int { Session, Descriptors, Terminal, Groups, User, Folder, Execute };

struct ChildFailure { // from the child to us over a pipe that a successful exec closes
    Stage stage;
    int code;
};

struct ChildPlan { // everything the child needs, made before the fork: it allocates nothing
    const char* path;
    char* const* argv;
    char* const* environment;
    const char* folder;
    uint32_t uid, gid;
    int in, out, err, status;
    bool terminal;
};

} // namespace

// Between fork and exec: returns only what failed.
static ChildFailure become_command(const ChildPlan& plan) {
    auto failed = [](Stage stage) { return ChildFailure{stage, errno}; };
    for (int number = 1; number < NSIG; number++) ::signal(number, SIG_DFL); // what we ignore, it would too
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    if (::setsid() < 0) return failed(Stage::Session);
    if (::dup2(plan.in, 0) < 0 || ::dup2(plan.out, 1) < 0 || ::dup2(plan.err, 2) < 0)
        return failed(Stage::Descriptors);
    if (plan.terminal && ::ioctl(0, TIOCSCTTY, 0) < 0) return failed(Stage::Terminal);
    // As an ordinary user (unit tests) groups cannot be set, and need not be.
    if (::getuid() == 0) {
        gid_t group = plan.gid;
        if (::setgroups(1, &group) < 0 || ::setresgid(plan.gid, plan.gid, plan.gid) < 0)
            return failed(Stage::Groups);
        if (::setresuid(plan.uid, plan.uid, plan.uid) < 0) return failed(Stage::User);
    }
    // As the agent's user: a folder that it may not enter is an error here, not a surprise there.
    if (::chdir(plan.folder) < 0) return failed(Stage::Folder);
    ::execve(plan.path, plan.argv, plan.environment);
    return failed(Stage::Execute);
}

static Error explain(const ChildFailure& failure, const std::string& path, const Program& program) {
    switch (failure.stage) {
    case Stage::Session:
        return errno_error(failure.code, "make session");
    case Stage::Descriptors:
        return errno_error(failure.code, "set up output pipes");
    case Stage::Terminal:
        return errno_error(failure.code, "take the terminal");
    case Stage::Groups:
        return errno_error(failure.code, cat("become group ", program.user.gid));
    case Stage::User:
        return errno_error(failure.code, cat("become user ", program.user.uid));
    case Stage::Folder:
        return errno_error(failure.code, cat("enter working directory ", program.folder));
    case Stage::Execute:
        break;
    }
    switch (failure.code) {
    case ENOENT: // the file is there: what it needs is not
        return error(
            cat("execute ", path, ": its interpreter (#! line) or its dynamic loader is not in the image"));
    case ENOEXEC:
        return error(cat("execute ", path, ": neither an x86-64 program nor a script with a #! line"));
    case EACCES:
        return error(cat("execute ", path, ": user ", program.user.uid, " may not execute it"));
    default:
        return errno_error(failure.code, cat("execute ", path));
    }
}

static std::vector<char*> pointers(const std::vector<std::string>& texts) {
    std::vector<char*> out;
    out.reserve(texts.size() + 1);
    for (const auto& text : texts) out.push_back(const_cast<char*>(text.c_str()));
    out.push_back(nullptr);
    return out;
}

Result<User> find_user(std::string_view text, const guest_link::Start& start, std::string_view passwd_text) {
    if (text.empty()) return User{.uid = start.uid, .gid = start.gid};
    auto parts = split(text, ':');
    auto number = [](std::string_view part) { return parse_number(part, 0, UINT32_MAX - 1); };
    auto uid = number(parts[0]);
    for (auto line : split(passwd_text, '\n')) {
        auto fields = split(line, ':');
        if (fields.size() != 7 || fields[uid ? 2 : 0] != parts[0]) continue;
        auto known = number(fields[2]), group = number(fields[3]);
        if (!known || !group) continue;
        if (parts.size() == 1)
            return User{.uid = static_cast<uint32_t>(*known), .gid = static_cast<uint32_t>(*group)};
        uid = known;
    }
    if (!uid) return error(cat("no user \"", parts[0], "\" in the image's /etc/passwd: say its number"));
    auto gid = parts.size() == 1 ? uid : parts.size() == 2 ? number(parts[1]) : std::nullopt;
    if (!gid) return error(cat("user \"", text, "\": use NAME, UID or UID:GID"));
    return User{.uid = static_cast<uint32_t>(*uid), .gid = static_cast<uint32_t>(*gid)};
}

Result<pid_t> start_program(const Program& program) {
    auto name = program.command.front();
    if (name.contains('/') && !name.starts_with('/')) name = cat(program.folder, "/", name);
    auto path = TRY(find_command(name, program.environment));
    auto argv = pointers(program.command);
    auto variables = pointers(program.environment);
    auto status = TRY(make_pipe());
    ChildPlan plan{.path = path.c_str(),
                   .argv = argv.data(),
                   .environment = variables.data(),
                   .folder = program.folder.c_str(),
                   .uid = program.user.uid,
                   .gid = program.user.gid,
                   .in = program.in,
                   .out = program.out,
                   .err = program.err,
                   .status = status.write.get(),
                   .terminal = program.terminal};
    pid_t pid = ::fork();
    if (pid < 0) return errno_error("fork");
    if (pid == 0) {
        ChildFailure failure = become_command(plan);
        [[maybe_unused]] auto told = ::write(plan.status, &failure, sizeof failure);
        ::_exit(127);
    }
    status.write.reset();
    ChildFailure failure{};
    ssize_t count = 0;
    while ((count = ::read(status.read.get(), &failure, sizeof failure)) < 0 && errno == EINTR) {
    }
    if (count == sizeof failure) {
        ::waitpid(pid, nullptr, 0);
        return error(explain(failure, path, program).message); // no ENOENT: the command is there
    }
    return pid;
}

Result<RunningCommand> start_command(const guest_link::Start& start) {
    auto passwd = read_file("/etc/passwd").value_or("");
    Fd in(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!in) return errno_error("open /dev/null");
    auto out = TRY(make_pipe());
    auto err = TRY(make_pipe());
    auto pid = TRY(start_program({.command = start.command,
                                  .environment = full_environment(start.environment, start.uid, passwd),
                                  .user = {.uid = start.uid, .gid = start.gid},
                                  .folder = start.working_directory,
                                  .in = in.get(),
                                  .out = out.write.get(),
                                  .err = err.write.get()}));
    TRY(set_nonblocking(out.read.get()));
    TRY(set_nonblocking(err.read.get()));
    return RunningCommand{.pid = pid, .out = std::move(out.read), .err = std::move(err.read)};
}

} // namespace nullbox::agent_init

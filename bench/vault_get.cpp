// Secrets that warden gives out in a second, beside bare SQLite: bench_vault_get SOCKET FOLDER SECRETS RUNS
// CALLS
//
// Ours is what egress does before a request goes out: connect, io.nullbox.warden.Injection, the answer,
// close. The vault behind SOCKET is open and has the secrets KEY0, KEY1, ..., each granted to the agent
// "bench" for hostN.example.org. The peer is the least that could stand there instead: another process that
// does a SELECT by agent and host of the same number of rows, behind a Unix socket used the same way, with
// nothing encrypted, checked or written down. In turns; one JSON object: name, unit, runs, peer_runs.
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <csignal>
#include <cstdio>
#include <functional>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/loop.h" // Clock
#include "base/text.h"
#include "ctxgraph/database.h"

namespace nullbox::bench {
namespace {

using ctxgraph::Database;
using ctxgraph::Query;

std::string host_of(int number) { return cat("host", number, ".example.org"); }

Result<Fd> unix_socket(const std::string& path, int (*use)(int, const sockaddr*, socklen_t)) {
    Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{.sun_family = AF_UNIX};
    if (path.size() >= sizeof address.sun_path) return error(cat(path, " is too long for a socket"));
    path.copy(address.sun_path, path.size());
    if (use(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) return errno_error(path);
    return fd;
}

// Up to the NUL that ends every message here.
Result<std::string> read_message(int fd) {
    std::string message;
    char bytes[4096];
    while (!message.ends_with('\0')) {
        ssize_t count = ::read(fd, bytes, sizeof bytes);
        if (count <= 0) return error("the other side hung up");
        message.append(bytes, static_cast<size_t>(count));
    }
    return message;
}

// --- The peer

Result<std::unique_ptr<Database>> filled(const std::string& path, int secrets) {
    auto database = TRY(Database::open(path));
    TRY(database->run("CREATE TABLE secrets(agent TEXT, host TEXT, name TEXT, value TEXT, "
                      "PRIMARY KEY(agent, host)) STRICT, WITHOUT ROWID"));
    for (int i = 0; i < secrets; i++) {
        auto host = host_of(i), name = cat("KEY", i), value = cat("Bearer sk-bench-0123456789abcdef-", i);
        Query query(*database, "INSERT INTO secrets(agent, host, name, value) VALUES('bench',?,?,?)");
        TRY(query.text(host).text(name).text(value).finish());
    }
    return database;
}

Result<> answer(Database& database, int fd) {
    auto message = TRY(read_message(fd));
    auto words = split(std::string_view(message).substr(0, message.size() - 1), ' ');
    if (words.size() != 2) return error("not an agent and a host");
    Query query(database, "SELECT name, value FROM secrets WHERE agent = ? AND host = ?");
    query.text(words[0]).text(words[1]);
    if (!TRY(query.row())) return error("no such secret");
    return write_all(fd, cat(query.text_at(0), ' ', query.text_at(1), '\0'));
}

Result<> serve_peer(const std::string& folder, int secrets, int listener) {
    auto database = TRY(filled(folder + "/peer.db", secrets));
    for (;;) {
        Fd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
        if (!fd) return errno_error("accept");
        TRY(answer(*database, fd.get()));
    }
}

class Peer {
public:
    static Result<Peer> start(const std::string& folder, int secrets) {
        auto listener = TRY(unix_socket(folder + "/peer.sock", ::bind));
        if (::listen(listener.get(), 32) < 0) return errno_error("listen");
        pid_t pid = ::fork();
        if (pid < 0) return errno_error("fork");
        if (pid > 0) return Peer(pid);
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        auto served = serve_peer(folder, secrets, listener.get());
        log_error(cat("the peer: ", served.error().message));
        ::_exit(1);
    }
    Peer(Peer&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
    ~Peer() {
        if (pid_ == 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }

private:
    explicit Peer(pid_t pid) : pid_(pid) {}
    pid_t pid_;
};

// --- The load

using Request = std::function<std::string(int secret)>;

Result<double> per_second(const std::string& socket, int secrets, int calls, const Request& request) {
    auto begin = Clock::now();
    for (int i = 0; i < calls; i++) {
        auto fd = TRY(unix_socket(socket, ::connect));
        TRY(write_all(fd.get(), request(i % secrets)));
        auto given = TRY(read_message(fd.get()));
        if (!given.contains(cat("KEY", i % secrets))) return error(cat("no secret: ", printable(given, 200)));
    }
    return calls / std::chrono::duration<double>(Clock::now() - begin).count();
}

std::string injection(int secret) {
    return cat(R"({"method":"io.nullbox.warden.Injection","parameters":{"agent":"bench","host":")",
               host_of(secret), R"("}})", '\0');
}

std::string bare(int secret) { return cat("bench ", host_of(secret), '\0'); }

struct Options {
    std::string socket, folder;
    int secrets = 0, runs = 0, calls = 0;
};

Result<> measure(const Options& options) {
    auto peer = TRY(Peer::start(options.folder, options.secrets));
    auto peer_socket = options.folder + "/peer.sock";
    // Not counted: the peer fills its table, and both warm up.
    TRY(per_second(peer_socket, options.secrets, options.secrets, bare));
    TRY(per_second(options.socket, options.secrets, options.secrets, injection));
    boost::json::array ours, theirs;
    for (int i = 0; i < options.runs; i++) {
        ours.emplace_back(TRY(per_second(options.socket, options.secrets, options.calls, injection)));
        theirs.emplace_back(TRY(per_second(peer_socket, options.secrets, options.calls, bare)));
    }
    boost::json::object row{{"name", "vault_get"}, {"unit", "1/s"}, {"runs", ours}, {"peer_runs", theirs}};
    std::puts(boost::json::serialize(row).c_str());
    return {};
}

} // namespace
} // namespace nullbox::bench

int main(int count, char** arguments) {
    using namespace nullbox;
    auto number = [&](int at) {
        return count > at ? static_cast<int>(parse_number(arguments[at], 1, 1'000'000).value_or(0)) : 0;
    };
    bench::Options options{.secrets = number(3), .runs = number(4), .calls = number(5)};
    if (count != 6 || options.secrets == 0 || options.runs == 0 || options.calls == 0) {
        log_error("usage: bench_vault_get SOCKET FOLDER SECRETS RUNS CALLS");
        return 2;
    }
    options.socket = arguments[1];
    options.folder = arguments[2];
    auto done = bench::measure(options);
    if (!done.has_value()) log_error(done.error().message);
    return done.has_value() ? 0 : 1;
}

// An agent for tests/cage that does one thing, named by its first argument:
// - ill SECONDS: serves HTTP on port 8080, 200 for so long and then 503
// - tick: a line each 100 ms: "tick N WALL_MS MONOTONIC_MS"; "bye" on SIGTERM
// - eat: takes memory until there is none
// - burn: keeps every processor busy
// All of them say first how many processors they see: "nproc N".
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <netinet/in.h>
#include <string_view>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>

static long now_ms(clockid_t clock) {
    timespec now{};
    ::clock_gettime(clock, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

static int serve(long seconds) {
    int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(8080);
    if (::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0 ||
        ::listen(listener, 8) < 0)
        return 1;
    long ill_from = now_ms(CLOCK_MONOTONIC) + seconds * 1000;
    for (;;) {
        int client = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        char request[1024];
        if (client < 0 || ::recv(client, request, sizeof request, 0) <= 0) continue;
        const char* answer = now_ms(CLOCK_MONOTONIC) < ill_from ? "HTTP/1.1 200 OK\r\n\r\n"
                                                                : "HTTP/1.1 503 Service Unavailable\r\n\r\n";
        (void)!::write(client, answer, std::strlen(answer));
        ::close(client);
    }
}

static int tick() {
    struct sigaction action{};
    action.sa_handler = [](int) {
        (void)!::write(1, "bye\n", 4);
        ::_exit(0);
    };
    ::sigaction(SIGTERM, &action, nullptr);
    for (long n = 1;; n++) {
        std::printf("tick %ld %ld %ld\n", n, now_ms(CLOCK_REALTIME), now_ms(CLOCK_MONOTONIC));
        ::usleep(100'000);
    }
}

static int eat() {
    constexpr size_t kPiece = size_t{1} << 20;
    for (;;) {
        auto* piece =
            static_cast<volatile char*>(std::malloc(kPiece)); // what nobody reads is not optimised away
        if (piece == nullptr) return 1;
        for (size_t at = 0; at < kPiece; at += 4096) piece[at] = 1;
    }
}

static int burn(long processors) {
    auto turn = [] {
        for (volatile unsigned long n = 0;;) n = n + 1;
    };
    for (long i = 1; i < processors; i++) std::thread(turn).detach();
    turn();
    return 0;
}

int main(int count, char** arguments) {
    ::setvbuf(stdout, nullptr, _IOLBF, 0);
    std::string_view what = count > 1 ? arguments[1] : "";
    long processors = ::sysconf(_SC_NPROCESSORS_ONLN);
    std::printf("nproc %ld\n", processors);
    if (what == "ill") return serve(std::strtol(arguments[2], nullptr, 10));
    if (what == "tick") return tick();
    if (what == "eat") return eat();
    if (what == "burn") return burn(processors);
    return 2;
}

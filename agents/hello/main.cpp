// The smallest agent: says where it finds itself, works for some seconds, ends. It shows that what is around
// an agent is a machine of its own, and gives tests a predictable program to watch.
//
// HELLO_SECONDS (default 10) sets for how long it works, HELLO_STAYS (default 0) whether it then waits to be
// stopped, HELLO_EXIT (default 0) the exit code.
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

static long number_from(const char* variable, long otherwise) {
    const char* text = std::getenv(variable);
    return text != nullptr ? std::strtol(text, nullptr, 10) : otherwise;
}

static double seconds_now() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

static void print_machine() {
    utsname system{};
    ::uname(&system);
    struct sysinfo memory{};
    ::sysinfo(&memory);
    std::printf("my machine: %s, %s %s, %ld CPU, %lu MB of memory, up for %.2f s\n", system.nodename,
                system.sysname, system.release, ::sysconf(_SC_NPROCESSORS_ONLN),
                memory.totalram * memory.mem_unit >> 20, seconds_now());
    std::printf("my user: uid %u, gid %u\n", ::getuid(), ::getgid());
}

static void print_network() {
    std::printf("my network devices:");
    DIR* devices = ::opendir("/sys/class/net");
    while (dirent* entry = devices != nullptr ? ::readdir(devices) : nullptr)
        if (entry->d_name[0] != '.') std::printf(" %s", entry->d_name);
    if (devices != nullptr) ::closedir(devices);
    std::printf("\n");
}

static void print_root() {
    int fd = ::open("/hello-was-here", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    std::printf("writing to / as this user: %s\n", fd >= 0 ? "allowed" : "refused");
    if (fd >= 0) ::close(fd);
}

static bool is_prime(unsigned long number) {
    for (unsigned long divisor = 2; divisor * divisor <= number; divisor++)
        if (number % divisor == 0) return false;
    return number >= 2;
}

static void work(long seconds) {
    double begin = seconds_now();
    unsigned long number = 0;
    unsigned long primes = 0;
    for (long second = 1; second <= seconds; second++) {
        // A tenth of each second is work, the rest sleep: an example should not heat the machine.
        double pause_at = begin + static_cast<double>(second) - 0.9;
        while (seconds_now() < pause_at) primes += is_prime(number++) ? 1 : 0;
        std::printf("heartbeat %ld: %lu primes below %lu\n", second, primes, number);
        double rest = begin + static_cast<double>(second) - seconds_now();
        if (rest > 0) ::usleep(static_cast<useconds_t>(rest * 1e6));
    }
}

int main() {
    ::setvbuf(stdout, nullptr, _IOLBF, 0);
    std::printf("hello from inside a microVM\n");
    print_machine();
    print_network();
    print_root();
    work(number_from("HELLO_SECONDS", 10));
    std::printf("done\n");
    if (number_from("HELLO_STAYS", 0) != 0) ::pause();
    return static_cast<int>(number_from("HELLO_EXIT", 0));
}

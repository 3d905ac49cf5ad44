// An agent for tests/cage that uses one device, named by its first argument, and says how it went:
// - free MB: touches so much memory, says "touched", and after "freed" has none of it
// - scratch MB: "fresh" or "stale", then writes and reads back so much in / and in /tmp
// - read MB: reads so much of the scratch disk past the guest's cache, while another thread says a line each
//   100 ms: "read MS ms, longest silence MS ms"
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

constexpr size_t kMb = size_t{1} << 20;

static long now_ms() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

static int fail(const char* what) {
    std::perror(what);
    return 1;
}

static int free_memory(size_t megabytes) {
    ::sleep(3); // for the host to look at what was there before
    void* memory =
        ::mmap(nullptr, megabytes * kMb, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return fail("mmap");
    std::memset(memory, 0x5a, megabytes * kMb);
    std::puts("touched");
    ::sleep(4);
    ::munmap(memory, megabytes * kMb);
    std::puts("freed");
    for (;;) ::pause();
}

static int use_folder(const std::string& folder, size_t megabytes) {
    auto path = folder + "/big";
    int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) return fail(path.c_str());
    std::vector<unsigned char> piece(kMb);
    for (size_t i = 0; i < megabytes; ++i) {
        std::memset(piece.data(), static_cast<int>(i + 1), kMb);
        if (::write(file, piece.data(), kMb) != static_cast<ssize_t>(kMb)) return fail("write");
    }
    for (size_t i = 0; i < megabytes; ++i) {
        auto at = static_cast<off_t>(i * kMb);
        if (::pread(file, piece.data(), kMb, at) != static_cast<ssize_t>(kMb)) return fail("read");
        if (piece[0] != i + 1 || piece[kMb - 1] != i + 1)
            return std::puts("what came back is another thing"), 1;
    }
    std::printf("%s holds %zu MB\n", folder.c_str(), megabytes);
    return 0;
}

static int use_scratch(size_t megabytes) {
    std::puts(::access("/mark", F_OK) == 0 ? "stale" : "fresh");
    if (::close(::open("/mark", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) < 0) return fail("/mark");
    if (int failed = use_folder("", megabytes)) return failed;
    return use_folder("/tmp", megabytes);
}

static int read_disk(size_t megabytes) {
    int disk = ::open("/dev/vdb", O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (disk < 0) return fail("/dev/vdb");
    void* piece = ::mmap(nullptr, kMb, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::atomic<bool> done = false;
    long longest = 0;
    std::thread speaker([&] {
        for (long last = now_ms(); !done;) {
            ::usleep(100'000);
            std::puts("still here"); // over vsock, while the disk waits
            long now = now_ms();
            if (now - last > longest) longest = now - last;
            last = now;
        }
    });
    long start = now_ms();
    bool failed = false;
    for (size_t i = 0; i < megabytes && !failed; ++i)
        failed = ::pread(disk, piece, kMb, static_cast<off_t>(i * kMb)) != static_cast<ssize_t>(kMb);
    long took = now_ms() - start;
    done = true;
    speaker.join();
    if (failed) return fail("read");
    std::printf("read %ld ms, longest silence %ld ms\n", took, longest);
    return 0;
}

int main(int count, char** arguments) {
    ::setvbuf(stdout, nullptr, _IOLBF, 0);
    std::string_view what = count > 2 ? arguments[1] : "";
    size_t megabytes = count > 2 ? std::strtoul(arguments[2], nullptr, 10) : 0;
    if (what == "free") return free_memory(megabytes);
    if (what == "scratch") return use_scratch(megabytes);
    if (what == "read") return read_disk(megabytes);
    return 2;
}

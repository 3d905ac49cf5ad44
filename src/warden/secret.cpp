#include "warden/secret.h"

#include <cerrno>
#include <cstring>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>
#include <utility>

#include "base/check.h"
#include "base/text.h"

namespace nullbox::warden {

// The varlink server's read buffer, 64 KiB on the stack, is what lies deepest.
constexpr size_t kStackBytes = size_t{192} << 10;

SecretBytes::SecretBytes(SecretBytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, 0)) {}

SecretBytes& SecretBytes::operator=(SecretBytes&& other) noexcept {
    if (this == &other) return *this;
    clear();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    mapped_ = std::exchange(other.mapped_, 0);
    return *this;
}

Result<SecretBytes> SecretBytes::make(size_t size) {
    SecretBytes made;
    size_t page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    size_t length = (size + page) / page * page; // at least one
    void* pages = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return errno_error("memory for a secret");
    made.data_ = static_cast<std::byte*>(pages);
    made.size_ = size;
    made.mapped_ = length;
    if (::mlock(pages, length) < 0)
        return errno_error(cat("lock ", length, " bytes for a secret into memory (RLIMIT_MEMLOCK)"));
    if (::madvise(pages, length, MADV_DONTDUMP) < 0 || ::madvise(pages, length, MADV_WIPEONFORK) < 0)
        return errno_error("keep a secret's memory out of dumps and children");
    return made;
}

Result<SecretBytes> SecretBytes::copy_of(std::span<const std::byte> bytes) {
    auto made = TRY(make(bytes.size()));
    if (!bytes.empty()) std::memcpy(made.data_, bytes.data(), bytes.size());
    return made;
}

Result<SecretBytes> SecretBytes::copy_of(std::string_view text) {
    return copy_of(std::as_bytes(std::span(text)));
}

void SecretBytes::shrink(size_t size) {
    CHECK(size <= size_);
    wipe({data_ + size, size_ - size});
    size_ = size;
}

void SecretBytes::clear() {
    if (!data_) return;
    ::explicit_bzero(data_, mapped_);
    ::munmap(data_, mapped_);
    data_ = nullptr;
    size_ = mapped_ = 0;
}

void wipe(std::span<std::byte> bytes) { ::explicit_bzero(bytes.data(), bytes.size()); }

void wipe(std::string& text) {
    text.resize(text.capacity()); // within its buffer: what a longer text left behind goes as well
    ::explicit_bzero(text.data(), text.size());
    text.clear();
}

#if defined(__clang__)
[[gnu::noinline, clang::no_sanitize("address")]]
#endif
void wipe_stack() {
    std::byte below[kStackBytes];
    ::explicit_bzero(below, sizeof below);
}

Result<> hide_process() {
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_CORE, &none) < 0) return errno_error("forbid core dumps");
    if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0) return errno_error("forbid debuggers");
    return {};
}

} // namespace nullbox::warden

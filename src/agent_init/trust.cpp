#include "agent_init/trust.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/file.h"
#include "base/text.h"

namespace nullbox::agent_init {

// Where distributions keep the bundle, in the order in which Go's crypto/x509 looks. The first is Debian's,
// Alpine's and Arch's, and the one we make where there is none.
constexpr const char* kBundles[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                    "/etc/ssl/ca-bundle.pem", "/etc/pki/tls/cacert.pem", "/etc/ssl/cert.pem"};
constexpr const char* kAuthority = "/etc/ssl/nullbox-authority.pem";

static bool exists(const std::string& path) {
    struct stat info{};
    return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

static Result<> append(const std::string& path, std::string_view pem) {
    Fd fd(::open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
    if (!fd) return errno_error(cat("open ", path));
    char last = '\n';
    off_t size = ::lseek(fd.get(), 0, SEEK_END);
    if (size > 0 && ::pread(fd.get(), &last, 1, size - 1) != 1) return errno_error(cat("read ", path));
    return write_all(fd.get(), cat(last == '\n' ? "" : "\n", pem)).context(path);
}

static void add_unless_set(std::vector<std::string>& environment, std::string_view name,
                           std::string_view value) {
    auto prefix = cat(name, "=");
    bool set = std::ranges::any_of(environment, [&](const auto& one) { return one.starts_with(prefix); });
    if (!set) environment.push_back(cat(prefix, value));
}

Result<> trust_authority(const std::string& root, std::string_view pem,
                         std::vector<std::string>& environment) {
    const auto* found =
        std::ranges::find_if(kBundles, [&](const char* path) { return exists(cat(root, path)); });
    const char* bundle = found == std::end(kBundles) ? kBundles[0] : *found;
    TRY(make_directories(cat(root, std::string_view(bundle).substr(0, std::string_view(bundle).rfind('/')))));
    TRY(make_directories(cat(root, "/etc/ssl")));
    TRY(append(cat(root, bundle), pem));
    TRY(write_file_atomic(cat(root, kAuthority), pem, 0644));
    // OpenSSL and Python's ssl, curl, Python's requests, git: each wants the whole bundle. Node adds the one
    // file to what it has built in.
    for (const char* name : {"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO"})
        add_unless_set(environment, name, bundle);
    add_unless_set(environment, "NODE_EXTRA_CA_CERTS", kAuthority);
    return {};
}

} // namespace nullbox::agent_init

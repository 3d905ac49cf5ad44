#include "gate/box_key.h"

#include <cerrno>
#include <cstdio>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

namespace nullbox::gate {

static Result<net::Identity> make_key(const std::string& path) {
    auto made = TRY(net::Identity::make());
    auto text = TRY(made.to_pem());
    TRY(write_file_atomic(path, text, 0600));
    log_info(cat("the box has a new key, fingerprint ", net::fingerprint(made.public_key())));
    return made;
}

Result<net::Identity> box_key(const std::string& path) {
    constexpr size_t kMostBytes = size_t{16} << 10;
    auto text = read_file(path, kMostBytes);
    if (!text.has_value() && text.error().code == ENOENT) return make_key(path);
    if (!text.has_value() && text.error().code != EFBIG) return text.error();
    auto key = text.has_value() ? net::Identity::from_pem(*text) : text.error();
    if (key.has_value()) return key;
    log_error(cat("the box's key in ", path, " is not to be read (", printable(key.error().message, 200),
                  "); put aside as ", path,
                  ".bad. The box will show another fingerprint: compare it at the console"));
    if (std::rename(path.c_str(), (path + ".bad").c_str()) < 0) return errno_error(cat("put aside ", path));
    return make_key(path);
}

} // namespace nullbox::gate

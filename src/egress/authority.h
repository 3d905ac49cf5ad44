// The box's own certificate authority: guests have it in their trust store, so that egress can stand in for
// the names it puts secrets into. One key and certificate a box, made at first start and kept in one file
// (0600); leaf certificates are made when a name is first needed and live in memory.
//
// P-256 throughout. Validity begins in 1970 and ends ten years after the first start or the image's build,
// whichever is later, so that a box with a wrong clock works.
#pragma once

#include <map>
#include <memory>
#include <openssl/types.h>
#include <string>
#include <vector>

#include "egress/name.h"

namespace nullbox::egress {

class Authority {
public:
    // floor_s: no earlier than that does the validity's end count from. A file that cannot be kept is a
    // warning; one that cannot be read is moved aside (guests get the new certificate when they start).
    static Result<Authority> open(const std::string& path, int64_t floor_s);
    Authority(Authority&&) noexcept;
    Authority& operator=(Authority&&) noexcept;
    ~Authority();

    const std::string& certificate_pem() const;
    // For TLS as this host, towards agents: HTTP/1.1 only, no session kept. The context is the authority's.
    Result<SSL_CTX*> server_context(const HostName& host);

private:
    struct Impl;
    explicit Authority(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// What servers outside are verified against: a file of PEM certificates and a text of more, read at the
// first need, because they take memory.
class TrustedRoots {
public:
    explicit TrustedRoots(std::string file, std::string more = {})
        : file_(std::move(file)), more_(std::move(more)) {}
    ~TrustedRoots();
    TrustedRoots(const TrustedRoots&) = delete;
    TrustedRoots& operator=(const TrustedRoots&) = delete;
    // For TLS towards servers: 1.2 at least, HTTP/1.1 only.
    Result<SSL_CTX*> client_context();

private:
    std::string file_, more_;
    SSL_CTX* context_ = nullptr;
};

} // namespace nullbox::egress

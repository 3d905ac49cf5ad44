// Who one end of a TLS connection is: a P-256 key and a certificate that it signs for itself. There is no
// authority: each end knows the other's public key (SubjectPublicKeyInfo, RFC 5280 4.1.2.7) or does not talk
// to it. A certificate's dates and names say nothing: they hold from 1970 to 9999, so that a wrong clock
// locks nobody out. Gate and nullctl both speak TLS (1.3 only, no resumption) through use_tls().
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"

// OpenSSL's own names, so that its headers stay out of here.
struct evp_pkey_st;
struct x509_st;
struct ssl_ctx_st;
struct ssl_st;

namespace nullbox::net {

class Identity {
public:
    static Result<Identity> make();
    static Result<Identity> from_pem(std::string_view private_key);
    Result<std::string> to_pem() const;                           // PKCS #8; whoever has it is this end
    const std::string& public_key() const { return public_key_; } // SubjectPublicKeyInfo, DER

private:
    friend Result<> use_tls(ssl_ctx_st* context, const Identity& own,
                            const std::function<bool(std::string_view)>& trusts);
    static Result<Identity> of(std::shared_ptr<evp_pkey_st> key);
    std::shared_ptr<evp_pkey_st> key_;
    std::shared_ptr<x509_st> certificate_;
    std::string public_key_;
};

// "sha256:" and 64 hexadecimal digits.
std::string fingerprint(std::string_view public_key);

// Sets a context up, server's or client's: it presents `own`, demands a certificate of the peer, and goes on
// only if trusts(the peer's public key). trusts is referred to and must outlive the context's connections.
Result<> use_tls(ssl_ctx_st* context, const Identity& own,
                 const std::function<bool(std::string_view)>& trusts);
// After the handshake.
Result<std::string> peer_public_key(ssl_st* connection);

// RFC 4648 section 4, with padding; reading takes nothing else.
std::string base64(std::string_view bytes);
Result<std::string> from_base64(std::string_view text);

} // namespace nullbox::net

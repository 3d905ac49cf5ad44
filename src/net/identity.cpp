#include "net/identity.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/text.h"

namespace nullbox::net {

namespace {

constexpr size_t kMaxCertificateBytes = size_t{16} << 10; // of a peer's whole list

Error openssl_error(std::string_view what) {
    char reason[256] = "no reason given";
    if (auto code = ::ERR_get_error()) ::ERR_error_string_n(code, reason, sizeof reason);
    ::ERR_clear_error();
    return error(cat(what, ": ", reason));
}

using Bio = std::unique_ptr<BIO, decltype([](BIO* bio) { ::BIO_free_all(bio); })>;

Result<std::string> encode_public_key(const EVP_PKEY* key) {
    int length = ::i2d_PUBKEY(key, nullptr);
    if (length <= 0) return openssl_error("encode a public key");
    std::string der(static_cast<size_t>(length), '\0');
    auto* out = reinterpret_cast<unsigned char*>(der.data());
    if (::i2d_PUBKEY(key, &out) != length) return openssl_error("encode a public key");
    return der;
}

// As it stands in the certificate: having OpenSSL encode it anew takes longer than to check a signature.
Result<std::string> public_key_of(const X509* certificate) {
    const X509_PUBKEY* key = certificate ? ::X509_get_X509_PUBKEY(certificate) : nullptr;
    unsigned char* der = nullptr;
    int length = key ? ::i2d_X509_PUBKEY(key, &der) : 0;
    if (length <= 0) return openssl_error("the peer's public key");
    std::string out(reinterpret_cast<const char*>(der), static_cast<size_t>(length));
    OPENSSL_free(der);
    return out;
}

Result<std::shared_ptr<X509>> self_signed(EVP_PKEY* key) {
    std::shared_ptr<X509> made(::X509_new(), ::X509_free);
    unsigned char serial[16];
    if (!made || ::RAND_bytes(serial, sizeof serial) != 1) return openssl_error("make a certificate");
    serial[0] = static_cast<unsigned char>((serial[0] & 0x3f) | 0x40); // positive, of full length
    std::unique_ptr<BIGNUM, decltype([](BIGNUM* number) { ::BN_free(number); })> number(
        ::BN_bin2bn(serial, sizeof serial, nullptr));
    auto* name = ::X509_get_subject_name(made.get());
    constexpr unsigned char kName[] = "nullbox";
    bool done = number && ::BN_to_ASN1_INTEGER(number.get(), ::X509_get_serialNumber(made.get())) &&
                ::X509_set_version(made.get(), X509_VERSION_3) &&
                ::X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, kName, -1, -1, 0) &&
                ::X509_set_issuer_name(made.get(), name) &&
                ::ASN1_TIME_set_string(::X509_getm_notBefore(made.get()), "19700101000000Z") &&
                ::ASN1_TIME_set_string(::X509_getm_notAfter(made.get()), "99991231235959Z") &&
                ::X509_set_pubkey(made.get(), key) && ::X509_sign(made.get(), key, ::EVP_sha256()) > 0;
    if (!done) return openssl_error("make a certificate");
    return made;
}

// In place of OpenSSL's own: no chain, no dates, no names; TLS itself proves that the peer has the key.
int judge(X509_STORE_CTX* store, void* argument) {
    const auto& trusts = *static_cast<const std::function<bool(std::string_view)>*>(argument);
    auto der = public_key_of(::X509_STORE_CTX_get0_cert(store));
    ::ERR_clear_error();
    if (der.has_value() && trusts(*der)) return 1;
    ::X509_STORE_CTX_set_error(store, X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT); // alert: unknown_ca
    return 0;
}

} // namespace

Result<Identity> Identity::of(std::shared_ptr<EVP_PKEY> key) {
    Identity made;
    made.public_key_ = TRY(encode_public_key(key.get()));
    made.certificate_ = TRY(self_signed(key.get()));
    made.key_ = std::move(key);
    return made;
}

Result<Identity> Identity::make() {
    std::shared_ptr<EVP_PKEY> key(::EVP_EC_gen("P-256"), ::EVP_PKEY_free);
    if (!key) return openssl_error("make a P-256 key");
    return of(std::move(key));
}

Result<Identity> Identity::from_pem(std::string_view private_key) {
    Bio bio(::BIO_new_mem_buf(private_key.data(), static_cast<int>(private_key.size())));
    auto no_passphrase = [](char*, int, int, void*) { return -1; };
    std::shared_ptr<EVP_PKEY> key(bio ? ::PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr)
                                      : nullptr,
                                  ::EVP_PKEY_free);
    if (!key) return openssl_error("read a private key in PEM form");
    char group[32] = "";
    if (!::EVP_PKEY_is_a(key.get(), "EC") ||
        ::EVP_PKEY_get_group_name(key.get(), group, sizeof group, nullptr) != 1 ||
        std::string_view(group) != "prime256v1")
        return error("the private key is not of the kind P-256");
    return of(std::move(key));
}

Result<std::string> Identity::to_pem() const {
    Bio bio(::BIO_new(::BIO_s_secmem()));
    if (!bio ||
        ::PEM_write_bio_PKCS8PrivateKey(bio.get(), key_.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1)
        return openssl_error("write a private key in PEM form");
    char* text = nullptr;
    auto length = BIO_get_mem_data(bio.get(), &text);
    return std::string(text, static_cast<size_t>(length));
}

std::string fingerprint(std::string_view public_key) {
    unsigned char digest[SHA256_DIGEST_LENGTH];
    ::SHA256(reinterpret_cast<const unsigned char*>(public_key.data()), public_key.size(), digest);
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text = "sha256:";
    for (unsigned char byte : digest) (text += kDigits[byte >> 4]) += kDigits[byte & 15];
    return text;
}

Result<> use_tls(SSL_CTX* context, const Identity& own, const std::function<bool(std::string_view)>& trusts) {
    bool done = ::SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) &&
                ::SSL_CTX_use_certificate(context, own.certificate_.get()) &&
                ::SSL_CTX_use_PrivateKey(context, own.key_.get());
    if (!done) return openssl_error("set TLS up");
    // No session outlives its connection: a ticket would let in somebody who has been struck off since.
    ::SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    ::SSL_CTX_set_num_tickets(context, 0);
    ::SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_CLEANSE_PLAINTEXT |
                                       SSL_OP_NO_COMPRESSION);
    ::SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    ::SSL_CTX_set_max_cert_list(context, kMaxCertificateBytes);
    ::SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    ::SSL_CTX_set_cert_verify_callback(context, judge,
                                       const_cast<std::function<bool(std::string_view)>*>(&trusts));
    return {};
}

Result<std::string> peer_public_key(SSL* connection) {
    return public_key_of(::SSL_get0_peer_certificate(connection));
}

std::string base64(std::string_view bytes) {
    std::string text((bytes.size() + 2) / 3 * 4, '\0'); // and its NUL, where EVP_EncodeBlock puts one
    ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
    return text;
}

Result<std::string> from_base64(std::string_view text) {
    constexpr size_t kMost = size_t{4} << 20;
    if (text.size() % 4 != 0 || text.size() > kMost) return error("not base64: the length is wrong");
    std::string bytes(text.size() / 4 * 3, '\0');
    int length =
        ::EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                          reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
    if (length < 0) return error("not base64");
    bytes.resize(static_cast<size_t>(length) - (text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0));
    // EVP_DecodeBlock takes blanks at the ends and "=" anywhere; what is written back must be the same.
    if (base64(bytes) != text) return error("not base64 in its only form");
    return bytes;
}

} // namespace nullbox::net

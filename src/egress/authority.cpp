#include "egress/authority.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "egress/secret_text.h"

namespace nullbox::egress {

constexpr int64_t kYears10_s = int64_t{3653} * 86400;
constexpr size_t kMaxLeaves = 256;
constexpr size_t kMaxCommonName = 64; // ub-common-name, RFC 5280

namespace {

struct Free {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(X509* certificate) const { X509_free(certificate); }
    void operator()(BIO* bio) const { BIO_free_all(bio); }
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(X509_EXTENSION* extension) const { X509_EXTENSION_free(extension); }
    void operator()(BIGNUM* number) const { BN_free(number); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free>;

Error openssl_error(std::string_view what) {
    auto code = ERR_get_error();
    ERR_clear_error();
    const char* reason = code ? ERR_reason_error_string(code) : nullptr;
    return error(cat(what, ": ", reason ? reason : "unknown failure of the TLS library"));
}

struct Identity {
    Owned<EVP_PKEY> key;
    Owned<X509> certificate;
};

Result<Owned<EVP_PKEY>> make_key() {
    Owned<EVP_PKEY> key(EVP_EC_gen("P-256"));
    if (!key) return openssl_error("make a P-256 key");
    return key;
}

bool add_extension(X509* certificate, X509* issuer, int kind, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    Owned<X509_EXTENSION> extension(X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
    return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

bool set_serial(X509* certificate) {
    std::array<unsigned char, 16> random{};
    if (RAND_bytes(random.data(), random.size()) != 1) return false;
    random[0] = static_cast<unsigned char>((random[0] & 0x7f) | 0x40); // positive, of full length
    Owned<BIGNUM> number(BN_bin2bn(random.data(), random.size(), nullptr));
    return number && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate));
}

bool set_name(X509_NAME* name, const std::string& common_name) {
    return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                      reinterpret_cast<const unsigned char*>(common_name.c_str()), -1, -1,
                                      0) == 1;
}

// Version, serial, validity, subject and key: what every certificate has.
Result<Owned<X509>> begin_certificate(EVP_PKEY* key, const std::string& common_name, int64_t until_s) {
    Owned<X509> certificate(X509_new());
    if (!certificate || X509_set_version(certificate.get(), X509_VERSION_3) != 1 ||
        !set_serial(certificate.get()) || !ASN1_TIME_set(X509_getm_notBefore(certificate.get()), 0) ||
        !ASN1_TIME_set(X509_getm_notAfter(certificate.get()), until_s) ||
        !set_name(X509_get_subject_name(certificate.get()), common_name) ||
        X509_set_pubkey(certificate.get(), key) != 1)
        return openssl_error("make a certificate");
    return certificate;
}

Result<Identity> make_authority(int64_t floor_s) {
    Identity identity{.key = TRY(make_key())};
    std::array<unsigned char, 4> random{};
    if (RAND_bytes(random.data(), random.size()) != 1) return openssl_error("random numbers");
    uint32_t number =
        uint32_t{random[0]} << 24 | uint32_t{random[1]} << 16 | uint32_t{random[2]} << 8 | random[3];
    auto until = std::max(static_cast<int64_t>(std::time(nullptr)), floor_s) + kYears10_s;
    identity.certificate = TRY(begin_certificate(identity.key.get(), cat("NullBox ", hex(number)), until));
    auto* certificate = identity.certificate.get();
    if (X509_set_issuer_name(certificate, X509_get_subject_name(certificate)) != 1 ||
        !add_extension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !add_extension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !add_extension(certificate, certificate, NID_subject_key_identifier, "hash") ||
        X509_sign(certificate, identity.key.get(), EVP_sha256()) == 0)
        return openssl_error("make the box's certificate authority");
    return identity;
}

Result<Owned<X509>> make_leaf(const Identity& authority, EVP_PKEY* key, const HostName& host) {
    // The alternative name is what counts; the common name is for people and has a limit.
    auto shown = host.text().size() <= kMaxCommonName ? host.text() : std::string("NullBox");
    auto certificate = TRY(begin_certificate(key, shown, 0));
    auto* issuer = authority.certificate.get();
    if (X509_set1_notAfter(certificate.get(), X509_get0_notAfter(issuer)) != 1 ||
        X509_set_issuer_name(certificate.get(), X509_get_subject_name(issuer)) != 1 ||
        !add_extension(certificate.get(), issuer, NID_basic_constraints, "critical,CA:FALSE") ||
        !add_extension(certificate.get(), issuer, NID_key_usage, "critical,digitalSignature") ||
        !add_extension(certificate.get(), issuer, NID_ext_key_usage, "serverAuth") ||
        !add_extension(certificate.get(), issuer, NID_subject_alt_name, cat("DNS:", host.text())) ||
        !add_extension(certificate.get(), issuer, NID_authority_key_identifier, "keyid:always") ||
        X509_sign(certificate.get(), authority.key.get(), EVP_sha256()) == 0)
        return openssl_error(cat("make a certificate for ", host.text()));
    return certificate;
}

std::string take_text(BIO* bio) {
    char* data = nullptr;
    auto size = BIO_get_mem_data(bio, &data);
    return {data, static_cast<size_t>(size)};
}

Result<std::string> certificate_text(X509* certificate) {
    Owned<BIO> bio(BIO_new(BIO_s_mem()));
    if (!bio || PEM_write_bio_X509(bio.get(), certificate) != 1) return openssl_error("write a certificate");
    return take_text(bio.get());
}

Result<std::string> key_text(EVP_PKEY* key) {
    Owned<BIO> bio(BIO_new(BIO_s_secmem()));
    if (!bio || PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1)
        return openssl_error("write the key");
    return take_text(bio.get());
}

Result<Identity> read_identity(const std::string& text) {
    Owned<BIO> bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
    if (!bio) return openssl_error("read the box's certificate authority");
    Identity identity;
    identity.key.reset(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
    identity.certificate.reset(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    if (!identity.key || !identity.certificate ||
        X509_check_private_key(identity.certificate.get(), identity.key.get()) != 1)
        return openssl_error("read the box's certificate authority");
    return identity;
}

void keep(const std::string& path, const Identity& identity) {
    auto key = key_text(identity.key.get());
    auto certificate = certificate_text(identity.certificate.get());
    if (!key || !certificate) return log_warning("the box's certificate authority cannot be written down");
    auto text = *key + *certificate;
    if (auto kept = write_file_atomic(path, text, 0600); !kept)
        log_warning(
            cat("the box's certificate authority is not kept over a restart: ", kept.error().message));
    wipe(text);
    wipe(*key);
}

Result<Identity> load(const std::string& path) {
    auto text = TRY(read_file(path, 64 << 10));
    auto identity = read_identity(text);
    wipe(text);
    return identity;
}

// ALPN: HTTP/1.1 if the client knows it at all; without the extension there is nothing to say.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                    unsigned in_size, void*) {
    static constexpr unsigned char kProtocols[] = "\x08http/1.1\x08http/1.0";
    unsigned char* chosen = nullptr;
    if (SSL_select_next_proto(&chosen, out_size, kProtocols, sizeof kProtocols - 1, in, in_size) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

} // namespace

struct Authority::Impl {
    Identity identity;
    std::string pem;
    Owned<EVP_PKEY> leaf_key; // one for all names of this run
    std::map<HostName, Owned<SSL_CTX>> leaves;
};

Authority::Authority(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Authority::Authority(Authority&&) noexcept = default;
Authority& Authority::operator=(Authority&&) noexcept = default;
Authority::~Authority() = default;

Result<Authority> Authority::open(const std::string& path, int64_t floor_s) {
    auto impl = std::make_unique<Impl>();
    auto kept = load(path);
    if (kept) {
        impl->identity = *std::move(kept);
    } else {
        if (kept.error().code != ENOENT) {
            log_warning(cat(path, ": ", kept.error().message, "; it is moved aside and a new one is made"));
            (void)::rename(path.c_str(), (path + ".bad").c_str());
        }
        impl->identity = TRY(make_authority(floor_s));
        keep(path, impl->identity);
    }
    impl->pem = TRY(certificate_text(impl->identity.certificate.get()));
    return Authority(std::move(impl));
}

const std::string& Authority::certificate_pem() const { return impl_->pem; }

Result<SSL_CTX*> Authority::server_context(const HostName& host) {
    if (auto known = impl_->leaves.find(host); known != impl_->leaves.end()) return known->second.get();
    if (!impl_->leaf_key) impl_->leaf_key = TRY(make_key());
    auto leaf = TRY(make_leaf(impl_->identity, impl_->leaf_key.get(), host));
    Owned<SSL_CTX> context(SSL_CTX_new(TLS_server_method()));
    if (!context || SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION) != 1 ||
        SSL_CTX_use_certificate(context.get(), leaf.get()) != 1 ||
        SSL_CTX_use_PrivateKey(context.get(), impl_->leaf_key.get()) != 1)
        return openssl_error(cat("prepare TLS as ", host.text()));
    SSL_CTX_set_options(context.get(), SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(context.get(), 0);
    SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(context.get(), choose_protocol, nullptr);
    // A live connection holds its own reference to its context.
    if (impl_->leaves.size() >= kMaxLeaves) impl_->leaves.clear();
    auto* made = context.get();
    impl_->leaves.emplace(host, std::move(context));
    return made;
}

static Result<> trust(SSL_CTX* context, std::string_view pem) {
    Owned<BIO> text(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    size_t count = 0;
    while (text) {
        Owned<X509> certificate(PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr));
        if (!certificate) break;
        if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate.get()) != 1)
            return openssl_error("trust a certificate of certificate_authorities");
        count++;
    }
    // The end of the text is an error of PEM's too; any other one is a certificate that is none.
    if (count == 0 || ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        return openssl_error(
            cat("read certificate ", count + 1, " of the machine configuration's certificate_authorities"));
    ERR_clear_error();
    return {};
}

TrustedRoots::~TrustedRoots() { SSL_CTX_free(context_); }

Result<SSL_CTX*> TrustedRoots::client_context() {
    if (context_) return context_;
    static constexpr unsigned char kProtocol[] = "\x08http/1.1";
    Owned<SSL_CTX> context(SSL_CTX_new(TLS_client_method()));
    if (!context || SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_alpn_protos(context.get(), kProtocol, sizeof kProtocol - 1) != 0)
        return openssl_error("prepare TLS towards servers");
    if (SSL_CTX_load_verify_file(context.get(), file_.c_str()) != 1)
        return openssl_error(cat("read the certificates of authorities from ", file_));
    if (!more_.empty()) TRY(trust(context.get(), more_));
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context.get(), SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION);
    context_ = context.release();
    return context_;
}

} // namespace nullbox::egress

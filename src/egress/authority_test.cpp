#include "egress/authority.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::egress {

class AuthorityTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(make_directories(folder_)); }
    void TearDown() override { std::filesystem::remove_all(folder_); }
    std::string folder_ = cat(testing::TempDir(), "egress_authority_", ::getpid());
    std::string path_ = folder_ + "/ca.pem";
};

static X509* parse(const std::string& pem) {
    auto* bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
    auto* certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
    BIO_free(bio);
    return certificate;
}

TEST_F(AuthorityTest, IsMadeOnceAndKept) {
    auto first = Authority::open(path_, 0)->certificate_pem();
    EXPECT_EQ(std::filesystem::status(path_).permissions(), std::filesystem::perms(0600));
    EXPECT_EQ(Authority::open(path_, 0)->certificate_pem(), first);
    EXPECT_FALSE(first.contains("PRIVATE KEY"));
    std::filesystem::remove(path_);
    EXPECT_NE(Authority::open(path_, 0)->certificate_pem(), first) << "another box, another authority";
}

TEST_F(AuthorityTest, ABrokenFileIsMovedAside) {
    auto first = Authority::open(path_, 0)->certificate_pem();
    ASSERT_TRUE(write_file_atomic(path_, "garbage", 0600));
    auto again = Authority::open(path_, 0);
    ASSERT_TRUE(again);
    EXPECT_NE(again->certificate_pem(), first);
    EXPECT_EQ(*read_file(path_ + ".bad"), "garbage");
}

// The clock of a box that woke up in 1970 is raised to the build's time; ten years from there must be
// covered.
TEST_F(AuthorityTest, ItsLeavesAreValidForTheirNameWhateverTheClock) {
    auto floor_s = int64_t{4'000'000'000}; // later than now
    auto authority = *Authority::open(path_, floor_s);
    auto* context = *authority.server_context(*HostName::parse("api.example.org"));
    EXPECT_EQ(*authority.server_context(*HostName::parse("api.example.org")), context) << "made once";
    auto* leaf = SSL_CTX_get0_certificate(context);
    auto* root = parse(authority.certificate_pem());
    EXPECT_EQ(X509_check_host(leaf, "api.example.org", 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr), 1);
    EXPECT_EQ(X509_check_host(leaf, "evil.test", 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr), 0);
    EXPECT_EQ(X509_check_ca(leaf), 0) << "a leaf cannot sign";
    EXPECT_EQ(X509_check_ca(root), 1);
    auto* store = X509_STORE_new();
    X509_STORE_add_cert(store, root);
    for (int64_t when : {int64_t{1}, int64_t{1'700'000'000}, floor_s + 9 * 365 * 86400}) {
        auto* verify = X509_STORE_CTX_new();
        X509_STORE_CTX_init(verify, store, leaf, nullptr);
        X509_STORE_CTX_set_purpose(verify, X509_PURPOSE_SSL_SERVER);
        X509_STORE_CTX_set_time(verify, 0, when);
        EXPECT_EQ(X509_verify_cert(verify), 1)
            << when << ": " << X509_verify_cert_error_string(X509_STORE_CTX_get_error(verify));
        X509_STORE_CTX_free(verify);
    }
    X509_STORE_free(store);
    X509_free(root);
}

TEST_F(AuthorityTest, LongNamesHaveLeavesToo) {
    auto authority = *Authority::open(path_, 0);
    auto name =
        std::string(63, 'a') + "." + std::string(63, 'b') + "." + std::string(63, 'c') + ".example.org";
    EXPECT_TRUE(authority.server_context(*HostName::parse(name)));
}

// Control: roots are checked when they are needed; none means no server is trusted.
TEST_F(AuthorityTest, WithoutRootsThereIsNoTlsTowardsServers) {
    EXPECT_FALSE(TrustedRoots(folder_ + "/missing.crt").client_context());
    ASSERT_TRUE(write_file_atomic(folder_ + "/empty.crt", "", 0644));
    EXPECT_FALSE(TrustedRoots(folder_ + "/empty.crt").client_context());
    auto pem = Authority::open(path_, 0)->certificate_pem();
    ASSERT_TRUE(write_file_atomic(folder_ + "/roots.crt", pem, 0644));
    EXPECT_TRUE(TrustedRoots(folder_ + "/roots.crt").client_context());
    EXPECT_TRUE(TrustedRoots(folder_ + "/roots.crt", cat("a comment\n", pem, pem)).client_context());
    auto second = TrustedRoots(folder_ + "/roots.crt", cat(pem, "-----BEGIN CERTIFICATE-----\nAAAA\n"
                                                                "-----END CERTIFICATE-----\n"))
                      .client_context();
    ASSERT_FALSE(second);
    EXPECT_TRUE(second.error().message.contains("certificate 2")) << second.error().message;
    EXPECT_FALSE(TrustedRoots(folder_ + "/roots.crt", "none").client_context());
}

} // namespace nullbox::egress

#include "agent_init/trust.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::agent_init {
namespace {

constexpr std::string_view kPem = "-----BEGIN CERTIFICATE-----\nbox\n-----END CERTIFICATE-----\n";

class TrustTest : public testing::Test {
protected:
    void SetUp() override { ASSERT_TRUE(make_directories(root_)); }
    void TearDown() override { std::filesystem::remove_all(root_); }
    void put(const std::string& path, std::string_view text) {
        ASSERT_TRUE(make_directories(std::filesystem::path(root_ + path).parent_path()));
        ASSERT_TRUE(write_file_atomic(root_ + path, text, 0644));
    }
    std::string get(const std::string& path) { return read_file(root_ + path).value_or("missing"); }
    std::string variable(std::string_view name) {
        for (const auto& one : environment_)
            if (one.starts_with(cat(name, "="))) return one.substr(name.size() + 1);
        return "unset";
    }
    std::string root_ = cat(testing::TempDir(), "trust_", ::getpid());
    std::vector<std::string> environment_;
};

TEST_F(TrustTest, TheImagesBundleIsAddedToAndNotReplaced) {
    put("/etc/ssl/certs/ca-certificates.crt", "public one\npublic two"); // no newline at its end
    ASSERT_TRUE(trust_authority(root_, kPem, environment_));
    EXPECT_EQ(get("/etc/ssl/certs/ca-certificates.crt"), cat("public one\npublic two\n", kPem));
    EXPECT_EQ(get("/etc/ssl/nullbox-authority.pem"), kPem);
    EXPECT_EQ(variable("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt");
    EXPECT_EQ(variable("NODE_EXTRA_CA_CERTS"), "/etc/ssl/nullbox-authority.pem");
}

TEST_F(TrustTest, AnImageWithoutABundleGetsOne) {
    ASSERT_TRUE(trust_authority(root_, kPem, environment_));
    EXPECT_EQ(get("/etc/ssl/certs/ca-certificates.crt"), kPem);
}

TEST_F(TrustTest, WhereOtherDistributionsKeepIt) {
    put("/etc/pki/tls/certs/ca-bundle.crt", "public\n");
    ASSERT_TRUE(trust_authority(root_, kPem, environment_));
    EXPECT_EQ(get("/etc/pki/tls/certs/ca-bundle.crt"), cat("public\n", kPem));
    EXPECT_EQ(get("/etc/ssl/certs/ca-certificates.crt"), "missing")
        << "a second bundle without the public ones would hide them";
    EXPECT_EQ(variable("CURL_CA_BUNDLE"), "/etc/pki/tls/certs/ca-bundle.crt");
}

TEST_F(TrustTest, WhatTheManifestSetsStays) {
    environment_ = {"SSL_CERT_FILE=/app/own.pem", "A=1"};
    ASSERT_TRUE(trust_authority(root_, kPem, environment_));
    EXPECT_EQ(variable("SSL_CERT_FILE"), "/app/own.pem");
    EXPECT_EQ(variable("REQUESTS_CA_BUNDLE"), "/etc/ssl/certs/ca-certificates.crt");
    EXPECT_EQ(environment_.size(), 6U);
}

} // namespace
} // namespace nullbox::agent_init

#include "cage/needs.h"

#include <algorithm>
#include <cstring>
#include <sys/random.h>

#include "base/check.h"
#include "base/text.h"
#include "cage/base64.h"
#include "varlink/parameters.h"
#include "varlink/pending.h"

namespace nullbox::cage {

using varlink::Answer;

constexpr auto kFirstRetry = std::chrono::milliseconds(250);
constexpr auto kLastRetry = std::chrono::milliseconds(4000);
// What execve() takes as one variable, its name included (MAX_ARG_STRLEN), leaves more than this.
constexpr size_t kMostSecretBytes = size_t{64} << 10;

void Variables::add(std::string name, std::string value) {
    all_.emplace_back(std::move(name), std::move(value));
}

Variables& Variables::operator=(Variables&& other) noexcept {
    if (this != &other) {
        wipe();
        all_ = std::move(other.all_);
    }
    return *this;
}

void Variables::wipe() {
    for (auto& [name, value] : all_) ::explicit_bzero(value.data(), value.size());
    all_.clear();
}

Needs::Needs(Loop& loop, const ServiceSockets& sockets, VaultWatch& vault, EgressWatch& egress, Events events)
    : loop_(loop), sockets_(sockets), vault_(vault), egress_(egress), events_(std::move(events)),
      lease_(loop, sockets.egress) {}
Needs::~Needs() = default;

void Needs::get(const manifest::AgentManifest& manifest) {
    release();
    manifest_ = &manifest;
    delay_ = {};
    make_placeholders();
    go_on();
}

// New with every start: one that an agent gave away is worth nothing to the next.
void Needs::make_placeholders() {
    for (const auto& credential : manifest_->credentials) {
        if (credential.exposed) continue;
        std::byte random[16];
        CHECK(::getrandom(random, sizeof random, 0) == sizeof random);
        auto text = cat("nullbox-", credential.name, "-", to_base64url(random));
        placeholders_.push_back({.secret = credential.name, .text = text});
        granted_.variables.add(credential.variable, text);
    }
}

bool Needs::needs_vault() const {
    return std::ranges::any_of(manifest_->credentials,
                               [](const auto& one) { return one.exposed || !one.inject.empty(); });
}

void Needs::try_again() {
    if (!manifest_ || asking_) return;
    retry_.drop();
    go_on();
}

void Needs::go_on() {
    if (needs_vault()) {
        vault_.follow();
        if (!vault_.unlocked()) { // try_again() follows when it changes
            if (!vault_.wanted().empty()) events_.waits_for(vault_.wanted());
            return;
        }
    }
    for (; next_credential_ < manifest_->credentials.size(); next_credential_++)
        if (const auto& credential = manifest_->credentials[next_credential_]; credential.exposed)
            return ask_for_secret(credential);
    if (!manifest_->network_allow.empty() && !granted_.network) return ask_for_network();
    manifest_ = nullptr;
    has_network_ = granted_.network.has_value();
    events_.ready(std::move(granted_));
}

void Needs::wait_and_retry(std::string what) {
    delay_ = delay_.count() == 0 ? kFirstRetry : std::min(delay_ * 2, kLastRetry);
    retry_ = loop_.after(delay_, [this] { try_again(); });
    events_.waits_for(std::move(what));
}

void Needs::ask_for_secret(const manifest::Credential& credential) {
    asking_ = true;
    call_ = std::make_unique<varlink::PendingCall>(varlink::call_in_background(
        loop_,
        {.socket_path = sockets_.warden,
         .method = "io.nullbox.warden.Exposed",
         .parameters = {{"agent", manifest_->name}, {"secret", credential.name}}},
        [this, &credential](Result<Answer> answer) { on_secret(credential, std::move(answer)); }));
}

static Result<std::string> secret_in(const Result<Answer>& answer) {
    if (!answer) return answer.error();
    constexpr size_t kMostBase64 = (kMostSecretBytes + 2) / 3 * 4;
    auto text = varlink::Parameters(answer->parameters)
                    .text("value_base64", {.least_bytes = 0, .most_bytes = kMostBase64});
    auto value = from_base64(text);
    ::explicit_bzero(text.data(), text.size());
    if (!value) return error("warden's answer holds no value");
    if (value->contains('\0'))
        return error("it holds a zero byte, which no environment variable can: bind it to a host instead");
    return *std::move(value);
}

void Needs::on_secret(const manifest::Credential& credential, Result<Answer> answer) {
    asking_ = false;
    auto value = secret_in(answer);
    if (!value)
        return wait_and_retry(
            cat("the secret ", credential.name, ": ", printable(value.error().message, 512)));
    granted_.variables.add(credential.variable, *std::move(value));
    next_credential_++;
    go_on();
}

NetworkRequest Needs::request_of(const manifest::AgentManifest& manifest) const {
    NetworkRequest request{.agent = manifest.name,
                           .allow = manifest.network_allow,
                           .allow_private = manifest.network_allow_private,
                           .rules = manifest.network_rules,
                           .budget = manifest.network_budget,
                           .placeholders = placeholders_};
    std::ranges::copy_if(manifest.credentials, std::back_inserter(request.credentials),
                         [](const auto& one) { return !one.inject.empty(); });
    return request;
}

void Needs::update_network(const manifest::AgentManifest& manifest, NetworkLease::Updated done) {
    lease_.update(request_of(manifest), std::move(done));
}

void Needs::ask_for_network() {
    auto fail = [this](const Error& why) {
        wait_and_retry(cat("the network: ", printable(why.message, 512)));
    };
    // Watched before it is asked, so that no end of egress falls between.
    if (auto held = egress_.hold(); !held) return fail(held.error());
    asking_ = true;
    lease_.attach(request_of(*manifest_), [this, fail](Result<NetworkGrant> grant) {
        asking_ = false;
        if (!grant) return fail(grant.error());
        granted_.network = *std::move(grant);
        go_on();
    });
}

void Needs::release() {
    manifest_ = nullptr;
    asking_ = has_network_ = false;
    next_credential_ = 0;
    call_.reset();
    retry_.drop();
    placeholders_.clear();
    granted_ = {};
    lease_.release();
}

bool Needs::network_lost() {
    lease_.lost();
    // One that is not handed out yet is asked for again; a call under way fails by itself.
    if (manifest_ && std::exchange(granted_.network, std::nullopt)) try_again();
    return std::exchange(has_network_, false);
}

} // namespace nullbox::cage

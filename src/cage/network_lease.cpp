#include "cage/network_lease.h"

#include <algorithm>
#include <boost/json/array.hpp>

#include "base/log.h"
#include "base/text.h"
#include "cage/manifest_words.h"
#include "varlink/parameters.h"
#include "varlink/pending.h"

namespace nullbox::cage {

namespace json = boost::json;
using varlink::Answer;

// egress answers a request at once; what takes long is a machine that is busy with everything at its start.
constexpr auto kLimit = std::chrono::seconds(20);

NetworkLease::NetworkLease(Loop& loop, std::string egress_socket)
    : loop_(loop), socket_(std::move(egress_socket)) {}
NetworkLease::~NetworkLease() = default;

static json::array texts(const std::vector<std::string>& list) {
    return json::array(list.begin(), list.end());
}

static json::object attach_parameters(const NetworkRequest& request) {
    json::array bindings;
    for (const auto& credential : request.credentials) {
        auto found = std::ranges::find(request.placeholders, credential.name, &Placeholder::secret);
        for (const auto& inject : credential.inject)
            bindings.push_back(
                json::object{{"secret", credential.name},
                             {"host", inject.host},
                             {"header", inject.header},
                             {"format", inject.format},
                             {"placeholder", found == request.placeholders.end() ? "" : found->text}});
    }
    return {{"agent", request.agent},
            {"allow", texts(request.allow)},
            {"allow_private", texts(request.allow_private)},
            {"inject", std::move(bindings)},
            {"rules", request_rules_as_json(request.rules)},
            {"budget", network_budget_as_json(request.budget)}};
}

static std::optional<std::array<uint8_t, 6>> parse_mac(std::string_view text) {
    std::array<uint8_t, 6> mac{};
    auto parts = split(text, ':');
    if (parts.size() != mac.size()) return std::nullopt;
    for (size_t i = 0; i < mac.size(); i++) {
        auto part = parts[i];
        auto done = std::from_chars(part.data(), part.data() + part.size(), mac[i], 16);
        if (part.size() != 2 || done.ec != std::errc() || done.ptr != part.data() + part.size())
            return std::nullopt;
    }
    return mac;
}

static Result<NetworkGrant> read_grant(Answer answer) {
    varlink::Parameters p(answer.parameters);
    NetworkGrant grant;
    grant.network.address = p.text("address", {.most_bytes = 15});
    grant.network.prefix_length = static_cast<uint8_t>(p.number("prefix", {.least = 1, .most = 32}));
    grant.network.gateway = p.text("gateway", {.most_bytes = 15});
    grant.network.dns = p.text("dns", {.most_bytes = 15});
    grant.network.mtu = static_cast<uint16_t>(p.number("mtu", {.least = 1280, .most = 65535}));
    auto mac = parse_mac(p.text("mac", {.most_bytes = 17}));
    grant.authority_pem = p.text(
        "ca_pem", {.least_bytes = 0, .most_bytes = guest_link::kMaxAuthorityText, .several_lines = true});
    if (!mac) p.wrong("mac", "must be six bytes like 02:00:00:00:00:01");
    if (auto wrong = p.finish())
        return error(cat("egress's answer: ", wrong->parameter, " ", wrong->message));
    if (answer.fds.size() != 1) return error(cat("egress sent ", answer.fds.size(), " descriptors, not one"));
    grant.mac = *mac;
    grant.tap = std::move(answer.fds[0]);
    return grant;
}

static uint64_t ended_of(const Answer& answer) {
    return static_cast<uint64_t>(varlink::Parameters(answer.parameters).number("ended"));
}

void NetworkLease::attach(NetworkRequest request, std::function<void(Result<NetworkGrant>)> done) {
    if (stage_ != Stage::Free) stale_ = true;
    wanted_ = std::move(request);
    done_ = std::move(done);
    step();
}

void NetworkLease::update(NetworkRequest request, Updated done) {
    auto before = std::exchange(update_, Update{std::move(request), std::move(done)});
    if (before) before->done(error("newer rules came before they could be sent"));
    step();
}

void NetworkLease::release() {
    wanted_.reset();
    done_ = nullptr;
    if (stage_ == Stage::Attaching || stage_ == Stage::Attached || stage_ == Stage::Updating) stale_ = true;
    step();
}

void NetworkLease::lost() {
    if (stage_ == Stage::Attached) stage_ = Stage::Free, stale_ = false;
    if (stage_ == Stage::Updating) gone_ = true;
    step(); // calls under way fail by themselves
}

void NetworkLease::step() {
    bool attached = stage_ == Stage::Attached && !stale_;
    if (update_ && stage_ != Stage::Updating && !attached)
        std::exchange(update_, std::nullopt)->done(error("the agent has no network now"));
    if (stage_ == Stage::Attached && stale_) return send_detach();
    if (update_ && attached) return send_update();
    if (stage_ == Stage::Free && wanted_) return send_attach();
}

void NetworkLease::send_attach() {
    stage_ = Stage::Attaching;
    stale_ = false;
    agent_ = wanted_->agent;
    auto parameters = attach_parameters(*wanted_);
    wanted_.reset();
    call_ = std::make_unique<varlink::PendingCall>(
        varlink::call_in_background(loop_,
                                    {.socket_path = socket_,
                                     .method = "io.nullbox.egress.Attach",
                                     .parameters = std::move(parameters),
                                     .limit = kLimit},
                                    [this](Result<Answer> answer) { on_attached(std::move(answer)); }));
}

void NetworkLease::on_attached(Result<Answer> answer) {
    Result<NetworkGrant> grant =
        answer ? read_grant(*std::move(answer)) : Result<NetworkGrant>(answer.error());
    // After an answer that makes no sense, or none in time, something may be attached all the same.
    bool attached = answer.has_value() || answer.error().code == ETIMEDOUT;
    stage_ = attached ? Stage::Attached : Stage::Free;
    bool wanted = !stale_ && done_;
    if (!grant || !wanted) stale_ = true;
    auto done = wanted ? std::exchange(done_, nullptr) : nullptr;
    step();
    if (done) done(std::move(grant));
}

void NetworkLease::send_update() {
    stage_ = Stage::Updating;
    gone_ = false;
    auto update = *std::exchange(update_, std::nullopt);
    call_ = std::make_unique<varlink::PendingCall>(
        varlink::call_in_background(loop_,
                                    {.socket_path = socket_,
                                     .method = "io.nullbox.egress.Update",
                                     .parameters = attach_parameters(update.request),
                                     .limit = kLimit},
                                    [this, done = std::move(update.done)](Result<Answer> answer) {
                                        stage_ = gone_ ? Stage::Free : Stage::Attached;
                                        if (gone_) stale_ = false;
                                        auto told = done; // step() may take this call away
                                        Result<uint64_t> ended = answer ? Result<uint64_t>(ended_of(*answer))
                                                                        : Result<uint64_t>(answer.error());
                                        step();
                                        told(std::move(ended));
                                    }));
}

void NetworkLease::send_detach() {
    stage_ = Stage::Detaching;
    stale_ = false;
    call_ = std::make_unique<varlink::PendingCall>(varlink::call_in_background(
        loop_,
        {.socket_path = socket_,
         .method = "io.nullbox.egress.Detach",
         .parameters = {{"agent", agent_}},
         .limit = kLimit},
        [this](const Result<Answer>& answer) {
            // An egress that is gone has forgotten it; one that refuses replaces it at the next attach.
            if (!answer)
                log_warning(
                    cat("agent ", agent_, ": give its network back: ", printable(answer.error().message)));
            stage_ = Stage::Free;
            step();
        }));
}

} // namespace nullbox::cage

#include "warden/interface.h"

#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cerrno>
#include <set>

#include "base/log.h"
#include "base/text.h"
#include "manifest/forms.h"
#include "varlink/answer.h"
#include "varlink/parameters.h"
#include "warden/io.nullbox.warden.varlink.h"

namespace nullbox::warden {

namespace json = boost::json;
using varlink::Call;
using varlink::Parameters;
using varlink::text_or_null;

constexpr size_t kLeastPassphraseBytes = 8;
constexpr size_t kMostPassphraseBytes = 1024;
constexpr size_t kMostSecretTextBytes = (kMostSecretBytes + 2) / 3 * 4;
constexpr int64_t kDefaultUses = 100;
constexpr std::string_view kError = "io.nullbox.warden.";

// --- Errors

static std::string_view error_name(int code) {
    switch (code) {
    case EKEYREJECTED:
        return "WrongPassphrase";
    case ENOKEY:
        return "NoSuchSecret";
    case EACCES:
        return "NotGranted";
    case EBADMSG:
        return "Damaged";
    case EINVAL:
        return "BadValue";
    case EDQUOT:
        return "TooLarge";
    case EEXIST:
        return "AlreadyThere";
    case EIO:
        return "CannotWrite";
    case EAGAIN:
        return "Busy";
    case ENOENT:
        return "NoVault";
    default:
        return "Failed";
    }
}

static void refuse(Warden& warden, Call& call, const Error& why) {
    auto message = printable(why.message);
    if (why.code == EBUSY)
        return call.error(cat(kError, "TooSoon"),
                          json::object{{"message", message}, {"wait_ms", warden.wait().count()}});
    call.error(cat(kError, error_name(why.code)), message);
}

static bool answered(const std::optional<Parameters::Wrong>& wrong, Call& call) {
    if (wrong) call.invalid_parameter(wrong->parameter, wrong->message);
    return wrong.has_value();
}

// Whether the vault cannot serve the call, which has been answered then.
static bool is_closed(Warden& warden, Call& call) {
    const auto& vault = warden.vault();
    switch (vault.state()) {
    case Vault::State::Unlocked:
        return false;
    case Vault::State::Locked:
        call.error(cat(kError, "Locked"), "the vault is locked; unlock it: nullctl vault unlock");
        return true;
    case Vault::State::Absent:
        call.error(cat(kError, "NoVault"), "there is no vault yet; make one: nullctl vault init");
        return true;
    case Vault::State::Damaged:
        call.error(cat(kError, "Damaged"), printable(vault.problem()));
        return true;
    }
    return true;
}

// --- Secrets at the border (secret.h says what that can and cannot promise)

// The parameter as locked memory; its text in the request is overwritten.
static SecretBytes take_secret(const Call& call, Parameters& parameters, std::string_view name,
                               const varlink::TextBounds& bounds) {
    auto text = parameters.text(name, bounds);
    // The request is the Call's own, and nobody else reads it.
    if (auto* value = const_cast<json::object&>(call.parameters()).if_contains(name);
        value && value->is_string())
        wipe(std::as_writable_bytes(std::span(value->get_string().data(), value->get_string().size())));
    auto secret = SecretBytes::copy_of(text);
    wipe(text);
    if (!secret) parameters.wrong(name, secret.error().message);
    return secret ? *std::move(secret) : SecretBytes();
}

static Result<json::value> outgoing(const SecretBytes& secret) {
    auto text = TRY(to_base64(secret));
    json::value value(text);
    wipe(text);
    return value;
}

static varlink::TextBounds passphrase_bounds(size_t least) {
    return {.least_bytes = least, .most_bytes = kMostPassphraseBytes};
}

static std::string take_name(Parameters& parameters, std::string_view key) {
    auto name = parameters.text(key, {.most_bytes = kMostNameBytes});
    if (auto wrong = manifest::wrong_secret_name(name); !wrong.empty()) parameters.wrong(key, wrong);
    return name;
}

// --- State

static void state(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    if (answered(parameters.finish(), call)) return;
    const auto& vault = warden.vault();
    auto kdf = vault.kdf();
    auto name = state_name(vault.state());
    json::object answer{{"state", name},
                        {"secrets", kdf ? json::value(vault.secrets()) : json::value(nullptr)},
                        {"kdf", text_or_null(kdf ? kdf_name(kdf->kind) : "")},
                        {"trying", warden.trying()},
                        {"wait_ms", warden.wait().count()},
                        {"problem", text_or_null(printable(vault.problem()))}};
    call.reply({{"vault", std::move(answer)}, {"state", name}});
}

static void watch(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    if (answered(parameters.finish(), call)) return;
    auto now = [&warden] { return json::object{{"state", state_name(warden.vault().state())}}; };
    if (!call.wants_more()) return call.reply(now());
    call.reply_continues(now());
    struct Watcher {
        Call call;
        uint64_t id = 0;
    };
    auto watcher = std::make_shared<Watcher>(Watcher{.call = std::move(call)});
    watcher->id = warden.watch([&warden, watcher, now] {
        if (!watcher->call.connected()) return warden.unwatch(watcher->id);
        watcher->call.reply_continues(now());
    });
}

// --- Keys

static Warden::Done answer_when_done(Warden& warden, Call call) {
    return [&warden, kept = std::make_shared<Call>(std::move(call))](const Result<>& done) {
        if (done)
            kept->reply({});
        else
            refuse(warden, *kept, done.error());
    };
}

static void init(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    auto passphrase = take_secret(call, parameters, "passphrase", passphrase_bounds(kLeastPassphraseBytes));
    auto kdf = parameters.optional_text("kdf");
    auto kind = kdf == "pbkdf2" ? KdfParameters::Kind::Pbkdf2 : KdfParameters::Kind::Argon2id;
    if (kdf && *kdf != kdf_name(kind)) parameters.wrong("kdf", "must be \"argon2id\" or \"pbkdf2\"");
    warden.clean_stack_soon();
    if (answered(parameters.finish(), call)) return;
    if (warden.vault().state() == Vault::State::Damaged) return (void)is_closed(warden, call);
    if (warden.vault().state() != Vault::State::Absent)
        return call.error(cat(kError, "AlreadyThere"), "there is a vault already; it is left as it is");
    warden.init(kind, std::move(passphrase), answer_when_done(warden, std::move(call)));
}

static void unlock(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    auto passphrase = take_secret(call, parameters, "passphrase", passphrase_bounds(1));
    warden.clean_stack_soon();
    if (answered(parameters.finish(), call)) return;
    auto state = warden.vault().state();
    if (state == Vault::State::Absent || state == Vault::State::Damaged) return (void)is_closed(warden, call);
    warden.unlock(std::move(passphrase), answer_when_done(warden, std::move(call)));
}

static void change_passphrase(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    auto old_passphrase = take_secret(call, parameters, "old_passphrase", passphrase_bounds(1));
    auto passphrase = take_secret(call, parameters, "passphrase", passphrase_bounds(kLeastPassphraseBytes));
    warden.clean_stack_soon();
    if (answered(parameters.finish(), call) || is_closed(warden, call)) return;
    warden.change_passphrase(std::move(old_passphrase), std::move(passphrase),
                             answer_when_done(warden, std::move(call)));
}

static void lock(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    if (answered(parameters.finish(), call)) return;
    warden.lock();
    call.reply({});
}

// --- Secrets and grants

static int64_t now_ms() {
    auto since = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
}

// The end of a call that changed the vault.
static void finish(Warden& warden, Call& call, const Result<>& done, const std::string& said) {
    if (!done) return refuse(warden, call, done.error());
    log_info(printable(said));
    warden.changed();
    call.reply({});
}

static void set(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    auto name = take_name(parameters, "name");
    auto encoded =
        take_secret(call, parameters, "value_base64", {.least_bytes = 4, .most_bytes = kMostSecretTextBytes});
    warden.clean_stack_soon();
    auto value = from_base64(encoded.text());
    if (!value) parameters.wrong("value_base64", value.error().message);
    if (answered(parameters.finish(), call) || is_closed(warden, call)) return;
    auto version = warden.vault().set(name, *value, now_ms());
    if (!version) return refuse(warden, call, version.error());
    log_info(cat("secret ", name, " set, version ", *version));
    warden.changed();
    call.reply({{"version", *version}});
}

static void list(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    if (answered(parameters.finish(), call) || is_closed(warden, call)) return;
    json::array secrets;
    for (const auto& record : warden.vault().records()) {
        std::set<std::string> agents;
        for (const auto& grant : record.grants) agents.insert(grant.agent);
        secrets.push_back(json::object{{"name", record.name},
                                       {"version", record.version},
                                       {"created_ms", record.created_ms},
                                       {"updated_ms", record.updated_ms},
                                       {"granted", json::array(agents.begin(), agents.end())}});
    }
    call.reply({{"secrets", std::move(secrets)}});
}

static void erase(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    auto name = take_name(parameters, "name");
    if (answered(parameters.finish(), call) || is_closed(warden, call)) return;
    finish(warden, call, warden.vault().erase(name), cat("secret ", name, " deleted"));
}

static void grant(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    auto name = take_name(parameters, "secret");
    Grant grant{.agent = parameters.text("agent", {.most_bytes = kMostAgentBytes})};
    auto host = parameters.optional_text("host", {.most_bytes = kMostHostBytes});
    auto header = parameters.optional_text("header", {.most_bytes = kMostHeaderBytes});
    auto format = parameters.optional_text("format", {.most_bytes = kMostFormatBytes});
    grant.exposed = parameters.boolean_or("exposed", false);
    if (grant.exposed && (host || header || format))
        parameters.wrong("exposed", "must not be true beside host, header or format");
    if (!grant.exposed && !host) parameters.wrong("host", "is missing, unless exposed is true");
    if (!grant.exposed && !header) parameters.wrong("header", "is missing, unless exposed is true");
    if (!grant.exposed) {
        grant.host = host.value_or("");
        grant.header = header.value_or("");
        grant.format = format.value_or(std::string(manifest::kSecretMark));
    }
    if (answered(parameters.finish(), call) || is_closed(warden, call)) return;
    auto where = grant.exposed ? std::string("as exposed") : cat("for ", grant.header, " of ", grant.host);
    auto done = warden.vault().grant(name, grant);
    finish(warden, call, done, cat("secret ", name, " granted to ", grant.agent, " ", where));
}

static void revoke(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    auto name = take_name(parameters, "secret");
    auto agent = parameters.text("agent", {.most_bytes = kMostAgentBytes});
    if (answered(parameters.finish(), call) || is_closed(warden, call)) return;
    finish(warden, call, warden.vault().revoke(name, agent), cat("secret ", name, " revoked from ", agent));
}

static void grants(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    auto agent = parameters.optional_text("agent", {.most_bytes = kMostAgentBytes});
    if (answered(parameters.finish(), call) || is_closed(warden, call)) return;
    json::array out;
    for (const auto& record : warden.vault().records())
        for (const auto& grant : record.grants) {
            if (agent && grant.agent != *agent) continue;
            out.push_back(json::object{{"secret", record.name},
                                       {"agent", grant.agent},
                                       {"exposed", grant.exposed},
                                       {"host", text_or_null(grant.host)},
                                       {"header", text_or_null(grant.header)},
                                       {"format", text_or_null(grant.format)}});
        }
    call.reply({{"grants", std::move(out)}});
}

// --- For egress and cage

static void injection(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    auto agent = parameters.text("agent", {.most_bytes = kMostAgentBytes});
    auto host = parameters.text("host", {.most_bytes = kMostHostBytes});
    if (answered(parameters.finish(), call) || is_closed(warden, call)) return;
    warden.clean_stack_soon();
    auto found = warden.vault().injection(agent, host);
    if (!found) {
        warden.uses().add({.time_ms = now_ms(), .agent = agent, .host = host});
        return refuse(warden, call, found.error());
    }
    json::array items;
    for (const auto& item : *found) {
        auto value = outgoing(item.value);
        if (!value) return refuse(warden, call, value.error());
        items.push_back(json::object{
            {"header", item.header}, {"value_base64", *std::move(value)}, {"secret", item.secret}});
        warden.uses().add(
            {.time_ms = now_ms(), .agent = agent, .secret = item.secret, .host = host, .given = true});
    }
    call.reply({{"items", std::move(items)}});
}

static void exposed(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    auto agent = parameters.text("agent", {.most_bytes = kMostAgentBytes});
    auto name = take_name(parameters, "secret");
    if (answered(parameters.finish(), call) || is_closed(warden, call)) return;
    warden.clean_stack_soon();
    auto secret = warden.vault().exposed(agent, name);
    auto value = secret ? outgoing(*secret) : Result<json::value>(secret.error());
    warden.uses().add({.time_ms = now_ms(), .agent = agent, .secret = name, .given = value.has_value()});
    if (!value) return refuse(warden, call, value.error());
    call.reply({{"value_base64", *std::move(value)}});
}

static json::object use_object(const Use& use) {
    return {{"sequence", use.sequence},           {"time_ms", use.time_ms},         {"agent", use.agent},
            {"secret", text_or_null(use.secret)}, {"host", text_or_null(use.host)}, {"given", use.given}};
}

static void uses(Warden& warden, Call call) {
    Parameters parameters(call.parameters());
    auto count = parameters.number_or("lines", kDefaultUses, {.least = 0, .most = int64_t{Uses::kMost}});
    bool follow = parameters.boolean_or("follow", false);
    if (follow && !call.wants_more()) parameters.wrong("follow", "needs a call with \"more\"");
    if (answered(parameters.finish(), call)) return;
    json::array last;
    for (const auto& use : warden.uses().last(static_cast<size_t>(count))) last.push_back(use_object(use));
    json::object answer{{"uses", std::move(last)}};
    if (!follow) return call.reply(std::move(answer));
    call.reply_continues(std::move(answer));
    struct Follower {
        Call call;
        uint64_t id = 0;
    };
    auto follower = std::make_shared<Follower>(Follower{.call = std::move(call)});
    follower->id = warden.uses().follow([&warden, follower](const Use& use) {
        if (!follower->call.connected()) return warden.uses().unfollow(follower->id);
        follower->call.reply_continues({{"uses", json::array{use_object(use)}}});
    });
}

// --- Who may call what

constexpr uid_t kEgress = 101, kCage = 103, kGate = 105;

struct Entry {
    const char* name;
    std::vector<uid_t> allowed;
    void (*handle)(Warden&, Call);
};

varlink::InterfaceTable interface_table(Warden& warden, const std::vector<uid_t>& also_allowed) {
    const Entry entries[] = {
        {"State", {kGate, kCage}, state},
        {"Watch", {kGate, kCage}, watch},
        {"Init", {kGate}, init},
        {"Unlock", {kGate}, unlock},
        {"Lock", {kGate}, lock},
        {"ChangePassphrase", {kGate}, change_passphrase},
        {"Set", {kGate}, set},
        {"List", {kGate}, list},
        {"Delete", {kGate}, erase},
        {"Grant", {kGate}, grant},
        {"Revoke", {kGate}, revoke},
        {"Grants", {kGate}, grants},
        {"Uses", {kGate}, uses},
        {"Injection", {kEgress}, injection}, // secrets go out here
        {"Exposed", {kCage}, exposed},       // and here
    };
    varlink::InterfaceTable table{.name = "io.nullbox.warden",
                                  .description = std::string(kInterfaceDescription)};
    for (const auto& entry : entries) {
        auto& method = table.methods.emplace_back();
        method.name = entry.name;
        method.allowed_uids = entry.allowed;
        method.allowed_uids.insert(method.allowed_uids.end(), also_allowed.begin(), also_allowed.end());
        method.handle = [&warden, handle = entry.handle](Call call) { handle(warden, std::move(call)); };
    }
    return table;
}

Result<std::unique_ptr<varlink::Server>> serve_interface(Loop& loop, Warden& warden,
                                                         const std::string& socket_path,
                                                         const std::vector<uid_t>& also_allowed) {
    return varlink::Server::listen(loop, socket_path, {.product = "NullBox warden", .version = "0.1.0"},
                                   interface_table(warden, also_allowed));
}

} // namespace nullbox::warden

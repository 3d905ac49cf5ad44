#include "egress/injector.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <openssl/crypto.h>
#include <optional>

#include "base/text.h"
#include "egress/http_head.h"
#include "egress/scrubber.h"
#include "varlink/pending.h"

namespace nullbox::egress {

namespace json = boost::json;

constexpr auto kWardenTime = std::chrono::seconds(5);
constexpr size_t kMaxValueBytes = size_t{16} << 10;
// Questions that are open at a time. Warden serves only so many connections of one peer
// (varlink::kMaxConnectionsOfOneUid), and egress is one peer for all agents: one that opens many connections
// must not use up the others' share.
constexpr size_t kMostAsked = 16;

Injector::Injector(Loop& loop, std::string warden_socket)
    : loop_(loop), socket_(std::move(warden_socket)), turns_(std::make_shared<Turns>(kMostAsked)) {}

static std::string text_of(const json::object& object, const char* name) {
    const auto* value = object.if_contains(name);
    return value && value->is_string() ? std::string(value->get_string()) : std::string();
}

// A header's value, one line of visible characters.
static bool fits_header(std::string_view value) {
    return !value.empty() && value.size() <= kMaxValueBytes && std::ranges::all_of(value, [](char c) {
        return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f;
    });
}

static std::unexpected<InjectionRefusal> refuse(unsigned status, std::string reason) {
    return std::unexpected(InjectionRefusal{status, std::move(reason)});
}

// The value's secret: what stands between the format's ends. Warden filled in its own grant's format; if that
// is not the manifest's, the operator granted something else than was declared.
static std::expected<Injected, InjectionRefusal> take(const Binding& binding, std::string value) {
    size_t mark = binding.format.find("{secret}");
    auto before = std::string_view(binding.format).substr(0, mark);
    auto after = std::string_view(binding.format).substr(mark + 8);
    bool fits = fits_header(value) && value.size() > before.size() + after.size() &&
                value.starts_with(before) && value.ends_with(after);
    SecretText kept(std::move(value));
    if (!fits)
        return refuse(403, cat("the grant of secret ", binding.secret, " for ", binding.host.text(),
                               " is not of the manifest's form; grant it again: nullctl vault grant"));
    auto inner = kept.view().substr(before.size(), kept.view().size() - before.size() - after.size());
    SecretText secret{std::string(inner)};
    return Injected{binding.header, std::move(kept), std::move(secret), binding.placeholder};
}

static std::expected<std::vector<Injected>, InjectionRefusal>
match(const json::object& answer, const std::vector<const Binding*>& bindings) {
    std::vector<Injected> injected;
    const auto* items = answer.if_contains("items");
    for (const auto* binding : bindings) {
        std::optional<std::string> value;
        if (items && items->is_array())
            for (const auto& item : items->get_array()) {
                if (!item.is_object() || text_of(item.get_object(), "secret") != binding->secret ||
                    !http::same_name(text_of(item.get_object(), "header"), binding->header))
                    continue;
                auto encoded = text_of(item.get_object(), "value_base64");
                if (!decode_base64(encoded, value.emplace())) wipe(*value);
                wipe(encoded);
            }
        if (!value)
            return refuse(403, cat("secret ", binding->secret, " is not granted for ", binding->host.text(),
                                   "; grant it: nullctl vault grant"));
        auto taken = take(*binding, *std::move(value));
        if (!taken) return std::unexpected(taken.error());
        injected.push_back(*std::move(taken));
    }
    return injected;
}

// The values in the answer's JSON, overwritten.
static void wipe_values(json::object& answer) {
    auto* items = answer.if_contains("items");
    if (!items || !items->is_array()) return;
    for (auto& item : items->get_array())
        if (item.is_object())
            if (auto* value = item.get_object().if_contains("value_base64"); value && value->is_string())
                OPENSSL_cleanse(value->get_string().data(), value->get_string().size());
}

static std::unexpected<InjectionRefusal> refusal(const Error& why) {
    auto said = std::string_view(why.message);
    if (said.contains("io.nullbox.warden.Locked"))
        return refuse(503, "the vault is locked; an operator opens it: nullctl vault unlock");
    if (said.contains("io.nullbox.warden.NoVault"))
        return refuse(503, "there is no vault yet; an operator makes one: nullctl vault init");
    if (said.contains("io.nullbox.warden.NotGranted") || said.contains("io.nullbox.warden.NoSuchSecret"))
        return refuse(403, cat("the secret is not there or not granted: ", printable(said, 256)));
    return refuse(503, cat("the vault does not answer: ", printable(said, 256)));
}

Task<Injector::Answer> Injector::ask(std::string agent, HostName host, std::vector<const Binding*> bindings) {
    Turn turn(turns_, loop_);
    co_await turn.wait();
    Condition answered(loop_);
    std::optional<Result<varlink::Answer>> answer;
    auto asking = varlink::call_in_background(loop_,
                                              {.socket_path = socket_,
                                               .method = "io.nullbox.warden.Injection",
                                               .parameters = {{"agent", agent}, {"host", host.text()}},
                                               .limit = kWardenTime},
                                              [&](Result<varlink::Answer> given) {
                                                  answer = std::move(given);
                                                  answered.notify();
                                              });
    auto known = known_; // the injector may end first
    if (!answer) co_await answered.wait();
    if (!*answer) co_return refusal(answer->error());
    auto injected = match((*answer)->parameters, bindings);
    wipe_values((*answer)->parameters);
    if (!injected) co_return std::unexpected(injected.error());
    std::erase_if(*known, [](const auto& entry) { return entry.second.expired(); });
    auto& last = (*known)[{std::move(agent), std::move(host)}];
    auto same = last.lock();
    if (same && same->items == *injected) co_return same;
    auto made = std::make_shared<Injection>();
    for (const auto& item : *injected) made->forms.add(item.secret.view(), item.placeholder);
    made->items = *std::move(injected);
    last = made;
    co_return made;
}

} // namespace nullbox::egress

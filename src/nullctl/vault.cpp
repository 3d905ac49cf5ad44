#include <algorithm>
#include <boost/json/object.hpp>
#include <cstring>

#include "base/text.h"
#include "nullctl/commands.h"
#include "nullctl/exit_status.h"
#include "nullctl/fields.h"

namespace nullbox::nullctl {

static void wipe(std::string& text) { ::explicit_bzero(text.data(), text.size()); }

static Result<> with_passphrase(Tool& tool, std::string_view method, std::string_view prompt, bool twice,
                                json::object parameters, std::string_view done) {
    (void)TRY(tool.box()); // before anybody types: is there a box at all
    auto passphrase = TRY(tool.terminal.passphrase(prompt, twice));
    parameters["passphrase"] = passphrase;
    wipe(passphrase);
    tool.terminal.note("The key is made from the passphrase; that takes a moment on purpose.");
    return tool.tell("warden", method, std::move(parameters), done);
}

Result<> vault_init(Tool& tool, const std::string& kdf) {
    json::object parameters;
    if (!kdf.empty()) parameters["kdf"] = kdf;
    return with_passphrase(tool, "Init", "Passphrase of the new vault", true, std::move(parameters),
                           "The vault is there, and open. Without the passphrase nobody can open it again.");
}

Result<> vault_unlock(Tool& tool) {
    return with_passphrase(tool, "Unlock", "Passphrase", false, {}, "The vault is open.");
}

Result<> vault_lock(Tool& tool) { return tool.tell("warden", "Lock", {}, "The vault is locked."); }

Result<> vault_passphrase(Tool& tool) {
    (void)TRY(tool.box());
    auto before = TRY(tool.terminal.passphrase("Passphrase as it is", false));
    auto passphrase = TRY(tool.terminal.passphrase("New passphrase", true));
    json::object parameters{{"old_passphrase", before}, {"passphrase", passphrase}};
    wipe(before);
    wipe(passphrase);
    return tool.tell("warden", "ChangePassphrase", std::move(parameters),
                     "The vault has the new passphrase.");
}

Result<> vault_status(Tool& tool) {
    auto answer = TRY(tool.ask("warden", "State"));
    if (tool.json) return {};
    auto state = text_at(answer.parameters, "state");
    const auto& vault = object_at(answer.parameters, "vault");
    auto problem = text_at(vault, "problem");
    auto more = state == "absent"     ? std::string(": nullctl vault init makes one")
                : state == "locked"   ? std::string(": nullctl vault unlock opens it")
                : state == "unlocked" ? cat(", with ", number_at(vault, "secrets"), " secrets")
                                      : cat(": ", problem);
    tool.terminal.line(cat("The vault is ", state == "unlocked" ? "open" : state, more),
                       tone_of_state(state));
    return {};
}

Result<> vault_uses(Tool& tool, int64_t lines, bool follow) {
    auto* box = TRY(tool.box());
    bool any = false;
    TRY(box->follow(
        "warden", "Uses", {{"lines", lines}, {"follow", follow}}, [&](Answer answer) -> Result<bool> {
            if (tool.json) tool.terminal.json(answer.text);
            if (tool.json) return true;
            for (const auto& item : list_at(answer.parameters, "uses")) {
                if (!item.is_object()) continue;
                const auto& use = item.get_object();
                auto secret = text_at(use, "secret"), host = text_at(use, "host");
                bool given = flag_at(use, "given");
                tool.terminal.line(cat(time_text(number_at(use, "time_ms")), " ", text_at(use, "agent"), " ",
                                       secret.empty() ? "no secret" : secret, host.empty() ? "" : " for ",
                                       host, given ? "" : ": not given"),
                                   given ? Tone::Plain : Tone::Caution);
                any = true;
            }
            return true;
        }));
    if (!tool.json && !any) tool.terminal.line("no secret was used", Tone::Faint);
    return {};
}

Result<> vault_set(Tool& tool, const std::string& name) {
    (void)TRY(tool.box());
    auto value = TRY(tool.terminal.secret_value(cat("Value of ", name)));
    auto encoded = net::base64(value);
    wipe(value);
    json::object parameters{{"name", name}, {"value_base64", encoded}};
    wipe(encoded);
    return tool.tell("warden", "Set", std::move(parameters), cat(name, " is in the vault."));
}

Result<> vault_list(Tool& tool) {
    auto answer = TRY(tool.ask("warden", "List"));
    if (!tool.json)
        show_list(tool.terminal, list_at(answer.parameters, "secrets"),
                  {"name=SECRET", "version", "updated_ms=CHANGED", "granted=GRANTED TO"},
                  "no secrets: nullctl vault set NAME");
    return {};
}

Result<> vault_delete(Tool& tool, const std::string& name, bool yes) {
    if (!yes && !tool.terminal.can_ask())
        return ends_with(Exit::Usage, cat("deleting ", name, " is for ever: say --yes"));
    if (!yes && !tool.terminal.confirm(cat("Delete ", name, " for ever?")))
        return ends_with(Exit::Failed, "nothing was done");
    return tool.tell("warden", "Delete", {{"name", name}}, cat(name, " is gone."));
}

static json::object grant_parameters(const GrantOptions& options) {
    json::object parameters{
        {"secret", options.secret}, {"agent", options.agent}, {"exposed", options.exposed}};
    if (!options.host.empty()) parameters["host"] = options.host;
    if (!options.header.empty()) parameters["header"] = options.header;
    if (!options.format.empty()) parameters["format"] = options.format;
    return parameters;
}

Result<> vault_grant(Tool& tool, const GrantOptions& options) {
    if (options.exposed == !options.host.empty())
        return ends_with(
            Exit::Usage,
            "a secret is granted for a host (--host, --header, --format), or exposed (--exposed)");
    return tool.tell("warden", "Grant", grant_parameters(options),
                     options.exposed
                         ? cat(options.agent, " is told ", options.secret, " itself.")
                         : cat(options.secret, " goes to ", options.host, " for ", options.agent, "."));
}

Result<> vault_revoke(Tool& tool, const std::string& secret, const std::string& agent) {
    return tool.tell("warden", "Revoke", {{"secret", secret}, {"agent", agent}},
                     cat(agent, " has no use of ", secret, " any more."));
}

Result<> check_secrets(Tool& tool, const std::vector<GrantOptions>& wanted) {
    if (wanted.empty()) return {};
    auto* box = TRY(tool.box());
    auto state = text_at(TRY(box->call("warden", "State")).parameters, "state");
    if (state == "absent")
        return ends_with(Exit::Locked,
                         "this agent uses secrets and the box has no vault yet: nullctl vault init");
    if (state != "unlocked")
        return ends_with(Exit::Locked,
                         "this agent uses secrets and the vault is locked: nullctl vault unlock");
    auto listed = TRY(box->call("warden", "List"));
    for (const auto& grant : wanted) {
        const auto& secrets = list_at(listed.parameters, "secrets");
        bool there = std::ranges::any_of(secrets, [&](const auto& item) {
            return item.is_object() && text_at(item.get_object(), "name") == grant.secret;
        });
        if (!there)
            return error(cat("the vault has no secret ", grant.secret,
                             ", which this agent uses: nullctl vault set ", grant.secret));
    }
    return {};
}

static bool same(const GrantOptions& one, const json::object& other) {
    auto format = one.exposed || !one.format.empty() ? one.format : std::string("{secret}");
    return one.secret == text_at(other, "secret") && one.host == text_at(other, "host") &&
           one.header == text_at(other, "header") && format == text_at(other, "format") &&
           one.exposed == flag_at(other, "exposed");
}

// Revoking takes all grants of one secret; what stays of it is granted again. A secret whose grants are right
// is left alone, so that an agent at work does not notice.
Result<> settle_grants(Tool& tool, const std::string& agent, const std::vector<GrantOptions>& wanted) {
    auto* box = TRY(tool.box());
    auto answer = box->call("warden", "Grants", {{"agent", agent}});
    // Without an open vault nothing can be taken back; the manifest's bindings, which egress has, are none
    // then.
    if (!answer.has_value() && wanted.empty()) return {};
    if (!answer.has_value()) return answer.error();
    const auto& granted = list_at(answer->parameters, "grants");
    std::vector<std::string> secrets;
    auto remember = [&](const std::string& name) {
        if (!std::ranges::contains(secrets, name)) secrets.push_back(name);
    };
    for (const auto& item : granted)
        if (item.is_object()) remember(text_at(item.get_object(), "secret"));
    for (const auto& grant : wanted) remember(grant.secret);
    for (const auto& secret : secrets) {
        size_t had = 0, matching = 0, want = 0;
        for (const auto& item : granted) {
            if (!item.is_object() || text_at(item.get_object(), "secret") != secret) continue;
            had++;
            matching +=
                std::ranges::any_of(wanted, [&](const auto& one) { return same(one, item.get_object()); });
        }
        for (const auto& one : wanted) want += one.secret == secret;
        if (had == want && matching == want) continue;
        if (had > 0) (void)TRY(box->call("warden", "Revoke", {{"secret", secret}, {"agent", agent}}));
        for (const auto& one : wanted)
            if (one.secret == secret) (void)TRY(box->call("warden", "Grant", grant_parameters(one)));
    }
    return {};
}

} // namespace nullbox::nullctl

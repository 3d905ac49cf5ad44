#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "base/text.h"
#include "nullctl/commands.h"
#include "nullctl/exit_status.h"
#include "nullctl/fields.h"

namespace nullbox::nullctl {

Result<> keygen(Tool& tool, const std::string& operator_name, const std::string& role) {
    auto settings = TRY(Settings::load(tool.config_folder));
    auto key = TRY(settings.key_or_new());
    tool.terminal.note(
        cat("The key is in ", settings.folder(),
            "/key.pem; whoever has it is you. These lines belong into the box's machine configuration:"));
    tool.terminal.raw(cat("[operators.", operator_name, "]\npublic_key = \"", net::base64(key.public_key()),
                          "\"\nrole = \"", role, "\"\n"));
    return {};
}

Result<> box_add(Tool& tool, const std::string& name, const std::string& address,
                 const std::string& fingerprint) {
    auto settings = TRY(Settings::load(tool.config_folder));
    auto box = parse_address(address);
    if (!box.has_value()) return ends_with(Exit::Usage, box.error().message);
    box->name = name;
    box->fingerprint = fingerprint;
    if (fingerprint.empty()) {
        auto key = TRY(settings.key());
        box->fingerprint = TRY(Box::fingerprint_at(*box, key));
        tool.terminal.note(cat("The box at ", address, " shows ", box->fingerprint), Tone::Plain);
        if (!tool.terminal.can_ask())
            return ends_with(Exit::NotTrusted, cat("nobody is here to compare it with the box's console; if "
                                                   "it is the same: nullctl box add ",
                                                   name, " ", address, " --fingerprint ", box->fingerprint));
        if (!tool.terminal.confirm("Is that what its console shows?"))
            return ends_with(Exit::NotTrusted, "not added");
    } else if (!is_fingerprint(fingerprint)) {
        return ends_with(Exit::Usage,
                         "a fingerprint is \"sha256:\" and 64 hexadecimal digits, as the console shows it");
    }
    TRY(settings.put(*box));
    tool.terminal.note(cat("box ", name, " is known now; nullctl --box ", name, " status"));
    return {};
}

Result<> box_list(Tool& tool) {
    auto settings = TRY(Settings::load(tool.config_folder));
    if (tool.json) {
        json::array boxes;
        for (const auto& box : settings.boxes())
            boxes.push_back(json::object{{"name", box.name},
                                         {"host", box.host},
                                         {"port", box.port},
                                         {"fingerprint", box.fingerprint}});
        tool.terminal.json(json::serialize(json::object{{"boxes", std::move(boxes)}}));
        return {};
    }
    std::vector<std::vector<Cell>> rows;
    for (const auto& box : settings.boxes())
        rows.push_back({box.name, cat(box.host, ":", box.port), box.fingerprint});
    if (rows.empty())
        tool.terminal.line("no box is known yet: nullctl box add NAME ADDRESS", Tone::Faint);
    else
        tool.terminal.table({"NAME", "ADDRESS", "FINGERPRINT"}, rows);
    return {};
}

Result<> box_remove(Tool& tool, const std::string& name) {
    auto settings = TRY(Settings::load(tool.config_folder));
    return settings.remove(name);
}

static void show_services(Terminal& terminal, const json::array& services) {
    std::vector<std::vector<Cell>> rows;
    for (const auto& item : services) {
        if (!item.is_object()) continue;
        const auto& service = item.get_object();
        auto state = text_at(service, "state");
        auto says = text_at(service, "status");
        if (says.empty()) says = text_at(service, "description");
        if (auto failure = text_at(service, "last_error"); state != "running" && !failure.empty())
            says += cat("; ", failure);
        auto restarts = number_at(service, "restarts");
        rows.push_back({text_at(service, "name"), Cell(state, tone_of_state(state)),
                        size_text(number_at(service, "memory_bytes")),
                        Cell(std::to_string(restarts), restarts ? Tone::Caution : Tone::Plain), says});
    }
    terminal.table({"SERVICE", "STATE", "MEMORY", "RESTARTS", "SAYS"}, rows);
}

// Why agents reach nothing, if so.
static void show_network(Terminal& terminal, const json::object& network) {
    auto card = text_at(object_at(network, "uplink"), "name"),
         state = text_at(object_at(network, "uplink"), "state");
    terminal.line(cat("network: ", card.empty() ? "" : card + ", ", state));
    for (const auto& problem : list_at(network, "problems"))
        terminal.line(cat("network problem: ", text_of(problem)), Tone::Danger);
}

Result<> status(Tool& tool) {
    auto* box = TRY(tool.box());
    if (tool.json) {
        TRY(tool.ask("nulld", "Status"));
        return {};
    }
    auto answers = box->call_all({{"nulld", "Status", {{"brief", true}}},
                                  {"warden", "State"},
                                  {"cage", "List"},
                                  {"egress", "Status"}});
    const auto &vault = answers[1], &agents = answers[2], &network = answers[3];
    auto& terminal = tool.terminal;
    if (!answers[0].has_value()) return answers[0].error();
    const auto& machine = answers[0]->parameters;
    terminal.line(cat(text_at(machine, "hostname"), ": NullBox ", text_at(machine, "version"), ", Linux ",
                      text_at(machine, "kernel"), ", up ", span_text(number_at(machine, "uptime_ms")),
                      flag_at(machine, "shutting_down") ? ", shutting down" : ""),
                  Tone::Strong);
    std::string addresses;
    for (const auto& address : list_at(machine, "addresses"))
        addresses += cat(addresses.empty() ? "" : ", ", text_of(address));
    terminal.line(cat("addresses: ", addresses.empty() ? "none" : addresses));
    const auto& data = object_at(machine, "data");
    auto device = text_at(data, "device");
    if (device.empty())
        terminal.line("data: in memory; nothing is kept over a reboot", Tone::Caution);
    else
        terminal.line(cat("data: ", device, ", ", size_text(number_at(data, "free_bytes")), " of ",
                          size_text(number_at(data, "total_bytes")), " free"));
    for (const auto& problem : list_at(machine, "problems"))
        terminal.line(cat("problem: ", text_of(problem)), Tone::Danger);
    if (network.has_value()) show_network(terminal, network->parameters);
    show_services(terminal, list_at(machine, "services"));
    // The services' own; what cannot be asked is above already, as a service that does not run.
    if (vault.has_value()) {
        auto state = text_at(vault->parameters, "state");
        terminal.line(cat("vault: ", state), tone_of_state(state));
    }
    if (agents.has_value())
        show_list(terminal, list_at(agents->parameters, "agents"),
                  {"name=AGENT", "state", "describe=SAYS", "health"},
                  "no agents: nullctl agent deploy FOLDER");
    return {};
}

Result<> logs(Tool& tool, const std::string& service, int64_t lines, bool follow) {
    auto* box = TRY(tool.box());
    json::object parameters{{"lines", lines}, {"follow", follow}};
    if (!service.empty()) parameters["service"] = service;
    return box->follow("nulld", "Logs", std::move(parameters), [&](Answer answer) -> Result<bool> {
        if (tool.json) {
            tool.terminal.json(answer.text);
            return true;
        }
        for (const auto& item : list_at(answer.parameters, "lines")) {
            if (!item.is_object()) continue;
            const auto& line = item.get_object();
            auto text = text_at(line, "text");
            auto tone = text.starts_with("error")     ? Tone::Danger
                        : text.starts_with("warning") ? Tone::Caution
                                                      : Tone::Plain;
            tool.terminal.line(
                cat(time_text(number_at(line, "time_ms")), " ", text_at(line, "source"), ": ", text), tone);
        }
        return true;
    });
}

Result<> reboot(Tool& tool, bool power_off, const std::string& reason, bool yes) {
    if (!yes && tool.terminal.can_ask() &&
        !tool.terminal.confirm(power_off ? "Turn the box off?"
                                         : "Reboot the box? Its agents stop, and the vault is locked then."))
        return ends_with(Exit::Failed, "nothing was done");
    json::object parameters;
    if (!reason.empty()) parameters["reason"] = reason;
    return tool.tell("nulld", power_off ? "PowerOff" : "Reboot", std::move(parameters),
                     power_off ? "The box turns off." : "The box reboots.");
}

} // namespace nullbox::nullctl

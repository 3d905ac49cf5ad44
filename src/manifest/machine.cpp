#include "manifest/machine.h"

#include <algorithm>
#include <array>

#include "base/text.h"
#include "manifest/forms.h"
#include "manifest/section.h"

namespace nullbox::manifest {

constexpr size_t kMostDocumentBytes = size_t{64} << 10;
constexpr size_t kMostHostNameBytes = 64; // HOST_NAME_MAX
constexpr size_t kMostServers = 8;
constexpr size_t kMostOperators = 64;
constexpr size_t kMostOperatorNameBytes = 32;
constexpr size_t kMostKeyBytes = 1024;
constexpr size_t kMostHosts = 64;
constexpr size_t kMostCertificateBytes = size_t{32} << 10;
constexpr std::string_view kOption = "nullbox.";

static std::string wrong_server(std::string_view text) {
    bool numeric = text.contains(':') || wrong_address(text).empty();
    return numeric ? wrong_address(text) : wrong_host_name(text);
}

static std::string wrong_of_family(std::string_view text, bool v6) {
    if (auto wrong = wrong_address(text); !wrong.empty()) return wrong;
    if (is_ipv6(text) == v6) return {};
    return v6 ? "must be an IPv6 address; an IPv4 one is written without the 6 in the key's name"
              : "must be an IPv4 address; an IPv6 one belongs in address6 and gateway6";
}

static std::string wrong_interface_address(std::string_view text, bool v6) {
    size_t slash = text.find('/');
    auto wrong = wrong_of_family(text.substr(0, slash), v6);
    if (wrong.empty() && slash != std::string_view::npos &&
        parse_number(text.substr(slash + 1), 1, v6 ? 128 : 32).has_value())
        return {};
    return cat("must be an ", v6 ? "IPv6" : "IPv4", " address with the length of its network, such as \"",
               v6 ? "2001:db8::7/64" : "192.0.2.7/24", "\", is \"", printable(text, 80), "\"");
}

constexpr TextRule kHostName{
    .example = "\"box1\"", .most_bytes = kMostHostNameBytes, .wrong = wrong_host_name};
constexpr ListRule kTimeServers{.example = "[\"time.example.org\"]",
                                .most_items = kMostServers,
                                .most_bytes = 253,
                                .wrong = wrong_server};
constexpr ListRule kDnsServers{
    .example = "[\"192.0.2.53\"]", .most_items = kMostServers, .most_bytes = 64, .wrong = wrong_address};

namespace {
// The keys of one family in [network], and what they set.
struct Family {
    std::string_view address, gateway, automatic; // names of keys
    TextRule address_form, gateway_form;
};
} // namespace

constexpr Family kIpv4{
    .address = "address",
    .gateway = "gateway",
    .automatic = "dhcp",
    .address_form = {.example = "\"192.0.2.7/24\"",
                     .most_bytes = 64,
                     .wrong = [](std::string_view text) { return wrong_interface_address(text, false); }},
    .gateway_form = {.example = "\"192.0.2.1\"", .most_bytes = 64, .wrong = [](std::string_view text) {
                         return wrong_of_family(text, false);
                     }}};
constexpr Family kIpv6{
    .address = "address6",
    .gateway = "gateway6",
    .automatic = "router_advertisements",
    .address_form = {.example = "\"2001:db8::7/64\"",
                     .most_bytes = 64,
                     .wrong = [](std::string_view text) { return wrong_interface_address(text, true); }},
    .gateway_form = {.example = "\"2001:db8::1\"", .most_bytes = 64, .wrong = [](std::string_view text) {
                         return wrong_of_family(text, true);
                     }}};

// An address switches DHCP (router advertisements) off, dhcp = true takes an address of an earlier document
// back.
static void read_family(Section& section, const Family& family, bool& is_automatic,
                        std::optional<std::string>& its_address, std::optional<std::string>& its_gateway) {
    std::string address, gateway;
    bool automatic = is_automatic;
    bool has_address = section.text(family.address, family.address_form, address);
    bool has_gateway = section.text(family.gateway, family.gateway_form, gateway);
    bool has_automatic = section.boolean(family.automatic, automatic);
    if (has_automatic && automatic && (section.has(family.address) || section.has(family.gateway)))
        return section.wrong(family.automatic, cat("must not be true beside ", family.address, " or ",
                                                   family.gateway, "; keep one of them"));
    if (has_automatic && automatic) {
        its_address.reset();
        its_gateway.reset();
    }
    if (has_gateway && !has_address && !its_address) {
        if (section.has(family.address)) return; // which is wrong, and said to be
        return section.wrong(family.gateway, cat("needs an address beside it, such as ", family.address,
                                                 " = ", family.address_form.example));
    }
    if (has_address) its_address = address;
    if (has_gateway) its_gateway = gateway;
    if (has_automatic || has_address) is_automatic = has_automatic ? automatic : false;
}

static void read_network(Section& section, MachineConfig& config) {
    section.number("vlan", {.least = 0, .most = 4094}, config.vlan);
    read_family(section, kIpv4, config.dhcp, config.address, config.gateway);
    read_family(section, kIpv6, config.router_advertisements, config.address6, config.gateway6);
}

// One that is wrong keeps what an earlier document said of that name.
static void read_hosts(Report& report, const Value& table, const std::string& path, MachineConfig& config) {
    Section section(report, table, path);
    for (const Entry& entry : table.entries) {
        std::string address;
        auto wrong = wrong_host_name(entry.key);
        if (wrong.empty() && config.hosts.size() >= kMostHosts && !config.hosts.contains(entry.key))
            wrong = cat("is one too many; at most ", kMostHosts, " are allowed");
        if (!wrong.empty())
            report.add(entry.at, section.path_of(entry.key), wrong);
        else if (section.text(entry.key,
                              {.example = "\"192.0.2.7\"", .most_bytes = 64, .wrong = wrong_address},
                              address))
            config.hosts[entry.key] = address;
    }
}

// Whether each is a certificate is for the one to say who reads them with a library (egress).
static std::string wrong_certificates(std::string_view text) {
    constexpr std::string_view kBegin = "-----BEGIN CERTIFICATE-----", kEnd = "-----END CERTIFICATE-----";
    if (text.contains(kBegin) && text.contains(kEnd)) return {};
    return cat("must be one or more certificates in PEM, each from \"", kBegin, "\" to \"", kEnd, "\"");
}

static std::string wrong_public_key(std::string_view text) {
    // A SubjectPublicKeyInfo is a DER sequence, whose first byte makes base64 begin with 'M'.
    auto digits = text.substr(0, text.find('='));
    bool right = text.starts_with('M') && text.size() % 4 == 0 && text.size() - digits.size() <= 2 &&
                 text.substr(digits.size()).find_first_not_of('=') == std::string_view::npos;
    for (char c : digits)
        right &= (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' ||
                 c == '/';
    if (right) return {};
    return cat(
        "must be a public key as \"nullctl keygen\" prints it (base64 of its SubjectPublicKeyInfo), is \"",
        printable(text, 40), "\"");
}

static constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kRoles = {{
    {"admin", "admin"},
    {"operator", "operator"},
    {"reader", "reader"},
}};

// One that is wrong, or lacks a key no earlier document gave, changes nothing: nobody comes in by mistake.
static void read_operator(Report& report, const Entry& entry, const std::string& path,
                          MachineConfig& config) {
    auto known = std::ranges::find(config.operators, entry.key, &Operator::name);
    bool is_new = known == config.operators.end();
    Operator one = is_new ? Operator{.name = entry.key} : *known;
    size_t before = report.count();
    Section section(report, entry.value, path);
    section.text("public_key",
                 {.example = "\"MFkwEwYHKoZIzj0CAQYI...\"",
                  .most_bytes = kMostKeyBytes,
                  .wrong = wrong_public_key,
                  .required = is_new},
                 one.public_key);
    std::string_view role = one.role;
    section.choice<std::string_view>("role", kRoles, role, is_new);
    one.role = std::string(role);
    section.finish();
    if (report.count() != before) return;
    if (!is_new)
        *known = std::move(one);
    else if (config.operators.size() < kMostOperators)
        config.operators.insert(std::ranges::upper_bound(config.operators, one.name, {}, &Operator::name),
                                one);
    else
        report.add(entry.at, path, cat("is one too many; at most ", kMostOperators, " are allowed"));
}

static void read_operators(Report& report, const Value& table, const std::string& path,
                           MachineConfig& config) {
    for (const Entry& entry : table.entries) {
        auto wrong = wrong_name(entry.key);
        if (entry.key.size() > kMostOperatorNameBytes)
            wrong = cat("must be 1 to ", kMostOperatorNameBytes, " bytes long, is ", entry.key.size());
        if (wrong.empty() && entry.value.kind != Value::Kind::Table)
            wrong = cat("must be a table, is ", kind_name(entry.value.kind), "; write [operators.NAME]");
        auto entry_path = cat(path, ".", entry.key);
        if (wrong.empty())
            read_operator(report, entry, entry_path, config);
        else
            report.add(entry.at, entry_path, wrong);
    }
}

static void append(std::vector<Diagnostic>& to, Report report) {
    auto from = std::move(report).take();
    std::ranges::move(from, std::back_inserter(to));
}

// path: what stands before the keys in messages.
static void read_machine(Report& report, const Value& root, std::string_view path, MachineConfig& config) {
    Section top(report, root, std::string(path));
    std::string hostname;
    if (top.text("hostname", kHostName, hostname)) config.hostname = hostname;
    top.list("time_servers", kTimeServers, config.time_servers);
    top.list("dns_servers", kDnsServers, config.dns_servers);
    top.text("certificate_authorities",
             {.example = {}, .most_bytes = kMostCertificateBytes, .wrong = wrong_certificates},
             config.certificate_authorities);
    if (const Value* hosts = top.table("hosts", false, "[hosts]"))
        read_hosts(report, *hosts, top.path_of("hosts"), config);
    if (const Value* network = top.table("network", false, "[network]")) {
        Section section(report, *network, top.path_of("network"));
        read_network(section, config);
        section.finish();
    }
    if (const Value* operators = top.table("operators", false, "[operators.NAME]"))
        read_operators(report, *operators, top.path_of("operators"), config);
    if (const Value* gate = top.table("gate", false, "[gate]")) {
        Section section(report, *gate, top.path_of("gate"));
        section.number("port", {.least = 1, .most = 65'535}, config.gate_port);
        section.finish();
    }
    static constexpr std::array<Section::Home, 10> kHomes = {{
        {"vlan", "[network]"},
        {"address", "[network]"},
        {"gateway", "[network]"},
        {"dhcp", "[network]"},
        {"address6", "[network]"},
        {"gateway6", "[network]"},
        {"router_advertisements", "[network]"},
        {"port", "[gate]"},
        {"public_key", "[operators.NAME]"},
        {"role", "[operators.NAME]"},
    }};
    top.finish(kHomes);
}

void apply_machine_document(MachineConfig& config, std::string_view text, std::string_view file_name) {
    Report report(file_name);
    if (auto root = parse_document(text, kMostDocumentBytes, report)) read_machine(report, *root, "", config);
    append(config.diagnostics, std::move(report));
}

// --- The kernel command line

// The kernel's own rule: blanks part the words, except between double quotes; quotes may stand around the
// value or around the whole word, and are not part of it.
static std::vector<std::string> words_of(std::string_view line) {
    std::vector<std::string> words;
    std::string word;
    bool quoted = false, any = false;
    for (char c : line) {
        if (c == '"') {
            quoted = !quoted;
            any = true;
        } else if (!quoted && (c == ' ' || c == '\t' || c == '\n')) {
            if (any) words.push_back(std::move(word));
            word.clear();
            any = false;
        } else {
            word += c;
            any = true;
        }
    }
    if (any) words.push_back(std::move(word));
    return words;
}

struct Option {
    std::string_view key;
    Value::Kind kind;
};
static constexpr std::array<Option, 13> kOptions = {{
    {"hostname", Value::Kind::Text},
    {"time_servers", Value::Kind::List},
    {"dns_servers", Value::Kind::List},
    {"network.vlan", Value::Kind::Integer},
    {"network.address", Value::Kind::Text},
    {"network.gateway", Value::Kind::Text},
    {"network.dhcp", Value::Kind::Boolean},
    {"network.address6", Value::Kind::Text},
    {"network.gateway6", Value::Kind::Text},
    {"network.router_advertisements", Value::Kind::Boolean},
    {"gate.port", Value::Kind::Integer},
    {"operators.NAME.public_key", Value::Kind::Text},
    {"operators.NAME.role", Value::Kind::Text},
}};

static const Option* find_option(std::string_view key) {
    auto fits = [key](const Option& option) {
        auto wanted = split(option.key, '.'), given = split(key, '.');
        return std::ranges::equal(wanted, given, [](auto want, auto part) {
            return want == part || (want == "NAME" && !part.empty());
        });
    };
    auto found = std::ranges::find_if(kOptions, fits);
    return found == kOptions.end() ? nullptr : found;
}

// The value that the text would be in a document; a boolean or a number that is none stays a text, so that
// the usual message follows.
static Value value_of(std::string_view text, Value::Kind kind) {
    Value value{.kind = kind};
    if (kind == Value::Kind::List) {
        if (text.empty()) return value; // none, also if an earlier document had some
        for (auto part : split(text, ','))
            value.items.push_back({.kind = Value::Kind::Text, .text = std::string(part)});
    } else if (kind == Value::Kind::Boolean && (text == "true" || text == "false")) {
        value.boolean = text == "true";
    } else if (auto number = parse_number(text, INT64_MIN, INT64_MAX);
               kind == Value::Kind::Integer && number) {
        value.number = *number;
    } else {
        value.kind = Value::Kind::Text;
        value.text = std::string(text);
    }
    return value;
}

// Later wins, as everywhere on the command line. A key with dots stands in tables in tables.
static void put(Value& table, std::string_view key, Value value) {
    size_t dot = key.find('.');
    auto found = std::ranges::find(table.entries, key.substr(0, dot), &Entry::key);
    if (found == table.entries.end())
        found = table.entries.insert(found, {.key = std::string(key.substr(0, dot)), .at = {}, .value = {}});
    if (dot == std::string_view::npos)
        found->value = std::move(value);
    else
        put(found->value, key.substr(dot + 1), std::move(value));
}

static void report_unknown(Report& report, std::string_view key) {
    std::vector<std::string_view> known;
    std::string all;
    for (const auto& option : kOptions) {
        known.push_back(option.key);
        all += cat(all.empty() ? "" : ", ", option.key);
    }
    auto near = closest(key, known);
    report.add({}, cat(kOption, key),
               cat("is no option; ",
                   near.empty() ? cat("known are ", all) : cat("did you mean \"", kOption, near, "\"?")));
}

void apply_kernel_command_line(MachineConfig& config, std::string_view command_line,
                               std::string_view source) {
    Report report(source);
    if (command_line.size() > kMostDocumentBytes)
        report.add({}, "", cat("is ", command_line.size(), " bytes long; its end is ignored"));
    Value root;
    for (std::string_view word : words_of(command_line.substr(0, kMostDocumentBytes))) {
        if (!word.starts_with(kOption)) continue;
        word.remove_prefix(kOption.size());
        size_t equals = word.find('=');
        auto key = word.substr(0, equals);
        auto* found = find_option(key);
        if (!found) {
            report_unknown(report, key);
        } else if (equals == std::string_view::npos) {
            report.add({}, cat(kOption, key), cat("needs a value: ", kOption, key, "=VALUE"));
        } else {
            put(root, key, value_of(word.substr(equals + 1), found->kind));
        }
    }
    read_machine(report, root, "nullbox", config);
    append(config.diagnostics, std::move(report));
}

// --- Writing

// A basic string (toml.io 1.0.0, "String"), in which a line's end is written as one too.
static std::string in_quotes(std::string_view text) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string out = "\"";
    for (char c : text) {
        auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7f) {
            (out += "\\u00") += {kDigits[byte >> 4], kDigits[byte & 15]};
        } else {
            if (c == '"' || c == '\\') out += '\\';
            out += c;
        }
    }
    return out + "\"";
}

static std::string list_of(const std::vector<std::string>& texts) {
    std::string out;
    for (const auto& text : texts) out += cat(out.empty() ? "" : ", ", in_quotes(text));
    return cat("[", out, "]");
}

std::string to_toml(const MachineConfig& config) {
    std::string out;
    if (config.hostname) out += cat("hostname = ", in_quotes(*config.hostname), "\n");
    out += cat("time_servers = ", list_of(config.time_servers), "\n");
    out += cat("dns_servers = ", list_of(config.dns_servers), "\n");
    if (!config.certificate_authorities.empty())
        out += cat("certificate_authorities = ", in_quotes(config.certificate_authorities), "\n");
    out += "\n[network]\n";
    if (config.vlan) out += cat("vlan = ", config.vlan, "\n");
    if (config.address)
        out += cat("address = ", in_quotes(*config.address), "\n");
    else
        out += cat("dhcp = ", config.dhcp, "\n");
    if (config.gateway) out += cat("gateway = ", in_quotes(*config.gateway), "\n");
    if (config.address6)
        out += cat("address6 = ", in_quotes(*config.address6), "\n");
    else
        out += cat("router_advertisements = ", config.router_advertisements, "\n");
    if (config.gateway6) out += cat("gateway6 = ", in_quotes(*config.gateway6), "\n");
    out += cat("\n[gate]\nport = ", config.gate_port, "\n");
    if (!config.hosts.empty()) out += "\n[hosts]\n";
    for (const auto& [name, address] : config.hosts)
        out += cat(in_quotes(name), " = ", in_quotes(address), "\n");
    for (const auto& one : config.operators)
        out += cat("\n[operators.", one.name, "]\npublic_key = ", in_quotes(one.public_key),
                   "\nrole = ", in_quotes(one.role), "\n");
    return out;
}

} // namespace nullbox::manifest

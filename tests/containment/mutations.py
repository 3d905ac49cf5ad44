"""The controls, each with a switch that turns it off. They exist in a copy of the sources only: Mutated() below is put
into the copy by the patches here, asks the environment, and is in no program that ships. A patch whose text is not in
the sources any more is an error.
"""
from dataclasses import dataclass
from pathlib import Path

HEADER = """\
// Only in the copy of the sources that the mutation run builds.
#pragma once
#include "base/text.h"
#include <cstdlib>
#include <string_view>
inline bool mutated(std::string_view name) {
    const char* given = std::getenv("NULLBOX_MUTATIONS");
    std::string_view rest = given ? given : "";
    while (!rest.empty()) {
        auto end = rest.find(',');
        if (rest.substr(0, end) == name) return true;
        rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    }
    return false;
}
"""

EGRESS = "src/egress"
# switch -> file, text, text with the switch
PATCHES: dict[str, list[tuple[str, str, str]]] = {
    # --- names and ports
    "names": [("policy.cpp", "    return {.reason = cat(\"no entry of the manifest names \", name.text()),",
               "    if (mutated(\"names\")) return {.allowed = true, .rule = \"any\"};\n"
               "    return {.reason = cat(\"no entry of the manifest names \", name.text()),")],
    "wildcard-dot": [("policy.cpp", "(dot = suffix.find('.')) != suffix.npos;", "(dot = mutated(\"wildcard-dot\") ? (suffix.size() > 1 ? 0 : suffix.npos) : suffix.find('.')) != suffix.npos;")],
    "port": [("policy.cpp", "    return port ? *port == wanted :", "    if (mutated(\"port\")) return true;\n    return port ? *port == wanted :")],
    # --- TLS
    "sni": [("splice.cpp", "    if (!name || *name != host)\n        return Refusal{.reason = cat(\"the TLS hello names",
             "    if ((!name || *name != host) && !mutated(\"sni\"))\n        return Refusal{.reason = cat(\"the TLS hello names")],
    "sni-missing": [("splice.cpp", "    if (!hello->server_name)\n", "    if (!hello->server_name && mutated(\"sni-missing\")) return std::nullopt;\n"
                     "    if (!hello->server_name)\n")],
    "ech": [("splice.cpp", "    if (hello->encrypted_hello)\n", "    if (hello->encrypted_hello && !mutated(\"ech\"))\n")],
    "tls-only": [("splice.cpp", "    if (!hello)\n        return Refusal{.reason = cat(hello.error().message",
                  "    if (!hello && mutated(\"tls-only\")) return std::nullopt;\n"
                  "    if (!hello)\n        return Refusal{.reason = cat(hello.error().message"),
                 ("splice.cpp", "    size_t size = (*hello)->bytes;", "    size_t size = hello && *hello ? (*hello)->bytes : bytes.size();")],
    # --- HTTP
    "host": [("request_check.cpp", "    if (!names_host(named, host, port, tls))\n",
              "    if (!names_host(named, host, port, tls) && !mutated(\"host\"))\n")],
    "host-once": [("request_check.cpp", "    if (head.fields.count(\"Host\") != 1)", "    if (head.fields.count(\"Host\") < 1 || (head.fields.count(\"Host\") != 1 && !mutated(\"host-once\")))")],
    "host-rewritten": [("request_check.cpp", "\"Upgrade\", \"HTTP2-Settings\", \"Expect\", \"Host\", \"Alt-Used\"})\n        head.fields.remove(name);",
                        "\"Upgrade\", \"HTTP2-Settings\", \"Expect\", \"Host\", \"Alt-Used\"})\n        if (!(mutated(\"host-rewritten\") && std::string_view(name) == \"Host\")) head.fields.remove(name);"),
                       ("request_check.cpp", "    head.fields.all().insert(\n", "    if (!mutated(\"host-rewritten\")) head.fields.all().insert(\n")],
    "absolute": [("request_check.cpp", "    if (!names_host(rest.substr(0, path), host, port, tls))", "    if (!names_host(rest.substr(0, path), host, port, tls) && !mutated(\"absolute\"))")],
    "connect": [("request_check.cpp", "    if (head.method == \"CONNECT\")", "    if (head.method == \"CONNECT\" && !mutated(\"connect\"))")],
    "target": [("request_check.cpp", "    size_t scheme = head.target.find(\"://\");", "    if (mutated(\"target\")) return head.target;\n    size_t scheme = head.target.find(\"://\");")],
    "trace": [("request_check.cpp", "    if (head.method == \"TRACE\")", "    if (head.method == \"TRACE\" && !mutated(\"trace\"))")],
    "each-request": [("http_relay.cpp", "    } while (co_await serve_one());\n", "    } while (co_await serve_one() && !mutated(\"each-request\"));\n"
                      "    if (mutated(\"each-request\") && co_await session_.reach_server(key_, true))\n"
                      "        co_await session_.relay(client_, server().stream());\n")],
    "one-length": [("http_head.cpp", "    if (lengths + codings > 1)\n", "    if (lengths + codings > 1 && !mutated(\"one-length\"))\n")],
    "length-rewritten": [("request_check.cpp", "    head.fields.remove(\"Content-Length\");\n    head.fields.remove(\"Transfer-Encoding\");",
                          "    if (mutated(\"length-rewritten\")) framing.kind = Framing::Kind::None;\n"
                          "    else head.fields.remove(\"Content-Length\"), head.fields.remove(\"Transfer-Encoding\");")],
    "bare-lf": [("http_head.cpp", "        if (head[i] == '\\n' && (i == 0 || head[i - 1] != '\\r'))", "        if (head[i] == '\\n' && (i == 0 || head[i - 1] != '\\r') && !mutated(\"bare-lf\"))")],
    "header-controls": [("http_head.cpp", "        if ((static_cast<unsigned char>(c) < 0x20 && c != '\\t') || c == 0x7f)", "        if (((static_cast<unsigned char>(c) < 0x20 && c != '\\t') || c == 0x7f) && !mutated(\"header-controls\"))")],
    # --- the address that is dialled
    "dialled": [("session.cpp", "        if (!check.allowed) {\n            auto host", "        if (!check.allowed && !mutated(\"dialled\")) {\n            auto host")],
    "classes": [("address_class.cpp", "    for (const auto& range : kRanges4)\n",
                 "    for (const auto& range : kRanges4)\n        if (!mutated(cat(\"class-\", Ip4{range.address}.text(), \"/\", unsigned{range.length})))\n")],
    # --- the firewall
    "agent-chain": [("net/rules.cpp", "    rule(Rule(chain, \"all else\").count(counters.dropped).drop());",
                     "    if (mutated(\"agent-chain\")) rule(Rule(chain, \"all else\").count(counters.dropped).accept());\n"
                     "    else rule(Rule(chain, \"all else\").count(counters.dropped).drop());")],
    "input": [("net/rules.cpp", "    rule(Rule(\"from_agents\", \"what no agent's rules let in\").count().drop());",
               "    if (mutated(\"input\")) rule(Rule(\"from_agents\", \"all\").count().accept());\n"
               "    else rule(Rule(\"from_agents\", \"what no agent's rules let in\").count().drop());")],
    "forward": [("net/rules.cpp", "    rule(Rule(\"forward\", \"nothing passes through\").count().drop());",
                 "    if (mutated(\"forward\")) rule(Rule(\"forward\", \"all\").count().accept());\n"
                 "    else rule(Rule(\"forward\", \"nothing passes through\").count().drop());")],
    "forwarding-off": [("net/network.cpp", "        if (trim(*value) != \"0\")\n", "        if (trim(*value) != \"0\" && !mutated(\"forwarding-off\"))\n"),
                       ("net/links.cpp", "{IPV4_DEVCONF_FORWARDING, 0}", "{IPV4_DEVCONF_FORWARDING, mutated(\"forwarding-off\") ? 1u : 0u}")],
    "own-source": [("net/rules.cpp", "    rule(Rule(chain, \"from its own address\")\n             .ip_source(link.guest)\n             .verdict(Verdict::Jump, allowed_chain(link.slot)));",
                    "    if (mutated(\"own-source\")) rule(Rule(chain, \"from anybody\").ipv4().verdict(Verdict::Jump, allowed_chain(link.slot)));\n"
                    "    else rule(Rule(chain, \"from its own address\").ip_source(link.guest).verdict(Verdict::Jump, allowed_chain(link.slot)));")],
    "reverse-path": [("net/links.cpp", "{IPV4_DEVCONF_RP_FILTER, 1}", "{IPV4_DEVCONF_RP_FILTER, mutated(\"reverse-path\") ? 0u : 1u}")],
    "own-names": [("net/rules.cpp", "                      .ip_destination_between(link.first_synthetic, link.last_synthetic)",
                   "                      .ip_destination_between(mutated(\"own-names\") ? kAgentNetwork.address : link.first_synthetic, mutated(\"own-names\") ? Ip4{kAgentNetwork.address.value + 0x1ffff} : link.last_synthetic)")],
    "questions-only": [("net/rules.cpp", "    rule(Rule(chain, \"questions\")\n             .ip_destination(link.gateway)\n             .udp_destination_port(kDns)",
                        "    if (mutated(\"questions-only\")) rule(Rule(chain, \"any port\").ip_destination(link.gateway).protocol(IPPROTO_UDP).set_mark(kMarkDns).accept());\n"
                        "    rule(Rule(chain, \"questions\")\n             .ip_destination(link.gateway)\n             .udp_destination_port(kDns)")],
    # --- rules for requests, and budgets
    "request-rules": [("request_rules.cpp", "    if (!hold(host, port)) {", "    if (!hold(host, port) || mutated(\"request-rules\")) {")],
    "rules-terminate": [("policy.cpp", "    else if (request_rules_.hold(*name, destination.port))",
                         "    else if (request_rules_.hold(*name, destination.port) && !mutated(\"rules-terminate\"))")],
    "rule-methods": [("request_rules.cpp", "    return methods.empty() ||", "    return mutated(\"rule-methods\") || methods.empty() ||")],
    "replacing": [("request_rules.cpp", "if (auto name = replacing_header(request.fields); !name.empty())",
                   "if (auto name = replacing_header(request.fields); !name.empty() && !mutated(\"replacing\"))")],
    "path-dots": [("../manifest/request_path.cpp", "    if (segment.empty()) return false;", "    if (segment.empty() || mutated(\"path-dots\")) return false;")],
    "path-encoded": [("../manifest/request_path.cpp", "    if (control || std::string_view(", "    if (!mutated(\"path-encoded\") && (control || std::string_view("),
                     ("../manifest/request_path.cpp", ".contains(c))\n        return error(cat(\"the path holds \", text", ".contains(c)))\n        return error(cat(\"the path holds \", text")],
    "path-utf8": [("../manifest/request_path.cpp", "    if (printable(reading.decoded,", "    if (!mutated(\"path-utf8\") && printable(reading.decoded,")],
    "path-parameter": [("../manifest/request_path.cpp", "        } else if (c == ';') {", "        } else if (c == ';' && mutated(\"path-parameter\")) {\n            out.normal += c;\n            out.decoded += c;\n        } else if (c == ';') {")],
    "budget": [("budget.cpp", "    bool allowed = amount <= left;", "    bool allowed = amount <= left || mutated(\"budget\");")],
    # --- secrets
    "binding-host": [("policy.cpp", "        if (binding.host == host) found.push_back(&binding);", "        if (binding.host == host || (mutated(\"binding-host\") && host.text() == \"api.lab.test\")) found.push_back(&binding);")],
    "no-clear": [("policy.cpp", "    else if (!bindings(*name).empty())\n", "    else if (!bindings(*name).empty() && !(mutated(\"no-clear\") && destination.port == kHttpPort))\n")],
    "scrubber": [("injector.cpp", "    for (const auto& item : *injected) made->forms.add(item.secret.view(), item.placeholder);",
                  "    if (!mutated(\"scrubber\"))\n        for (const auto& item : *injected) made->forms.add(item.secret.view(), item.placeholder);")],
    "uncompressed": [("http_relay.cpp", "    for (auto name : {\"Accept-Encoding\", \"Range\", \"If-Range\", \"Sec-WebSocket-Extensions\"})\n        fields.remove(name);\n    fields.add(\"Accept-Encoding\", \"identity\");",
                      "    if (!mutated(\"uncompressed\")) {\n    for (auto name : {\"Accept-Encoding\", \"Range\", \"If-Range\", \"Sec-WebSocket-Extensions\"})\n        fields.remove(name);\n    fields.add(\"Accept-Encoding\", \"identity\");\n    }")],
    "coding": [("http_relay.cpp", "    if (injects() && has_body && coding &&", "    if (!mutated(\"coding\") && injects() && has_body && coding &&")],
    "own-key": [("http_relay.cpp", "    for (const auto& item : injection_->items) fields.remove(item.header);", "    if (!mutated(\"own-key\"))\n        for (const auto& item : injection_->items) fields.remove(item.header);")],
}


def patched(sources: Path) -> dict[str, str]:
    """File, seen from src/egress, to its text with all switches in it."""
    texts: dict[str, str] = {}
    for switch, patches in PATCHES.items():
        for name, old, new in patches:
            text = texts.get(name) or (sources / name).read_text()
            if text.count(old) != 1:
                raise LookupError(f"mutation {switch}: its text is {text.count(old)} times in {name}: {old[:100]!r}; "
                                  "bring it up to date")
            texts[name] = text.replace(old, new)
    return {name: f'#line 1 "{name}"\n#include "egress/mutations.h"\n{text}' for name, text in texts.items()}


@dataclass(frozen=True)
class Mutation:
    """vectors: of these one must get out when the control is off. behind: other controls that would stop them too, and
    are off in both runs: with them off and this one on, nothing may get out, so this one holds by itself."""
    name: str
    what: str
    vectors: tuple[str, ...]
    behind: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()         # while it is off
    sysctls_behind: tuple[tuple[str, str], ...] = ()  # in both runs
    granted: bool = False                             # warden would give the secret to another host as well
    switches: tuple[str, ...] = ()                    # if not the name itself


NO_REVERSE_PATH = (("net/ipv4/conf/all/rp_filter", "0"), ("net/ipv4/conf/default/rp_filter", "0"))
FORWARDING = (("net/ipv4/ip_forward", "1"),)


def address(kind: str, prefix: str, vector: str, behind: tuple[str, ...] = ()) -> Mutation:
    return Mutation(f"class-{prefix}", f"the dialled address: {kind}", (vector,), behind)


MUTATIONS = [
    Mutation("names", "the resolver answers listed names only", ("dns-labels", "dns-neighbour")),
    Mutation("wildcard-dot", "a wildcard covers names below its suffix only", ("dns-glued",)),
    Mutation("port", "the port is one that the manifest names", ("port-other",)),
    Mutation("sni", "the TLS hello's name is the connection's", ("tls-sni-neighbour", "tls-sni-evil")),
    Mutation("sni-missing", "a TLS hello has a name", ("tls-sni-none",)),
    Mutation("ech", "no Encrypted Client Hello", ("tls-ech",)),
    Mutation("tls-only", "only TLS goes to its port", ("tls-http-on-443", "tls-ssh-on-443")),
    Mutation("host", "Host is the connection's host", ("http-host-neighbour-clear", "http-host-evil-keyed"), ("host-rewritten",)),
    Mutation("host-rewritten", "Host is written anew", ("http-host-neighbour-clear",), ("host",)),
    Mutation("host-once", "one Host", ("http-host-twice-clear",), ("host-rewritten",)),
    Mutation("absolute", "an absolute URI is the connection's host's", ("http-absolute-other-clear",)),
    Mutation("connect", "no CONNECT", ("http-connect-self-clear",), ("target",)),
    Mutation("target", "a target is a path or a URL", ("http-target-double-clear", "http-absolute-https-clear")),
    Mutation("trace", "no TRACE", ("http-trace-clear", "http-trace-keyed")),
    Mutation("each-request", "every request of a connection is checked", ("http-kept-clear",)),
    Mutation("one-length", "a body has one length", ("http-smuggle-te-cl-clear", "http-smuggle-cl-cl-clear"), ("length-rewritten",)),
    Mutation("bare-lf", "lines end with CR and LF", ("http-host-hidden-clear",), ("header-controls",)),
    Mutation("header-controls", "no control characters in a header", ("http-host-hidden-clear",), ("bare-lf",)),
    Mutation("dialled", "the dialled address is checked", ("address-private", "address-metadata", "rebind")),
    address("private, 10.0.0.0/8", "10.0.0.0/8", "address-private"),
    address("private, 172.16.0.0/12", "172.16.0.0/12", "address-private-172"),
    address("private, 192.168.0.0/16", "192.168.0.0/16", "address-private-192"),
    address("link-local", "169.254.0.0/16", "address-link-local"),
    address("metadata, besides being link-local", "169.254.169.254/32", "address-metadata", ("class-169.254.0.0/16",)),
    address("metadata in public space", "168.63.129.16/32", "address-metadata-azure"),
    address("a carrier's own network", "100.64.0.0/10", "address-carrier"),
    address("reserved", "240.0.0.0/4", "address-reserved"),
    Mutation("agent-chain", "firewall: an agent's own rules drop all else", ("host-gate", "host-udp", "dns-udp-peer"), ("input",)),
    Mutation("input", "firewall: input takes only what an agent's rules have marked", ("host-gate", "host-udp"), ("agent-chain",)),
    Mutation("questions-only", "firewall: UDP to the gateway is DNS", ("host-udp",)),
    Mutation("forward", "firewall: nothing is forwarded", ("ip4-443", "dns-udp-elsewhere", "peer-ssh"),
             ("agent-chain", "forwarding-off"), sysctls_behind=FORWARDING),
    Mutation("forwarding-off", "the kernel forwards nothing", ("ip4-443", "dns-udp-elsewhere"), ("agent-chain", "forward"), FORWARDING),
    Mutation("own-source", "firewall: an agent sends from its own address", ("spoof-peer",), ("reverse-path",),
             sysctls_behind=NO_REVERSE_PATH),
    Mutation("own-names", "firewall: another agent's names are nobody", ("synthetic-peer",)),
    Mutation("request-rules", "each request is held to the rules of its host", ("rule-path-tls", "rule-path-clear", "rule-kept-tls")),
    Mutation("rules-terminate", "a host with rules is not passed on unopened", ("rule-path-tls",)),
    Mutation("rule-methods", "a rule's methods", ("rule-method-tls", "rule-method-case-clear")),
    Mutation("replacing", "no header makes it another request", ("rule-override-x-http-method-override-tls", "rule-rewrite-x-original-url-clear")),
    Mutation("path-dots", "paths: no segments of dots", ("rule-dots-tls", "rule-dots-encoded-clear")),
    Mutation("path-encoded", "paths: nothing encoded that servers read in two ways", ("rule-slash-encoded-tls", "rule-backslash-encoded-tls")),
    Mutation("path-utf8", "paths: no overlong UTF-8", ("rule-dots-overlong-tls",)),
    Mutation("path-parameter", "paths: no parameters", ("rule-dots-parameter-tls",)),
    Mutation("budget", "the budget holds", ("budget-connections", "budget-requests")),
    Mutation("binding-host", "a secret goes to its host only", ("secret-elsewhere",), granted=True),
    Mutation("no-clear", "a secret never goes in clear", ("secret-clear",)),
    Mutation("own-key", "the agent's own key is replaced", ("secret-own-key",)),
    Mutation("scrubber", "secrets are taken out of answers", ("secret-body", "secret-header", "secret-pieces")),
    Mutation("uncompressed", "servers are asked not to compress what holds a secret", ("secret-gzip",), ("coding",)),
    Mutation("coding", "a compressed answer to a secret's request is refused", ("secret-gzip",), ("uncompressed",)),
]

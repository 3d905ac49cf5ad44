#include "egress/interface.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "base/text.h"
#include "egress/asked.h"
#include "egress/egress.h"
#include "egress/explain.h"
#include "egress/io.nullbox.egress.varlink.h"
#include "egress/record_json.h"
#include "manifest/forms.h"
#include "varlink/answer.h"
#include "varlink/lines.h"
#include "varlink/parameters.h"

namespace nullbox::egress {

namespace json = boost::json;
using varlink::Call;
using varlink::Parameters;
using varlink::text_or_null;

constexpr uid_t kCage = 103, kGate = 105;
constexpr int64_t kDefaultLines = 100;
constexpr size_t kBatch = 200; // records in one answer of a stream

static void update(Egress& egress, Call call) {
    auto asked = read_asked(call);
    if (!asked) return;
    if (!egress.agents().find(asked->agent))
        return call.error("io.nullbox.egress.NoSuchAgent", cat("agent ", asked->agent, " is not attached"));
    auto ended = egress.update(asked->agent, asked->source);
    if (!ended)
        return call.error("io.nullbox.egress.CannotAttach", cat("agent ", asked->agent, " keeps its rules: ",
                                                                printable(ended.error().message, 1024)));
    call.reply({{"ended", *ended}});
}

static void attach(Egress& egress, Call call) {
    auto asked = read_asked(call);
    if (!asked) return;
    const auto& name = asked->agent;
    auto attached = egress.attach(name, asked->source);
    if (!attached)
        return call.error("io.nullbox.egress.CannotAttach", cat("agent ", name, " gets no network: ",
                                                                printable(attached.error().message, 1024)));
    const auto& link = attached->link;
    std::vector<Fd> fds;
    fds.push_back(std::move(attached->tap));
    call.reply({{"address", link.guest.text()},
                {"prefix", kGuestPrefix},
                {"gateway", link.gateway.text()},
                {"dns", link.gateway.text()},
                {"mac", link.guest_mac.text()},
                {"mtu", kTapMtu},
                {"ca_pem", attached->ca_pem}},
               std::move(fds));
}

static void detach(Egress& egress, Call call) {
    Parameters parameters(call.parameters());
    auto name = read_agent_name(parameters);
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    egress.detach(name);
    call.reply({});
}

namespace {
struct RecordStream {
    Call call;
    uint64_t follower = 0;
};
} // namespace

static void send_records(Egress& egress, Call call, bool only_denied) {
    Parameters parameters(call.parameters());
    auto agent = parameters.optional_text("agent", {.most_bytes = 64});
    auto lines = parameters.number_or("lines", kDefaultLines, {.least = 0, .most = varlink::kMostLines});
    bool follow = parameters.boolean_or("follow", false);
    if (follow && !call.wants_more()) parameters.wrong("follow", "needs a call with \"more\"");
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    auto wanted = [agent, only_denied](const Record& record) {
        return (!agent || record.agent == *agent) && (!only_denied || record.verdict == Verdict::Denied);
    };
    bool more = call.wants_more();
    auto stream = std::make_shared<RecordStream>(RecordStream{.call = std::move(call)});
    json::array batch;
    for (const auto& record : egress.records().last(static_cast<size_t>(lines), wanted)) {
        batch.push_back(to_json(record));
        if (more && batch.size() == kBatch)
            stream->call.reply_continues({{"records", std::exchange(batch, {})}});
    }
    if (!follow) return stream->call.reply({{"records", std::move(batch)}});
    stream->call.reply_continues({{"records", std::move(batch)}});
    stream->follower = egress.records().follow([stream, &egress, wanted](const Record& record) {
        if (!stream->call.connected()) return egress.records().unfollow(stream->follower);
        if (wanted(record)) stream->call.reply_continues({{"records", json::array{to_json(record)}}});
    });
}

static void denials(Egress& egress, Call call) { send_records(egress, std::move(call), true); }
static void records(Egress& egress, Call call) { send_records(egress, std::move(call), false); }

static void answer_explain(Egress& egress, Call call) {
    Parameters parameters(call.parameters());
    auto name = read_agent_name(parameters);
    auto text = parameters.text("destination", {.most_bytes = 4096});
    auto method = parameters.text_or("method", "GET", {.most_bytes = 32});
    auto question = Question::parse(text);
    if (!text.empty() && !question) parameters.wrong("destination", question.error().message);
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    auto agent = egress.agents().find(name);
    if (!agent)
        return call.error(
            "io.nullbox.egress.NoSuchAgent",
            cat("agent ", name, " is not attached: it does not run, or its manifest names no network"));
    call.reply(explain(*agent->policy, *question, method));
}

static json::array budget_status(const Agent& agent) {
    json::array out;
    for (auto resource : {Resource::Bytes, Resource::Connections, Resource::Requests})
        if (auto limit = agent.policy->budget().limit(resource))
            out.push_back(json::object{{"resource", name_of(resource)},
                                       {"used", agent.ledger->used(resource, Clock::now())},
                                       {"limit", limit}});
    return out;
}

static json::object agent_status(const Egress& egress, const Agent& agent) {
    return {{"name", agent.name},
            {"address", agent.link.guest.text()},
            {"rules", agent.policy->rules()},
            {"names", agent.names.size()},
            {"open_connections", agent.open_connections},
            {"lookups", agent.counters.lookups},
            {"lookups_denied", agent.counters.lookups_denied},
            {"connections", agent.counters.connections},
            {"connections_denied", agent.counters.connections_denied},
            {"dropped_packets", egress.dropped_packets(agent)},
            {"bytes_up", agent.counters.bytes_up},
            {"bytes_down", agent.counters.bytes_down},
            {"budget", budget_status(agent)}};
}

static json::array texts(const std::vector<IpAddress>& addresses) {
    json::array out;
    for (const auto& address : addresses) out.push_back(json::string(address.text()));
    return out;
}

static void status(Egress& egress, Call call) {
    Parameters parameters(call.parameters());
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    auto network = egress.network_status();
    const auto& time = egress.time_status();
    json::array agents, problems;
    for (const auto& agent : egress.agents().all()) agents.push_back(agent_status(egress, *agent));
    for (const auto& problem : egress.problems()) problems.push_back(json::string(printable(problem)));
    call.reply({{"uplink", json::object{{"name", network.uplink.name},
                                        {"mac", network.uplink.mac.text()},
                                        {"carrier", network.uplink.carrier},
                                        {"state", network.uplink.state}}},
                {"addresses", texts(network.addresses)},
                {"gateway", network.gateway ? json::value(network.gateway->text()) : json::value()},
                {"gateway6", network.gateway6 ? json::value(network.gateway6->text()) : json::value()},
                {"dns_servers", texts(network.dns_servers)},
                {"rules_loaded", network.rules_loaded},
                {"problems", std::move(problems)},
                {"time", json::object{{"synchronised", time.synchronised},
                                      {"server", text_or_null(time.server)},
                                      {"problem", text_or_null(time.problem)}}},
                {"open_connections", egress.connections()},
                {"agents", std::move(agents)}});
}

varlink::InterfaceTable interface_table(Egress& egress, const std::vector<uid_t>& also_allowed) {
    auto method = [&](const char* name, std::vector<uid_t> allowed, void (*handle)(Egress&, Call)) {
        allowed.insert(allowed.end(), also_allowed.begin(), also_allowed.end());
        return varlink::Method{.name = name,
                               .allowed_uids = std::move(allowed),
                               .handle = [&egress, handle](Call call) { handle(egress, std::move(call)); }};
    };
    // Who may call what.
    return {.name = "io.nullbox.egress",
            .description = std::string(kInterfaceDescription),
            .methods = {method("Attach", {kCage}, attach), method("Update", {kCage}, update),
                        method("Detach", {kCage}, detach), method("Denials", {kGate}, denials),
                        method("Records", {kGate}, records), method("Explain", {kGate}, answer_explain),
                        method("Status", {kCage, kGate}, status)}};
}

Result<std::unique_ptr<varlink::Server>> serve_interface(Loop& loop, Egress& egress,
                                                         const std::string& socket_path,
                                                         const std::vector<uid_t>& also_allowed) {
    return varlink::Server::listen(loop, socket_path, {.product = "NullBox egress", .version = "0.1.0"},
                                   interface_table(egress, also_allowed));
}

} // namespace nullbox::egress

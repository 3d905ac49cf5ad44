#include "ctxgraph/interface.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>

#include "base/text.h"
#include "ctxgraph/io.nullbox.ctxgraph.varlink.h"
#include "ctxgraph/wire.h"
#include "varlink/parameters.h"

namespace nullbox::ctxgraph {

namespace json = boost::json;
using varlink::Call;
using varlink::Parameters;

constexpr uid_t kCage = 103, kGate = 105;
constexpr size_t kMaxNames = 32;
constexpr size_t kMaxWatches = 32;
// A message nests 16 deep at most, and an entry stands three deep in its answer.
constexpr size_t kMaxNestingShown = 10;

namespace {
struct Watching;
struct Parts {
    Memory& memory;
    GuestServer& guests;
    std::vector<std::weak_ptr<Watching>> watches = {};
};
using Shared = std::shared_ptr<Parts>;
} // namespace

static const Access& everything() {
    static const Access kAll{.everything = true};
    return kAll;
}

static void refuse(Call& call, const Error& failure) {
    struct Name {
        int code;
        const char* name;
    };
    static constexpr Name kNames[] = {{ENOENT, "NotFound"}, {E2BIG, "TooLarge"}, {EDQUOT, "QuotaUsedUp"},
                                      {ENOSPC, "DiskFull"}, {ETIME, "TooSlow"},  {EAGAIN, "CannotServe"}};
    std::string_view name = "Failed";
    for (const auto& each : kNames)
        if (each.code == failure.code) name = each.name;
    auto message = printable(failure.message, 1024);
    if (failure.code == EINVAL) { // the memory's message begins with the name of what is wrong
        auto name_end = std::min(message.find(' '), message.size());
        return call.invalid_parameter(message.substr(0, name_end), trim(message.substr(name_end)));
    }
    call.error(cat("io.nullbox.ctxgraph.", name), message);
}

static json::object object_of(const Entry& entry) {
    auto value = parse_json(entry.value);
    bool as_text = !value.has_value() || nesting_of(*value) > kMaxNestingShown;
    return {{"id", entry.id},
            {"namespace", entry.space},
            {"key", entry.key},
            {"kind", kind_name(entry.kind)},
            {"value", as_text ? json::value(entry.value) : json::parse(entry.value)},
            {"value_is_text", as_text},
            {"parents", json::array(entry.parents.begin(), entry.parents.end())},
            {"author", entry.author},
            {"time_ms", entry.time_ms},
            {"position", entry.position}};
}

static json::array list_of(const std::vector<Entry>& entries) {
    json::array list;
    for (const auto& entry : entries) list.push_back(object_of(entry));
    return list;
}

static void reply(Call& call, const Result<Page>& page) {
    if (!page.has_value()) return refuse(call, page.error());
    call.reply({{"entries", list_of(page->entries)},
                {"next", page->next.empty() ? json::value(nullptr) : json::value(page->next)}});
}

static bool answered_as_wrong(Call& call, Parameters& parameters) {
    auto wrong = parameters.finish();
    if (wrong) call.invalid_parameter(wrong->parameter, wrong->message);
    return wrong.has_value();
}

static Paging paging_of(Parameters& parameters) {
    return {.cursor = parameters.text_or("cursor", "", {.most_bytes = kMaxKeyBytes}),
            .limit = static_cast<size_t>(
                parameters.number_or("limit", 20, {.least = 1, .most = int64_t{kMaxPageEntries}}))};
}

static void serve(const Shared& parts, Call call) {
    Parameters parameters(call.parameters());
    auto agent = parameters.text("agent", {.most_bytes = 64});
    varlink::ListBounds names{.most_items = kMaxNames, .item = {.most_bytes = kMaxNamespaceBytes}};
    auto read = parameters.texts("read", names), write = parameters.texts("write", names);
    Access access{.author = cat("agent:", agent)};
    access.max_entries = static_cast<uint64_t>(parameters.number("max_entries"));
    access.max_bytes = static_cast<uint64_t>(parameters.number("max_bytes"));
    // An agent's name has the form of a namespace's.
    if (auto wrong = wrong_namespace(agent); !wrong.empty()) parameters.wrong("agent", wrong);
    for (const auto& name : read)
        if (auto wrong = wrong_namespace(name); !wrong.empty()) parameters.wrong("read", cat("each ", wrong));
    for (const auto& name : write)
        if (auto wrong = wrong_namespace(name); !wrong.empty())
            parameters.wrong("write", cat("each ", wrong));
    if (answered_as_wrong(call, parameters)) return;
    auto fds = call.take_fds();
    if (fds.size() != 1)
        return call.error("io.nullbox.ctxgraph.CannotServe",
                          cat("one descriptor must come with the call, not ", fds.size()));
    access.read.insert(read.begin(), read.end());
    access.write.insert(write.begin(), write.end());
    auto served = parts->guests.serve(std::move(fds.front()), std::move(access));
    if (served.has_value()) return call.reply({});
    call.error("io.nullbox.ctxgraph.CannotServe", printable(served.error().message, 300));
}

static void put(const Shared& parts, Call call) {
    auto given = call.parameters(); // without the value, which may be anything
    const auto* found = given.if_contains("value");
    auto value = found ? *found : json::value(nullptr);
    given.erase("value");
    Parameters parameters(given);
    auto name = parameters.text("operator", {.most_bytes = 64});
    PutRequest request{.space = parameters.text("namespace", {.most_bytes = kMaxNamespaceBytes}),
                       .key = parameters.text("key", {.most_bytes = kMaxKeyBytes})};
    request.if_head = parameters.optional_text("if_head", {.least_bytes = 0, .most_bytes = 64});
    request.sources =
        parameters.texts_or_none("sources", {.most_items = kMaxSources, .item = {.most_bytes = 64}});
    bool remove = parameters.boolean_or("delete", false);
    if (!remove && !found) parameters.wrong("value", "is missing (or delete: true)");
    if (remove && found) parameters.wrong("value", "must not stand beside delete");
    if (remove && !request.sources.empty()) parameters.wrong("sources", "must not stand beside delete");
    if (answered_as_wrong(call, parameters)) return;
    Access access{.author = cat("operator:", name), .everything = true};
    auto kept = std::make_shared<Call>(std::move(call));
    auto done = [kept](const Result<Written>& result) {
        if (!result.has_value()) return refuse(*kept, result.error());
        if (result->outcome == Written::Outcome::Conflict)
            return kept->error(
                "io.nullbox.ctxgraph.Conflict",
                {{"message", kConflictMessage},
                 {"head", result->id.empty() ? json::value(nullptr) : json::value(result->id)}});
        kept->reply({{"id", result->id},
                     {"created", result->outcome == Written::Outcome::Created},
                     {"position", result->position}});
    };
    if (remove) return parts->memory.remove(access, request.space, request.key, request.if_head, done);
    auto text = canonical_value(std::string_view(json::serialize(value)));
    if (!text.has_value()) return done(text.error());
    request.value = *std::move(text);
    parts->memory.put(access, std::move(request), done);
}

static void get(const Shared& parts, Call call) {
    Parameters parameters(call.parameters());
    auto space = parameters.optional_text("namespace", {.most_bytes = kMaxNamespaceBytes});
    auto key = parameters.optional_text("key", {.most_bytes = kMaxKeyBytes});
    auto id = parameters.optional_text("id", {.most_bytes = 64});
    if (id ? space || key : !space || !key) parameters.wrong("id", "or namespace and key must be given");
    if (answered_as_wrong(call, parameters)) return;
    auto found = id ? parts->memory.entry(everything(), *id) : parts->memory.get(everything(), *space, *key);
    if (!found.has_value()) return refuse(call, found.error());
    json::array links;
    for (const auto& link : found->links)
        links.push_back({{"relation", link.relation.empty() ? "source" : link.relation},
                         {"outgoing", link.outgoing},
                         {"other", link.other},
                         {"namespace", link.other_space},
                         {"link", link.entry}});
    call.reply({{"entry", object_of(found->entry)}, {"links", std::move(links)}});
}

static void query(const Shared& parts, Call call) {
    Parameters parameters(call.parameters());
    auto space = parameters.text("namespace", {.most_bytes = kMaxNamespaceBytes});
    auto prefix = parameters.text_or("prefix", "", {.least_bytes = 0, .most_bytes = kMaxKeyBytes});
    auto paging = paging_of(parameters);
    if (answered_as_wrong(call, parameters)) return;
    reply(call, parts->memory.list(everything(), space, prefix, paging));
}

static void history(const Shared& parts, Call call) {
    Parameters parameters(call.parameters());
    auto space = parameters.text("namespace", {.most_bytes = kMaxNamespaceBytes});
    auto key = parameters.text("key", {.most_bytes = kMaxKeyBytes});
    auto paging = paging_of(parameters);
    if (answered_as_wrong(call, parameters)) return;
    reply(call, parts->memory.history(everything(), space, key, paging));
}

static void search(const Shared& parts, Call call) {
    Parameters parameters(call.parameters());
    auto words = parameters.text("query", {.most_bytes = 512});
    auto space = parameters.optional_text("namespace", {.most_bytes = kMaxNamespaceBytes});
    auto paging = paging_of(parameters);
    if (answered_as_wrong(call, parameters)) return;
    reply(call, parts->memory.search(everything(), words, space, paging));
}

namespace {
// One operator's watch. It lives in the memory's list of watchers until its peer is found gone.
struct Watching {
    Memory& memory;
    Call call;
    std::string space, prefix;
    uint64_t position = 0, watcher = 0;
};
} // namespace

// False: it is over.
static bool send_news(Watching& watching) {
    for (bool more = true; more;) {
        if (!watching.call.connected()) return false;
        auto feed = watching.memory.feed(everything(), watching.space, watching.prefix, watching.position);
        if (!feed.has_value()) {
            refuse(watching.call, feed.error());
            return false;
        }
        watching.position = feed->position;
        more = feed->more;
        if (!feed->entries.empty())
            watching.call.reply_continues(
                {{"entries", list_of(feed->entries)}, {"position", feed->position}});
    }
    return true;
}

// How many are left.
static size_t drop_ended(Parts& parts) {
    for (const auto& each : parts.watches)
        if (auto one = each.lock(); one && !one->call.connected()) parts.memory.unwatch(one->watcher);
    std::erase_if(parts.watches, [](const auto& each) { return each.expired(); });
    return parts.watches.size();
}

static void watch(const Shared& parts, Call call) {
    Parameters parameters(call.parameters());
    auto space = parameters.text("namespace", {.most_bytes = kMaxNamespaceBytes});
    auto prefix = parameters.text_or("prefix", "", {.least_bytes = 0, .most_bytes = kMaxKeyBytes});
    auto after = parameters.number_or("after", -1);
    if (answered_as_wrong(call, parameters)) return;
    auto begin = after < 0 ? std::nullopt : std::optional(static_cast<uint64_t>(after));
    auto feed = parts->memory.feed(everything(), space, prefix, begin);
    if (!feed.has_value()) return refuse(call, feed.error());
    json::object first{{"entries", list_of(feed->entries)}, {"position", feed->position}};
    if (!call.wants_more()) return call.reply(std::move(first));
    if (drop_ended(*parts) >= kMaxWatches)
        return call.error("io.nullbox.ctxgraph.CannotServe",
                          cat("there are ", kMaxWatches, " watches already"));
    call.reply_continues(std::move(first));
    auto watching = std::make_shared<Watching>(parts->memory, std::move(call), std::move(space),
                                               std::move(prefix), feed->position);
    if (feed->more && !send_news(*watching)) return;
    watching->watcher = parts->memory.watch(watching->space, [watching] {
        if (!send_news(*watching)) watching->memory.unwatch(watching->watcher);
    });
    parts->watches.push_back(watching);
}

static void namespaces(const Shared& parts, Call call) {
    Parameters parameters(call.parameters());
    if (answered_as_wrong(call, parameters)) return;
    auto views = parts->memory.namespaces(everything());
    if (!views.has_value()) return refuse(call, views.error());
    json::array list;
    for (const auto& view : *views)
        list.push_back({{"name", view.name}, {"keys", view.facts->keys}, {"entries", view.facts->entries}});
    call.reply({{"namespaces", std::move(list)}});
}

static void status(const Shared& parts, Call call) {
    Parameters parameters(call.parameters());
    if (answered_as_wrong(call, parameters)) return;
    auto totals = parts->memory.totals();
    if (!totals.has_value()) return refuse(call, totals.error());
    call.reply({{"entries", totals->entries},
                {"bytes", totals->bytes},
                {"namespaces", totals->namespaces},
                {"connections", parts->guests.connections()},
                {"watches", parts->memory.watchers()}});
}

varlink::InterfaceTable interface_table(Memory& memory, GuestServer& guests,
                                        const InterfaceOptions& options) {
    auto parts = std::make_shared<Parts>(Parts{memory, guests});
    auto method = [&](const char* name, uid_t caller, void (*handle)(const Shared&, Call)) {
        varlink::Method made{.name = name, .allowed_uids = options.also_allowed};
        made.allowed_uids.push_back(caller);
        made.handle = [parts, handle](Call call) { handle(parts, std::move(call)); };
        return made;
    };
    return {.name = "io.nullbox.ctxgraph",
            .description = std::string(kInterfaceDescription),
            .methods = {method("Serve", kCage, serve), method("Put", kGate, put), method("Get", kGate, get),
                        method("Query", kGate, query), method("History", kGate, history),
                        method("Search", kGate, search), method("Watch", kGate, watch),
                        method("Namespaces", kGate, namespaces), method("Status", kGate, status)}};
}

Result<std::unique_ptr<varlink::Server>> serve_interface(Loop& loop, Memory& memory, GuestServer& guests,
                                                         const InterfaceOptions& options) {
    return varlink::Server::listen(loop, options.socket_path,
                                   {.product = "NullBox ctxgraph", .version = "0.1.0"},
                                   interface_table(memory, guests, options));
}

} // namespace nullbox::ctxgraph

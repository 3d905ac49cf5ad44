// The JSON API: /v1/... See docs/ctxgraph.md.
#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "ctxgraph/wire.h"

namespace nullbox::ctxgraph {
namespace {

Error wrong(std::string message) { return {.code = EINVAL, .message = std::move(message)}; }

struct Call {
    Memory& memory;
    const Access& access;
    const Request& request;
    Target target;
    Respond respond;

    std::string_view part(size_t index) const { return target.path[index]; }
};

Result<> check_query(const Target& target, std::initializer_list<std::string_view> known) {
    for (size_t i = 0; i < target.query.size(); i++) {
        const auto& name = target.query[i].first;
        if (!std::ranges::contains(known, name))
            return wrong(cat("no parameter \"", printable(name, 64), "\" here"));
        bool twice = std::ranges::count(target.query, name, [](const auto& pair) { return pair.first; }) > 1;
        if (twice && name != "source") return wrong(cat("the parameter \"", name, "\" is there twice"));
    }
    return {};
}

Result<Paging> paging_of(const Target& target) {
    Paging paging{.cursor = std::string(target.find("cursor").value_or(""))};
    if (auto text = target.find("limit")) {
        auto limit = parse_number(*text, 1, kMaxPageEntries);
        if (!limit) return wrong(cat("limit must be 1 to ", kMaxPageEntries));
        paging.limit = static_cast<size_t>(*limit);
    }
    return paging;
}

// If-Match: "ID", If-None-Match: * (RFC 9110 section 13.1). Other forms would be ignored elsewhere; here they
// are refused, because whoever sends them relies on them.
Result<std::optional<std::string>> condition_of(const Request& request) {
    auto match = request.header("If-Match"), none = request.header("If-None-Match");
    if (request.count("If-Match") + request.count("If-None-Match") > 1) return wrong("at most one condition");
    if (none && *none != "*") return wrong("If-None-Match must be *");
    if (none) return std::optional<std::string>("");
    if (!match) return std::optional<std::string>();
    bool right = match->size() == 66 && match->starts_with('"') && match->ends_with('"');
    if (!right) return wrong("If-Match must be one entry's id in quotes");
    return std::optional(std::string(match->substr(1, 64)));
}

template <typename T>
Response answer_of(const Result<T>& result) {
    if (!result.has_value()) return refusal(result.error());
    return {.body = to_json(*result)};
}

Writes::Done respond_to_write(Respond respond) {
    return [respond = std::move(respond)](const Result<Written>& result) {
        if (!result.has_value()) return respond(refusal(result.error()));
        if (result->outcome == Written::Outcome::Conflict) {
            auto response = refusal(409, "conflict", kConflictMessage);
            if (!result->id.empty()) {
                response.body.resize(response.body.size() - 2);
                response.body += cat(",\"head\":\"", result->id, "\"}}");
            }
            return respond(std::move(response));
        }
        respond(
            {.status = result->outcome == Written::Outcome::Created ? 201u : 200u, .body = to_json(*result)});
    };
}

void put(Call& call) {
    auto request = [&]() -> Result<PutRequest> {
        TRY(check_query(call.target, {"source"}));
        PutRequest made{.space = std::string(call.part(2)), .key = std::string(call.part(3))};
        made.if_head = TRY(condition_of(call.request));
        for (const auto& [name, value] : call.target.query) made.sources.push_back(value);
        // Before the body is looked at: what somebody may not write need not be right.
        TRY(check_write(call.access, made.space));
        made.value = TRY(canonical_value(std::string_view(call.request.body)));
        return made;
    }();
    if (!request.has_value()) return call.respond(refusal(request.error()));
    call.memory.put(call.access, *std::move(request), respond_to_write(std::move(call.respond)));
}

void remove(Call& call) {
    auto condition = condition_of(call.request);
    auto known = check_query(call.target, {});
    if (!condition.has_value() || !known.has_value())
        return call.respond(refusal(condition.has_value() ? known.error() : condition.error()));
    call.memory.remove(call.access, call.target.path[2], call.target.path[3], *condition,
                       respond_to_write(std::move(call.respond)));
}

void link(Call& call) {
    auto request = [&]() -> Result<LinkRequest> {
        TRY(check_query(call.target, {}));
        auto body = parse_json(call.request.body);
        if (!body.has_value()) return wrong(body.error().message);
        LinkRequest made;
        for (const auto& [name, value] : body->members) {
            auto* text = name == "from"       ? &made.from
                         : name == "to"       ? &made.to
                         : name == "relation" ? &made.relation
                                              : nullptr;
            if (!text || !value.is(Json::Kind::Text))
                return wrong(
                    cat("\"", printable(name, 64), "\" ", text ? "must be a text" : "is nothing here"));
            *text = value.text;
        }
        return made; // what is missing is refused as wrong
    }();
    if (!request.has_value()) return call.respond(refusal(request.error()));
    call.memory.link(call.access, *request, respond_to_write(std::move(call.respond)));
}

Response get(Call& call) {
    auto known = check_query(call.target, {});
    if (!known.has_value()) return refusal(known.error());
    auto found = call.memory.get(call.access, call.part(2), call.part(3));
    auto response = answer_of(found);
    if (found.has_value()) response.headers.emplace_back("ETag", cat("\"", found->entry.id, "\""));
    return response;
}

Response entry(Call& call) {
    auto known = check_query(call.target, {});
    if (!known.has_value()) return refusal(known.error());
    return answer_of(call.memory.entry(call.access, call.part(2)));
}

Response list(Call& call) {
    return answer_of([&]() -> Result<Page> {
        TRY(check_query(call.target, {"prefix", "limit", "cursor"}));
        return call.memory.list(call.access, call.part(2), call.target.find("prefix").value_or(""),
                                TRY(paging_of(call.target)));
    }());
}

Response history(Call& call) {
    return answer_of([&]() -> Result<Page> {
        TRY(check_query(call.target, {"limit", "cursor"}));
        return call.memory.history(call.access, call.part(2), call.part(3), TRY(paging_of(call.target)));
    }());
}

Response search(Call& call) {
    return answer_of([&]() -> Result<Page> {
        TRY(check_query(call.target, {"q", "namespace", "limit", "cursor"}));
        return call.memory.search(call.access, call.target.find("q").value_or(""),
                                  call.target.find("namespace"), TRY(paging_of(call.target)));
    }());
}

Response namespaces(Call& call) {
    auto known = check_query(call.target, {});
    if (!known.has_value()) return refusal(known.error());
    return answer_of(call.memory.namespaces(call.access));
}

Response watch(Call& call) {
    auto request = [&]() -> Result<WatchRequest> {
        TRY(check_query(call.target, {"namespace", "prefix", "after"}));
        WatchRequest made{.space = std::string(call.target.find("namespace").value_or("")),
                          .prefix = std::string(call.target.find("prefix").value_or(""))};
        if (auto text = call.target.find("after")) {
            auto position = parse_number(*text, 0, INT64_MAX);
            if (!position) return wrong("after must be a position: a whole number");
            made.after = static_cast<uint64_t>(*position);
        }
        TRY(call.memory.feed(call.access, made.space, made.prefix, INT64_MAX)); // may they?
        return made;
    }();
    if (!request.has_value()) return refusal(request.error());
    return {.watch = *std::move(request)};
}

using Simple = Response (*)(Call&);
using Writing = void (*)(Call&);

struct Route {
    std::string_view method;
    std::vector<std::string_view> path; // "" is any
    Simple simple = nullptr;
    Writing writing = nullptr;
};

const std::vector<Route>& routes() {
    static const std::vector<Route> kRoutes = {
        {"GET", {"v1", "namespaces"}, namespaces},
        {"GET", {"v1", "search"}, search},
        {"GET", {"v1", "watch"}, watch},
        {"POST", {"v1", "link"}, nullptr, link},
        {"GET", {"v1", "entry", ""}, entry},
        {"GET", {"v1", "memory", ""}, list},
        {"GET", {"v1", "memory", "", ""}, get},
        {"PUT", {"v1", "memory", "", ""}, nullptr, put},
        {"DELETE", {"v1", "memory", "", ""}, nullptr, remove},
        {"GET", {"v1", "memory", "", "", "history"}, history},
    };
    return kRoutes;
}

bool fits(const Route& route, const Target& target) {
    return std::ranges::equal(route.path, target.path, [](std::string_view wanted, std::string_view part) {
        return wanted.empty() || wanted == part;
    });
}

} // namespace

void answer_rest(Memory& memory, const Access& access, const Request& request, Respond respond) {
    auto target = parse_target(request.target);
    if (!target.has_value()) return respond(refusal(400, "invalid", target.error().message));
    std::string others;
    for (const auto& route : routes()) {
        if (!fits(route, *target)) continue;
        if (route.method != request.method) {
            others += cat(others.empty() ? "" : ", ", route.method);
            continue;
        }
        Call call{memory, access, request, *std::move(target), std::move(respond)};
        if (route.writing) return route.writing(call);
        return call.respond(route.simple(call));
    }
    if (others.empty())
        return respond(
            refusal(404, "not_found",
                    "nothing here; there are /v1/namespaces, /v1/memory/NAMESPACE/KEY, /v1/search, "
                    "/v1/watch, /v1/entry/ID, /v1/link and /mcp"));
    auto response = refusal(405, "wrong_method", cat("this takes ", others));
    response.headers.emplace_back("Allow", others);
    respond(std::move(response));
}

} // namespace nullbox::ctxgraph

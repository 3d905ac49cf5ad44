#include "ctxgraph/mcp_tools.h"

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "ctxgraph/wire.h"

namespace nullbox::ctxgraph {
namespace {

constexpr std::string_view kTools = R"([
{"name":"memory_put","title":"Write to memory",
"description":"Writes a JSON value under a key of a namespace. Earlier values stay in the key's history. Give if_head to write only if nobody else has written since you read.",
"inputSchema":{"type":"object","properties":{
"namespace":{"type":"string","description":"One of memory_namespaces that you may write to"},
"key":{"type":"string","description":"1 to 256 bytes; a/b/c is a good way to group"},
"value":{"description":"Any JSON, at most 256 KiB, nested at most 16 deep"},
"if_head":{"type":"string","description":"The id of the entry you read; an empty text: only if the key has no value yet"},
"sources":{"type":"array","items":{"type":"string"},"maxItems":16,"description":"Ids of entries this one was made from"}},
"required":["namespace","key","value"],"additionalProperties":false},
"annotations":{"readOnlyHint":false,"destructiveHint":false,"idempotentHint":true,"openWorldHint":false}},
{"name":"memory_get","title":"Read from memory",
"description":"The current entry of a key, or any entry by its id, with its links.",
"inputSchema":{"type":"object","properties":{
"namespace":{"type":"string"},"key":{"type":"string"},
"id":{"type":"string","description":"Instead of namespace and key"}},"additionalProperties":false},
"annotations":{"readOnlyHint":true,"openWorldHint":false}},
{"name":"memory_search","title":"Search memory",
"description":"Current entries that have all the words, newest first. Words, \"exact phrases\" and prefix* may be given.",
"inputSchema":{"type":"object","properties":{
"query":{"type":"string"},
"namespace":{"type":"string","description":"Only there; otherwise all that you may read"},
"limit":{"type":"integer","minimum":1,"maximum":100,"default":20},
"cursor":{"type":"string","description":"The next of the page before"}},
"required":["query"],"additionalProperties":false},
"annotations":{"readOnlyHint":true,"openWorldHint":false}},
{"name":"memory_history","title":"History of a key",
"description":"All that was ever written under a key, newest first, by whom and when.",
"inputSchema":{"type":"object","properties":{
"namespace":{"type":"string"},"key":{"type":"string"},
"limit":{"type":"integer","minimum":1,"maximum":100,"default":20},
"cursor":{"type":"string","description":"The next of the page before"}},
"required":["namespace","key"],"additionalProperties":false},
"annotations":{"readOnlyHint":true,"openWorldHint":false}},
{"name":"memory_link","title":"Link two entries",
"description":"Says that one entry stands in a relation to another, such as supports, contradicts or answers. memory_get shows the links of an entry.",
"inputSchema":{"type":"object","properties":{
"from":{"type":"string","description":"The id of an entry in a namespace that you may write to"},
"relation":{"type":"string","description":"1 to 32 lower-case letters, digits, - and _"},
"to":{"type":"string","description":"The id of an entry"}},
"required":["from","relation","to"],"additionalProperties":false},
"annotations":{"readOnlyHint":false,"destructiveHint":false,"idempotentHint":true,"openWorldHint":false}},
{"name":"memory_namespaces","title":"Namespaces",
"description":"The namespaces you have, and what you may do in each.",
"inputSchema":{"type":"object","additionalProperties":false},
"annotations":{"readOnlyHint":true,"openWorldHint":false}}
])";

// Reads arguments of a tool; finish() tells the first that is wrong, missing or unknown.
class Arguments {
public:
    explicit Arguments(const Json& object) : object_(object) {}

    const Json* any(std::string_view name) {
        known_.push_back(name);
        const auto* value = object_.find(name);
        return value;
    }
    std::optional<std::string> optional_text(std::string_view name) {
        const auto* value = any(name);
        if (!value) return std::nullopt;
        if (!value->is(Json::Kind::Text)) wrong(cat(name, " must be a text"));
        return value->text;
    }
    std::string text(std::string_view name) {
        auto value = optional_text(name);
        if (!value) wrong(cat(name, " is missing"));
        return value.value_or("");
    }
    Paging paging() {
        Paging paging{.cursor = optional_text("cursor").value_or("")};
        if (const auto* limit = any("limit")) {
            auto number =
                limit->is(Json::Kind::Number) ? parse_number(limit->text, 1, kMaxPageEntries) : std::nullopt;
            if (!number) wrong(cat("limit must be a whole number, 1 to ", kMaxPageEntries));
            paging.limit = static_cast<size_t>(number.value_or(1));
        }
        return paging;
    }
    std::vector<std::string> texts(std::string_view name) {
        std::vector<std::string> found;
        const auto* list = any(name);
        if (!list) return found;
        if (!list->is(Json::Kind::List)) wrong(cat(name, " must be a list of texts"));
        for (const auto& item : list->items) {
            if (!item.is(Json::Kind::Text)) wrong(cat(name, " must be a list of texts"));
            found.push_back(item.text);
        }
        return found;
    }
    void wrong(std::string message) {
        if (wrong_.empty()) wrong_ = std::move(message);
    }
    Result<> finish() {
        for (const auto& member : object_.members)
            if (!std::ranges::contains(known_, member.name))
                wrong(cat("there is no argument ", printable(member.name, 64)));
        if (wrong_.empty()) return {};
        return Error{.code = EINVAL, .message = wrong_};
    }

private:
    const Json& object_;
    std::vector<std::string_view> known_;
    std::string wrong_;
};

using Done = std::function<void(ToolResult)>;

ToolResult failed(const Error& failure) {
    // As a guest sees it over HTTP too: nothing of the inside.
    auto response = parse_json(refusal(failure).body);
    const auto* error = response.has_value() ? response->find("error") : nullptr;
    const auto* message = error ? error->find("message") : nullptr;
    return {.is_error = true, .json = cat(code_of(failure), ": ", message ? message->text : "")};
}

template <typename T>
ToolResult result_of(const Result<T>& result) {
    if (!result.has_value()) return failed(result.error());
    return {.json = to_json(*result)};
}

Writes::Done written(Done done) {
    return [done = std::move(done)](const Result<Written>& result) {
        if (!result.has_value()) return done(failed(result.error()));
        if (result->outcome != Written::Outcome::Conflict) return done({.json = to_json(*result)});
        auto head = result->id.empty() ? std::string() : cat(". Its entry is ", result->id);
        done({.is_error = true, .json = cat("conflict: ", kConflictMessage, head)});
    };
}

void put(Memory& memory, const Access& access, Arguments& arguments, Done done) {
    auto request = [&]() -> Result<PutRequest> {
        PutRequest made{.space = arguments.text("namespace"), .key = arguments.text("key")};
        made.sources = arguments.texts("sources");
        made.if_head = arguments.optional_text("if_head");
        const auto* value = arguments.any("value");
        if (!value) arguments.wrong("value is missing");
        TRY(arguments.finish());
        TRY(check_write(access, made.space));
        made.value = TRY(canonical_value(*value));
        return made;
    }();
    if (!request.has_value()) return done(failed(request.error()));
    memory.put(access, *std::move(request), written(std::move(done)));
}

void link(Memory& memory, const Access& access, Arguments& arguments, Done done) {
    LinkRequest request{arguments.text("from"), arguments.text("relation"), arguments.text("to")};
    if (auto right = arguments.finish(); !right.has_value()) return done(failed(right.error()));
    memory.link(access, request, written(std::move(done)));
}

void get(Memory& memory, const Access& access, Arguments& arguments, Done done) {
    done(result_of([&]() -> Result<EntryWithLinks> {
        if (auto id = arguments.optional_text("id")) {
            TRY(arguments.finish());
            return memory.entry(access, *id);
        }
        auto space = arguments.text("namespace"), key = arguments.text("key");
        TRY(arguments.finish());
        return memory.get(access, space, key);
    }()));
}

void search(Memory& memory, const Access& access, Arguments& arguments, Done done) {
    done(result_of([&]() -> Result<Page> {
        auto query = arguments.text("query");
        auto space = arguments.optional_text("namespace");
        auto paging = arguments.paging();
        TRY(arguments.finish());
        return memory.search(access, query, space, paging);
    }()));
}

void history(Memory& memory, const Access& access, Arguments& arguments, Done done) {
    done(result_of([&]() -> Result<Page> {
        auto space = arguments.text("namespace"), key = arguments.text("key");
        auto paging = arguments.paging();
        TRY(arguments.finish());
        return memory.history(access, space, key, paging);
    }()));
}

void namespaces(Memory& memory, const Access& access, Arguments& arguments, Done done) {
    auto right = arguments.finish();
    done(right.has_value() ? result_of(memory.namespaces(access)) : failed(right.error()));
}

struct Tool {
    std::string_view name;
    void (*call)(Memory&, const Access&, Arguments&, Done);
};
constexpr Tool kCalls[] = {{"memory_put", put},       {"memory_get", get},
                           {"memory_search", search}, {"memory_history", history},
                           {"memory_link", link},     {"memory_namespaces", namespaces}};

const Tool* find_tool(std::string_view name) {
    const auto* found = std::ranges::find(kCalls, name, &Tool::name);
    return found == std::end(kCalls) ? nullptr : found;
}

} // namespace

std::string_view tool_list() { return kTools; }
bool is_tool(std::string_view name) { return find_tool(name) != nullptr; }

void call_tool(Memory& memory, const Access& access, std::string_view name, const Json& given, Done done) {
    Arguments arguments(given);
    find_tool(name)->call(memory, access, arguments, std::move(done));
}

} // namespace nullbox::ctxgraph

#include "ctxgraph/wire.h"

#include <cerrno>

#include "base/log.h"
#include "base/text.h"

namespace nullbox::ctxgraph {

static void append_member(std::string& out, std::string_view name, std::string_view text) {
    if (!out.ends_with('{')) out += ',';
    append_quoted(out, name);
    out += ':';
    append_quoted(out, text);
}

void append_entry(std::string& out, const Entry& entry) {
    out += '{';
    append_member(out, "id", entry.id);
    append_member(out, "namespace", entry.space);
    append_member(out, "key", entry.key);
    append_member(out, "kind", kind_name(entry.kind));
    out += cat(",\"value\":", entry.value, ",\"parents\":[");
    for (const auto& parent : entry.parents) {
        if (&parent != entry.parents.data()) out += ',';
        append_quoted(out, parent);
    }
    out += ']';
    append_member(out, "author", entry.author);
    out += cat(",\"time_ms\":", entry.time_ms, ",\"position\":", entry.position, "}");
}

std::string to_json(const EntryWithLinks& found) {
    std::string out = "{\"entry\":";
    append_entry(out, found.entry);
    out += ",\"links\":[";
    for (const auto& link : found.links) {
        if (&link != found.links.data()) out += ',';
        out += '{';
        append_member(out, "relation", link.relation.empty() ? "source" : link.relation);
        append_member(out, link.outgoing ? "to" : "from", link.other);
        append_member(out, "namespace", link.other_space);
        append_member(out, "link", link.entry);
        out += '}';
    }
    return out + "]}";
}

std::string to_json(const Page& page) {
    std::string out = "{\"entries\":[";
    for (const auto& entry : page.entries) {
        if (&entry != page.entries.data()) out += ',';
        append_entry(out, entry);
    }
    out += ']';
    if (!page.next.empty()) append_member(out, "next", page.next);
    return out + "}";
}

std::string to_json(const std::vector<NamespaceView>& views) {
    std::string out = "{\"namespaces\":[";
    for (const auto& view : views) {
        if (&view != views.data()) out += ',';
        out += '{';
        append_member(out, "name", view.name);
        out += cat(",\"read\":", view.read, ",\"write\":", view.write);
        if (view.facts) out += cat(",\"keys\":", view.facts->keys, ",\"entries\":", view.facts->entries);
        out += '}';
    }
    return out + "]}";
}

std::string to_json(const Written& written) {
    return cat("{\"created\":", written.outcome == Written::Outcome::Created, ",\"id\":\"", written.id,
               "\",\"position\":", written.position, "}");
}

Response refusal(unsigned status, std::string_view code, std::string_view message) {
    return {.status = status,
            .body = cat("{\"error\":{\"code\":", quoted(code),
                        ",\"message\":", quoted(printable(message, 1024)), "}}")};
}

namespace {
struct Meaning {
    int code;
    unsigned status;
    std::string_view name;
};
} // namespace

static Meaning meaning_of(int code) {
    static constexpr Meaning kMeanings[] = {
        {EINVAL, 400, "invalid"},  {EACCES, 403, "not_allowed"}, {ENOENT, 404, "not_found"},
        {E2BIG, 413, "too_large"}, {EDQUOT, 507, "quota"},       {ENOSPC, 507, "disk_full"},
        {ETIME, 503, "too_slow"},
    };
    for (const auto& meaning : kMeanings)
        if (meaning.code == code) return meaning;
    return {code, 500, "internal"};
}

std::string_view code_of(const Error& failure) { return meaning_of(failure.code).name; }

Response refusal(const Error& failure) {
    auto meaning = meaning_of(failure.code);
    if (failure.code == ENOSPC)
        return refusal(meaning.status, meaning.name, "the box's disk is full; nothing was written");
    if (meaning.status != 500) return refusal(meaning.status, meaning.name, failure.message);
    // What is wrong inside is for the box's log, not for a guest.
    log_error(printable(failure.message, 300));
    return refusal(500, meaning.name, "the box could not do it; its log says why");
}

} // namespace nullbox::ctxgraph

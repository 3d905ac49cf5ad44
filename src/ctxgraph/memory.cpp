#include "ctxgraph/memory.h"

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "ctxgraph/search_query.h"

namespace nullbox::ctxgraph {

constexpr size_t kMaxLinksShown = 64;

static Result<> check(std::string_view name, const std::string& wrong) {
    if (wrong.empty()) return {};
    return Error{.code = EINVAL, .message = cat(name, " ", wrong)};
}

static Error no_entry(std::string_view id) {
    return {.code = ENOENT, .message = cat("no entry ", printable(id, 64), " that you may read")};
}

Memory::Memory(Store& store, Writes& writes) : store_(store), writes_(writes) {
    writes_.on_new = [this](const std::vector<std::string>& spaces) { tell(spaces); };
}

void Memory::tell(const std::vector<std::string>& spaces) {
    std::vector<uint64_t> woken;
    for (const auto& [number, watcher] : watchers_)
        if (std::ranges::contains(spaces, watcher.space)) woken.push_back(number);
    for (auto number : woken) // one may drop itself or another
        if (auto found = watchers_.find(number); found != watchers_.end()) {
            auto wake = found->second.wake;
            wake();
        }
    if (on_change) on_change();
}

uint64_t Memory::watch(std::string space, std::function<void()> wake) {
    watchers_.emplace(next_watcher_, Watcher{std::move(space), std::move(wake)});
    return next_watcher_++;
}

Result<Write> Memory::prepare(const Access& access, std::string_view space, std::string_view key) {
    TRY(check("namespace", wrong_namespace(space)));
    TRY(check_write(access, space));
    return Write{.space = std::string(space),
                 .key = std::string(key),
                 .author = access.author,
                 .max_entries = access.max_entries,
                 .max_bytes = access.max_bytes};
}

Result<Entry> Memory::readable(const Access& access, std::string_view id) {
    TRY(check("id", wrong_id(id)));
    auto entry = TRY(store_.entry(id));
    if (!entry || !access.may_read(entry->space)) return no_entry(id);
    return *std::move(entry);
}

Result<> Memory::check_sources(const Access& access, const std::vector<std::string>& sources) {
    if (sources.size() > kMaxSources)
        return Error{.code = EINVAL, .message = cat("an entry has at most ", kMaxSources, " sources")};
    for (const auto& source : sources) TRY(readable(access, source));
    return {};
}

// The conflict of one who may not read says that there is one, not with what.
void Memory::send(const Access& access, Write write, Done done) {
    bool may_read = access.may_read(write.space);
    writes_.put(std::move(write), [may_read, done = std::move(done)](Result<Written> result) {
        if (result.has_value() && result->outcome == Written::Outcome::Conflict && !may_read)
            result->id.clear();
        done(std::move(result));
    });
}

static Result<> check_if_head(const std::optional<std::string>& if_head) {
    if (!if_head || if_head->empty()) return {};
    return check("if_head", wrong_id(*if_head));
}

void Memory::put(const Access& access, PutRequest request, Done done) {
    auto write = [&]() -> Result<Write> {
        auto made = TRY(prepare(access, request.space, request.key));
        TRY(check("key", wrong_key(request.key)));
        TRY(check_if_head(request.if_head));
        TRY(check_sources(access, request.sources));
        made.value = std::move(request.value);
        made.sources = std::move(request.sources);
        made.if_head = std::move(request.if_head);
        return made;
    }();
    if (!write.has_value()) return done(write.error());
    send(access, *std::move(write), std::move(done));
}

void Memory::remove(const Access& access, const std::string& space, const std::string& key,
                    const std::optional<std::string>& if_head, Done done) {
    auto write = [&]() -> Result<Write> {
        auto made = TRY(prepare(access, space, key));
        if (!parse_link_key(key)) TRY(check("key", wrong_key(key)));
        TRY(check_if_head(if_head));
        made.kind = Kind::Tombstone;
        made.if_head = if_head;
        return made;
    }();
    if (!write.has_value()) return done(write.error());
    send(access, *std::move(write), std::move(done));
}

void Memory::link(const Access& access, const LinkRequest& request, Done done) {
    auto write = [&]() -> Result<Write> {
        auto from = TRY(readable(access, request.from));
        TRY(readable(access, request.to));
        TRY(check("relation", wrong_relation(request.relation)));
        auto made = TRY(prepare(access, from.space, link_key(request.from, request.relation, request.to)));
        made.kind = Kind::Link;
        made.value = link_value(request.from, request.relation, request.to);
        return made;
    }();
    if (!write.has_value()) return done(write.error());
    send(access, *std::move(write), std::move(done));
}

Result<EntryWithLinks> Memory::with_links(const Access& access, Entry entry) {
    auto links = TRY(store_.links(entry.id, kMaxLinksShown));
    std::erase_if(links, [&](const Link& link) { return !access.may_read(link.other_space); });
    return EntryWithLinks{std::move(entry), std::move(links)};
}

Result<EntryWithLinks> Memory::get(const Access& access, std::string_view space, std::string_view key) {
    TRY(check("namespace", wrong_namespace(space)));
    TRY(check_read(access, space));
    if (!parse_link_key(key)) TRY(check("key", wrong_key(key)));
    auto entry = TRY(store_.head(space, key));
    if (!entry || entry->kind == Kind::Tombstone)
        return Error{.code = ENOENT,
                     .message = cat("no key \"", printable(key, 256), "\" in ", space,
                                    entry ? " any more; its history is there" : "")};
    return with_links(access, *std::move(entry));
}

Result<EntryWithLinks> Memory::entry(const Access& access, std::string_view id) {
    return with_links(access, TRY(readable(access, id)));
}

static Result<> check_limit(const Paging& paging) {
    if (paging.limit >= 1 && paging.limit <= kMaxPageEntries) return {};
    return Error{.code = EINVAL, .message = cat("limit must be 1 to ", kMaxPageEntries)};
}

Result<Page> Memory::list(const Access& access, std::string_view space, std::string_view prefix,
                          const Paging& paging) {
    TRY(check("namespace", wrong_namespace(space)));
    TRY(check_read(access, space));
    TRY(check_limit(paging));
    if (!prefix.empty()) TRY(check("prefix", wrong_key(prefix)));
    if (!paging.cursor.empty()) TRY(check("cursor", wrong_key(paging.cursor)));
    return store_.list(space, prefix, paging.cursor, paging.limit);
}

Result<Page> Memory::history(const Access& access, std::string_view space, std::string_view key,
                             const Paging& paging) {
    TRY(check("namespace", wrong_namespace(space)));
    TRY(check_read(access, space));
    if (!parse_link_key(key)) TRY(check("key", wrong_key(key)));
    TRY(check_limit(paging));
    if (!paging.cursor.empty()) TRY(check("cursor", wrong_id(paging.cursor)));
    return store_.history(space, key, paging.cursor, paging.limit);
}

Result<Page> Memory::search(const Access& access, std::string_view query,
                            std::optional<std::string_view> space, const Paging& paging) {
    TRY(check_limit(paging));
    std::vector<std::string> spaces(access.read.begin(), access.read.end());
    if (space) {
        TRY(check("namespace", wrong_namespace(*space)));
        TRY(check_read(access, *space));
        spaces = {std::string(*space)};
    }
    auto expression = TRY(fts_expression(query));
    // The cursor is an entry's id: one of another's namespace must not be told from one that does not exist.
    if (!paging.cursor.empty()) TRY(readable(access, paging.cursor));
    return store_.search(access.everything && !space ? nullptr : &spaces, expression, paging.cursor,
                         paging.limit);
}

Result<Feed> Memory::feed(const Access& access, std::string_view space, std::string_view prefix,
                          std::optional<uint64_t> after) {
    TRY(check("namespace", wrong_namespace(space)));
    TRY(check_read(access, space));
    if (!prefix.empty() && !prefix.starts_with("link:")) TRY(check("prefix", wrong_key(prefix)));
    return store_.feed(space, prefix, after);
}

Result<std::vector<NamespaceView>> Memory::namespaces(const Access& access) {
    auto known = TRY(store_.namespaces());
    std::vector<NamespaceView> views;
    if (access.everything) {
        for (auto& facts : known) views.push_back({facts.name, true, true, facts});
        return views;
    }
    std::set<std::string> names(access.read.begin(), access.read.end());
    names.insert(access.write.begin(), access.write.end());
    for (const auto& name : names) {
        NamespaceView view{.name = name, .read = access.may_read(name), .write = access.may_write(name)};
        auto found = std::ranges::find(known, name, &NamespaceFacts::name);
        if (view.read) view.facts = found != known.end() ? *found : NamespaceFacts{.name = name};
        views.push_back(std::move(view));
    }
    return views;
}

} // namespace nullbox::ctxgraph

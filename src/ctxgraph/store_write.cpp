// Adding entries.
#include <algorithm>
#include <cerrno>

#include "base/check.h"
#include "base/text.h"
#include "ctxgraph/search_query.h"
#include "ctxgraph/store_impl.h"

namespace nullbox::ctxgraph {

static int64_t now_ms() {
    using namespace std::chrono;
    return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

std::vector<Result<Written>> Store::apply(std::span<const Write> writes) {
    auto done = impl_->transaction(writes);
    if (done.has_value()) return *std::move(done);
    if (impl_->database->in_transaction()) (void)impl_->database->run("ROLLBACK");
    std::vector<Result<Written>> results;
    if (writes.size() <= 1) {
        if (!writes.empty()) results.emplace_back(done.error());
        return results;
    }
    // The transaction failed as a whole; one write alone may be the reason.
    for (const auto& write : writes) results.push_back(std::move(apply({&write, 1}).front()));
    return results;
}

static bool ends_transaction(const Error& failure) {
    return failure.code != ENOENT && failure.code != EDQUOT && failure.code != EINVAL;
}

Result<std::vector<Result<Written>>> Store::Impl::transaction(std::span<const Write> writes) {
    std::vector<Result<Written>> results;
    TRY(database->run("BEGIN IMMEDIATE"));
    for (const auto& each : writes) {
        TRY(database->run("SAVEPOINT one"));
        auto result = write(each);
        if (!result.has_value()) {
            if (ends_transaction(result.error())) return result.error();
            TRY(database->run("ROLLBACK TO one"));
        }
        TRY(database->run("RELEASE one"));
        results.push_back(std::move(result));
    }
    TRY(database->run("COMMIT"));
    return results;
}

static Entry draft(const Write& write, std::string_view before) {
    Entry entry{.space = write.space, .key = write.key, .kind = write.kind, .value = write.value};
    entry.author = write.author;
    if (!before.empty()) entry.parents.emplace_back(before);
    for (const auto& source : write.sources)
        if (!std::ranges::contains(entry.parents, source)) entry.parents.push_back(source);
    entry.id = entry_id(entry);
    return entry;
}

// The entry before it in its key's chain.
static std::string_view predecessor(const Store::Impl::Head& head) {
    return head.chained ? std::string_view(head.entry.parents.front()) : "";
}

Result<Written> Store::Impl::write(const Write& write) {
    auto space = TRY(space_id(write.space));
    auto head = space ? TRY(head_of(*space, write.key)) : std::nullopt;
    bool is_there = head && head->entry.kind != Kind::Tombstone;
    auto unchanged = [&] {
        return Written{Written::Outcome::Unchanged, head->entry.id, head->entry.position};
    };
    if (write.if_head) {
        bool as_expected = write.if_head->empty() ? !is_there : head && head->entry.id == *write.if_head;
        // The same request again, whose answer was lost: what it wrote is the head now.
        bool is_written =
            head &&
            head->entry.id == draft(write, write.if_head->empty() ? predecessor(*head) : *write.if_head).id;
        if (!as_expected && is_written) return unchanged();
        if (!as_expected) return Written{Written::Outcome::Conflict, is_there ? head->entry.id : ""};
    }
    if (write.kind == Kind::Tombstone && !head)
        return Error{.code = ENOENT, .message = cat("no key \"", write.key, "\" in ", write.space)};
    bool same =
        head &&
        (write.kind == Kind::Tombstone ? !is_there : head->entry.id == draft(write, predecessor(*head)).id);
    return same ? unchanged() : add(write, head);
}

Result<Written> Store::Impl::add(const Write& write, const std::optional<Head>& head) {
    auto entry = draft(write, head ? head->entry.id : "");
    TRY(count(write, canonical(entry).size()));
    auto space = TRY(space_for_writing(write.space));
    bool was_value = head && head->entry.kind == Kind::Value, is_value = write.kind == Kind::Value;
    {
        Query query(
            *database,
            "UPDATE spaces SET entries = entries + 1, keys = keys + ? WHERE id = ? RETURNING entries");
        bool updated = TRY(query.number(int{is_value} - int{was_value}).number(space).row());
        CHECK(updated);
        entry.position = static_cast<uint64_t>(query.number_at(0));
        TRY(query.row());
    }
    std::string parents;
    for (const auto& parent : entry.parents) parents += id_bytes(parent);
    auto id = id_bytes(entry.id);
    Query insert(*database,
                 "INSERT INTO entries(id, space, position, key, kind, author, time_ms, parents, value, "
                 "previous) VALUES(?,?,?,?,?,?,?,?,?,?)");
    insert.blob(id).number(space).number(static_cast<int64_t>(entry.position)).text(entry.key);
    insert.number(static_cast<int>(entry.kind))
        .text(entry.author)
        .number(now_ms())
        .blob(parents)
        .text(entry.value);
    TRY((head ? insert.number(head->sequence) : insert.null()).finish());
    auto sequence = database->last_rowid();
    Query move(*database, "INSERT INTO heads VALUES(?,?,?,?) ON CONFLICT DO UPDATE SET kind=excluded.kind, "
                          "seq=excluded.seq");
    TRY(move.number(space).text(entry.key).number(static_cast<int>(entry.kind)).number(sequence).finish());
    if (was_value) TRY(index(space, head->sequence, head->entry, false));
    if (is_value) TRY(index(space, sequence, entry, true));
    TRY(connect(write, sequence));
    return Written{Written::Outcome::Created, std::move(entry.id), entry.position};
}

Result<int64_t> Store::Impl::space_for_writing(const std::string& name) {
    if (auto known = TRY(space_id(name))) return *known;
    Query counting(*database, "SELECT count(*) FROM spaces");
    TRY(counting.row());
    if (static_cast<size_t>(counting.number_at(0)) >= limits.namespaces)
        return Error{.code = EDQUOT,
                     .message = cat("there are ", limits.namespaces, " namespaces; no more fit")};
    Query query(*database, "INSERT INTO spaces(name, entries, keys) VALUES(?,0,0)");
    TRY(query.text(name).finish());
    return database->last_rowid();
}

Result<> Store::Impl::count(const Write& write, size_t bytes) {
    TRY(count_one("", bytes, limits.entries, limits.bytes, "the memory of this box has"));
    return count_one(write.author, bytes, write.max_entries, write.max_bytes, "you have");
}

Result<> Store::Impl::count_one(std::string_view author, size_t bytes, uint64_t most_entries,
                                uint64_t most_bytes, std::string_view whose) {
    Query query(*database, "INSERT INTO counters VALUES(?,1,?) ON CONFLICT DO UPDATE SET entries=entries+1, "
                           "bytes=bytes+excluded.bytes RETURNING entries, bytes");
    bool counted = TRY(query.text(author).number(static_cast<int64_t>(bytes)).row());
    CHECK(counted);
    auto entries = static_cast<uint64_t>(query.number_at(0)), all = static_cast<uint64_t>(query.number_at(1));
    if (entries > most_entries)
        return Error{.code = EDQUOT,
                     .message = cat("the quota is used up: ", whose, " ", most_entries,
                                    " entries, and earlier ones "
                                    "are kept for the history. An operator can raise it")};
    if (all > most_bytes)
        return Error{.code = EDQUOT,
                     .message = cat("the quota is used up: ", whose, " ", all - bytes, " of ", most_bytes,
                                    " bytes, and this takes ", bytes, ". An operator can raise it")};
    TRY(query.row());
    return {};
}

Result<> Store::Impl::index(int64_t space, int64_t sequence, const Entry& entry, bool in) {
    auto value = parse_json(entry.value);
    if (!value.has_value())
        return Error{.code = EUCLEAN,
                     .message = cat("entry ", entry.id, " is damaged: ", value.error().message)};
    auto token = cat("s", space), body = searchable(*value);
    // A contentless index forgets a row only when it is told what stood in it.
    Query query(*database, in ? "INSERT INTO words(rowid, space, key, body) VALUES(?,?,?,?)"
                              : "INSERT INTO words(words, rowid, space, key, body) VALUES('delete',?,?,?,?)");
    return query.number(sequence).text(token).text(entry.key).text(body).finish();
}

// What the entry says about others: parents that are not the one before it, and a link's two ends.
Result<> Store::Impl::connect(const Write& write, int64_t sequence) {
    auto add_link = [&](int64_t source, std::string_view relation, int64_t target) -> Result<> {
        Query query(*database,
                    "INSERT OR REPLACE INTO links(source, relation, target, entry) VALUES(?,?,?,?)");
        return query.number(source).text(relation).number(target).number(sequence).finish();
    };
    auto ends = parse_link_key(write.key);
    if (!ends) {
        for (const auto& source : write.sources) {
            auto target = TRY(sequence_of(source));
            if (!target) return Error{.code = ENOENT, .message = cat("no entry ", source)};
            TRY(add_link(sequence, "", *target));
        }
        return {};
    }
    auto from = TRY(sequence_of(ends->from)), to = TRY(sequence_of(ends->to));
    if (!from || !to) return Error{.code = ENOENT, .message = cat("no entry ", from ? ends->to : ends->from)};
    if (write.kind == Kind::Link) return add_link(*from, ends->relation, *to);
    Query query(*database, "DELETE FROM links WHERE source = ? AND relation = ? AND target = ?");
    return query.number(*from).text(ends->relation).number(*to).finish();
}

} // namespace nullbox::ctxgraph

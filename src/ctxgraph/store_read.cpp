// Looking entries up.
#include <cerrno>

#include "base/check.h"
#include "base/text.h"
#include "ctxgraph/store_impl.h"

namespace nullbox::ctxgraph {

constexpr int kFeedRows = 512; // looked at in one go
constexpr size_t kIdBytes = 32;

Result<std::optional<Entry>> Store::Impl::at(int64_t sequence, int64_t* previous) {
    Query query(*database,
                "SELECT e.id, s.name, e.key, e.kind, e.author, e.time_ms, e.position, e.parents, e.value, "
                "e.previous FROM entries e JOIN spaces s ON s.id = e.space WHERE e.seq = ?");
    if (!TRY(query.number(sequence).row())) return std::optional<Entry>();
    Entry entry{.id = id_text(query.text_at(0)), .space = std::string(query.text_at(1))};
    entry.key = query.text_at(2);
    entry.kind = static_cast<Kind>(query.number_at(3));
    entry.author = query.text_at(4);
    entry.time_ms = query.number_at(5);
    entry.position = static_cast<uint64_t>(query.number_at(6));
    auto parents = query.text_at(7);
    for (size_t i = 0; i + kIdBytes <= parents.size(); i += kIdBytes)
        entry.parents.push_back(id_text(parents.substr(i, kIdBytes)));
    entry.value = query.text_at(8);
    if (previous) *previous = query.number_at(9);
    return std::optional(std::move(entry));
}

Result<std::optional<Store::Impl::Head>> Store::Impl::head_of(int64_t space, std::string_view key) {
    Query query(*database, "SELECT seq FROM heads WHERE space = ? AND key = ?");
    if (!TRY(query.number(space).text(key).row())) return std::optional<Head>();
    auto sequence = query.number_at(0);
    int64_t previous = 0;
    auto entry = TRY(at(sequence, &previous));
    if (!entry || (previous != 0 && entry->parents.empty()))
        return Error{.code = EUCLEAN, .message = cat("the entry of key \"", key, "\" is damaged")};
    return std::optional(Head{*std::move(entry), sequence, previous != 0});
}

Result<std::optional<Entry>> Store::head(std::string_view space, std::string_view key) {
    auto number = TRY(impl_->space_id(space));
    if (!number) return std::optional<Entry>();
    auto head = TRY(impl_->head_of(*number, key));
    return head ? std::optional(std::move(head->entry)) : std::nullopt;
}

Result<std::optional<Entry>> Store::entry(std::string_view id) {
    auto sequence = TRY(impl_->sequence_of(id));
    if (!sequence) return std::optional<Entry>();
    return impl_->at(*sequence);
}

namespace {
// Fills a page until it has enough; there is a next page if anything came after that.
class Pager {
public:
    explicit Pager(size_t limit) : limit_(limit) {}
    bool full() const { return page_.entries.size() >= limit_ || bytes_ >= kPageBytes; }
    // False: it did not fit.
    bool add(Entry entry) {
        size_t size = entry.value.size() + entry.key.size() + 512;
        if (!page_.entries.empty() && bytes_ + size > kPageBytes) {
            bytes_ = kPageBytes;
            return false;
        }
        bytes_ += size;
        page_.entries.push_back(std::move(entry));
        return true;
    }
    Page take(bool more, bool by_key = false) && {
        if (more && !page_.entries.empty())
            page_.next = by_key ? page_.entries.back().key : page_.entries.back().id;
        return std::move(page_);
    }

private:
    Page page_;
    size_t limit_, bytes_ = 0;
};
} // namespace

// Greater than every key with the prefix, and no other: keys are valid UTF-8, so no byte of them is 0xff.
static std::string behind(std::string_view prefix) { return cat(prefix, "\xff"); }

static Result<Page> in_time(Result<Page> page, std::string_view otherwise) {
    if (!page.has_value() && page.error().code == ETIME) page.error().message = otherwise;
    return page;
}

Result<Page> Store::list(std::string_view space, std::string_view prefix, std::string_view after,
                         size_t limit) {
    Pager pager(limit);
    auto number = TRY(impl_->space_id(space));
    if (!number) return Page();
    Database::TimeLimit time(*impl_->database, impl_->limits.search);
    auto end = behind(prefix);
    Query query(*impl_->database,
                "SELECT seq FROM heads WHERE space = ? AND key >= ? AND key > ? AND key < ? AND "
                "kind = 0 ORDER BY key");
    query.number(*number).text(prefix).text(after).text(end);
    auto run = [&]() -> Result<Page> {
        while (TRY(query.row())) {
            if (pager.full()) return std::move(pager).take(true, true);
            auto entry = TRY(impl_->at(query.number_at(0)));
            if (entry && !pager.add(*std::move(entry))) return std::move(pager).take(true, true);
        }
        return std::move(pager).take(false);
    };
    return in_time(run(), "the list takes too long; use a longer prefix");
}

Result<Page> Store::history(std::string_view space, std::string_view key, std::string_view before,
                            size_t limit) {
    Pager pager(limit);
    auto number = TRY(impl_->space_id(space));
    auto head = number ? TRY(impl_->head_of(*number, key)) : std::nullopt;
    if (!head) return Page();
    int64_t next = head->sequence;
    if (!before.empty()) {
        auto last = TRY(impl_->sequence_of(before));
        auto entry = last ? TRY(impl_->at(*last, &next)) : std::nullopt;
        if (!entry || entry->space != space || entry->key != key)
            return Error{.code = EINVAL, .message = "the cursor is not an entry of this key"};
    }
    while (next != 0) {
        if (pager.full()) return std::move(pager).take(true);
        auto entry = TRY(impl_->at(next, &next));
        if (!entry) return Error{.code = EUCLEAN, .message = cat("the history of \"", key, "\" has a gap")};
        if (!pager.add(*std::move(entry))) return std::move(pager).take(true);
    }
    return std::move(pager).take(false);
}

Result<Page> Store::search(const std::vector<std::string>* spaces, std::string_view expression,
                           std::string_view before, size_t limit) {
    Pager pager(limit);
    std::string scope;
    for (const auto& space : spaces ? *spaces : std::vector<std::string>())
        if (auto number = TRY(impl_->space_id(space)))
            scope += cat(scope.empty() ? "" : " OR ", "\"s", *number, "\"");
    if (spaces && scope.empty()) return Page();
    auto match =
        cat(scope.empty() ? "" : cat("space : (", scope, ") AND "), "{key body} : (", expression, ")");
    auto last = before.empty() ? std::optional<int64_t>(INT64_MAX) : TRY(impl_->sequence_of(before));
    if (!last) return Error{.code = EINVAL, .message = "the cursor is not an entry that a search found"};
    Database::TimeLimit time(*impl_->database, impl_->limits.search);
    Query query(*impl_->database,
                "SELECT rowid FROM words WHERE words MATCH ? AND rowid < ? ORDER BY rowid DESC");
    query.text(match).number(*last);
    auto run = [&]() -> Result<Page> {
        while (TRY(query.row())) {
            if (pager.full()) return std::move(pager).take(true);
            auto entry = TRY(impl_->at(query.number_at(0)));
            if (entry && !pager.add(*std::move(entry))) return std::move(pager).take(true);
        }
        return std::move(pager).take(false);
    };
    return in_time(run(), "the search takes too long; use rarer or more words");
}

Result<Feed> Store::feed(std::string_view space, std::string_view prefix, std::optional<uint64_t> after) {
    Feed feed{.position = after.value_or(0)};
    {
        Query query(*impl_->database, "SELECT id, entries FROM spaces WHERE name = ?");
        if (!TRY(query.text(space).row())) return feed;
        auto newest = static_cast<uint64_t>(query.number_at(1));
        if (!after) feed.position = newest;
        if (feed.position >= newest) return feed;
    }
    auto number = TRY(impl_->space_id(space));
    Query query(*impl_->database, "SELECT seq, position, key FROM entries WHERE space = ? AND position > ? "
                                  "ORDER BY position LIMIT ?");
    query.number(*number).number(static_cast<int64_t>(feed.position)).number(kFeedRows);
    Pager pager(kMaxPageEntries);
    int rows = 0;
    while (TRY(query.row())) {
        rows++;
        if (query.text_at(2).starts_with(prefix)) {
            auto entry = pager.full() ? std::nullopt : TRY(impl_->at(query.number_at(0)));
            if (!entry || !pager.add(*std::move(entry))) {
                feed.more = true;
                break;
            }
        }
        feed.position = static_cast<uint64_t>(query.number_at(1));
    }
    feed.more = feed.more || rows == kFeedRows;
    feed.entries = std::move(pager).take(false).entries;
    return feed;
}

Result<std::vector<Link>> Store::links(std::string_view id, size_t limit) {
    std::vector<Link> found;
    auto sequence = TRY(impl_->sequence_of(id));
    if (!sequence) return found;
    auto collect = [&](Query& query, bool outgoing) -> Result<> {
        query.number(*sequence).number(static_cast<int64_t>(limit));
        while (TRY(query.row()))
            found.push_back({.relation = std::string(query.text_at(0)),
                             .other = id_text(query.text_at(1)),
                             .other_space = std::string(query.text_at(2)),
                             .entry = id_text(query.text_at(3)),
                             .outgoing = outgoing});
        return {};
    };
    Query out(*impl_->database,
              "SELECT l.relation, o.id, s.name, e.id FROM links l JOIN entries o ON o.seq = l.target "
              "JOIN spaces s ON s.id = o.space JOIN entries e ON e.seq = l.entry "
              "WHERE l.source = ? ORDER BY l.entry DESC LIMIT ?");
    TRY(collect(out, true));
    Query in(*impl_->database,
             "SELECT l.relation, o.id, s.name, e.id FROM links l JOIN entries o ON o.seq = l.source "
             "JOIN spaces s ON s.id = o.space JOIN entries e ON e.seq = l.entry "
             "WHERE l.target = ? ORDER BY l.entry DESC LIMIT ?");
    TRY(collect(in, false));
    return found;
}

Result<std::vector<NamespaceFacts>> Store::namespaces() {
    std::vector<NamespaceFacts> found;
    Query query(*impl_->database, "SELECT name, entries, keys FROM spaces ORDER BY name");
    while (TRY(query.row()))
        found.push_back({.name = std::string(query.text_at(0)),
                         .entries = static_cast<uint64_t>(query.number_at(1)),
                         .keys = static_cast<uint64_t>(query.number_at(2))});
    return found;
}

Result<Totals> Store::totals() {
    Query query(*impl_->database,
                "SELECT entries, bytes, (SELECT count(*) FROM spaces) FROM counters WHERE author = ''");
    if (!TRY(query.row())) return Error{.code = EUCLEAN, .message = "the counters are missing"};
    return Totals{.entries = static_cast<uint64_t>(query.number_at(0)),
                  .bytes = static_cast<uint64_t>(query.number_at(1)),
                  .namespaces = static_cast<uint64_t>(query.number_at(2))};
}

} // namespace nullbox::ctxgraph

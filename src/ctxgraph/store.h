// The entries on disk: an SQLite database with a full-text index of what is current. It knows namespaces and
// quotas, but not who may see what: that is memory.h's.
//
// Invariant: apply() answers after the commit is on the disk (WAL, synchronous FULL), and what it answered is
// never lost, whenever the process dies. Entries are only added. Reads go on when the disk is full.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>

#include "ctxgraph/entry.h"

namespace nullbox::ctxgraph {

struct StoreLimits {
    uint64_t entries = 2'000'000;
    uint64_t bytes = uint64_t{4} << 30; // of canonical JSON
    size_t namespaces = 1024;
    std::chrono::milliseconds search{250};
    std::chrono::milliseconds check{2000}; // how long the file is looked through when it is opened
};

// A page ends with this many bytes, or the one entry that is larger.
constexpr size_t kPageBytes = size_t{384} << 10;
constexpr size_t kMaxPageEntries = 100;

struct Write {
    std::string space, key;
    Kind kind = Kind::Value;
    std::string value = "null"; // canonical
    std::string author;
    std::vector<std::string> sources;   // ids of further parents; must be there
    std::optional<std::string> if_head; // write only if this is the current entry; "": only if there is none
    uint64_t max_entries = UINT64_MAX, max_bytes = UINT64_MAX; // of this author in all
};

struct Written {
    enum class Outcome { Created, Unchanged, Conflict };
    Outcome outcome = Outcome::Created;
    std::string
        id; // Unchanged: of the entry that is there; Conflict: of the current one, empty if there is none
    uint64_t position = 0;
};

struct Page {
    std::vector<Entry> entries;
    std::string next; // the cursor of the next page; empty: there is none
};

struct Feed {
    std::vector<Entry> entries;
    uint64_t position = 0; // everything up to here has been looked at
    bool more = false;     // there is more to look at now
};

struct NamespaceFacts {
    std::string name;
    uint64_t entries = 0, keys = 0; // all ever written; those that have a value now
};

struct Link {
    std::string relation, other, other_space; // the other end
    std::string entry;                        // of the link itself
    bool outgoing = false;
};

struct Totals {
    uint64_t entries = 0, bytes = 0, namespaces = 0;
};

class Store {
public:
    // A file that is damaged, or not ours, or of a newer NullBox, is refused with what to do; nothing is
    // changed.
    static Result<std::unique_ptr<Store>> open(const std::string& path, StoreLimits limits = {});
    ~Store();

    // All of them in one transaction. Codes: ENOENT a source that is not there, EDQUOT, ENOSPC.
    std::vector<Result<Written>> apply(std::span<const Write> writes);

    Result<std::optional<Entry>> head(std::string_view space, std::string_view key);
    Result<std::optional<Entry>> entry(std::string_view id);
    // The values of a namespace, by key. after: the last key of the page before.
    Result<Page> list(std::string_view space, std::string_view prefix, std::string_view after, size_t limit);
    // Newest first. before: the last id of the page before; EINVAL if it is not of this key.
    Result<Page> history(std::string_view space, std::string_view key, std::string_view before, size_t limit);
    // Current values only, newest first. expression: of fts_expression(). No spaces: all of them.
    Result<Page> search(const std::vector<std::string>* spaces, std::string_view expression,
                        std::string_view before, size_t limit);
    // What was written after a position, in order, of keys with a prefix. No position: from now on.
    Result<Feed> feed(std::string_view space, std::string_view prefix, std::optional<uint64_t> after);
    Result<std::vector<Link>> links(std::string_view id, size_t limit);
    Result<std::vector<NamespaceFacts>> namespaces();
    Result<Totals> totals();

    struct Impl; // internal: store_impl.h

private:
    explicit Store(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

} // namespace nullbox::ctxgraph

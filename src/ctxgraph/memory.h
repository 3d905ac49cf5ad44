// What can be done with the shared memory, by whom: every way in (the guests' HTTP and MCP, the operators'
// Varlink) ends here, and here are the checks of names, bounds and access. Nothing below asks who somebody
// is.
#pragma once

#include <map>

#include "ctxgraph/access.h"
#include "ctxgraph/writes.h"

namespace nullbox::ctxgraph {

struct PutRequest {
    std::string space, key;
    std::string value; // canonical
    std::vector<std::string> sources;
    std::optional<std::string> if_head;
};

struct LinkRequest {
    std::string from, relation, to;
};

struct Paging {
    std::string cursor;
    size_t limit = 20; // at most kMaxPageEntries
};

struct EntryWithLinks {
    Entry entry;
    std::vector<Link> links; // to and from entries that the asker may read
};

struct NamespaceView {
    std::string name;
    bool read = false, write = false;
    std::optional<NamespaceFacts> facts; // of those that may be read
};

class Memory {
public:
    using Done = Writes::Done;
    Memory(Store& store, Writes& writes);

    void put(const Access& access, PutRequest request, Done done);
    // A tombstone; also takes a link back, by its key.
    void remove(const Access& access, const std::string& space, const std::string& key,
                const std::optional<std::string>& if_head, Done done);
    void link(const Access& access, const LinkRequest& request, Done done);

    // ENOENT: there is none, or it has ended.
    Result<EntryWithLinks> get(const Access& access, std::string_view space, std::string_view key);
    Result<EntryWithLinks> entry(const Access& access, std::string_view id);
    Result<Page> list(const Access& access, std::string_view space, std::string_view prefix,
                      const Paging& paging);
    Result<Page> history(const Access& access, std::string_view space, std::string_view key,
                         const Paging& paging);
    // No space: all that the asker may read.
    Result<Page> search(const Access& access, std::string_view query, std::optional<std::string_view> space,
                        const Paging& paging);
    Result<Feed> feed(const Access& access, std::string_view space, std::string_view prefix,
                      std::optional<uint64_t> after);
    Result<std::vector<NamespaceView>> namespaces(const Access& access);
    Result<Totals> totals() { return store_.totals(); }

    // wake is called whenever the namespace has something new: ask feed(). Who watches has asked feed()
    // before, so access was checked.
    uint64_t watch(std::string space, std::function<void()> wake);
    void unwatch(uint64_t watcher) { watchers_.erase(watcher); }
    size_t watchers() const { return watchers_.size(); }

    // When something was written.
    std::function<void()> on_change;

private:
    Result<Write> prepare(const Access& access, std::string_view space, std::string_view key);
    Result<> check_sources(const Access& access, const std::vector<std::string>& sources);
    Result<Entry> readable(const Access& access, std::string_view id);
    Result<EntryWithLinks> with_links(const Access& access, Entry entry);
    void send(const Access& access, Write write, Done done);
    void tell(const std::vector<std::string>& spaces);

    struct Watcher {
        std::string space;
        std::function<void()> wake;
    };
    Store& store_;
    Writes& writes_;
    std::map<uint64_t, Watcher> watchers_;
    uint64_t next_watcher_ = 1;
};

} // namespace nullbox::ctxgraph

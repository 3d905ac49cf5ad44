#include "ctxgraph/store.h"

#include <cerrno>

#include "base/text.h"
#include "ctxgraph/store_impl.h"

namespace nullbox::ctxgraph {

// "NBcg" in the file's header, so that no other program's database is taken for ours.
constexpr int64_t kApplication = 0x4e426367;
constexpr int64_t kVersion = 1;

// entries: seq is the order of commits, position the order within a namespace, which is all that its readers
// see. previous: the entry before in the key's chain. parents: ids, 32 bytes each. heads: the last of each
// chain. links: seq of both ends, and of the entry that says so; relation "" is for parents that are not the
// one before. counters: by author; "" is all together. words: of the current values; space is the token "s" +
// its number.
constexpr const char* kSchema = R"(
CREATE TABLE spaces(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, entries INTEGER NOT NULL,
  keys INTEGER NOT NULL) STRICT;
CREATE TABLE entries(seq INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, space INTEGER NOT NULL,
  position INTEGER NOT NULL, key TEXT NOT NULL, kind INTEGER NOT NULL, author TEXT NOT NULL,
  time_ms INTEGER NOT NULL, previous INTEGER, parents BLOB NOT NULL, value TEXT NOT NULL) STRICT;
CREATE UNIQUE INDEX entries_by_position ON entries(space, position);
CREATE TABLE heads(space INTEGER NOT NULL, key TEXT NOT NULL, kind INTEGER NOT NULL, seq INTEGER NOT NULL,
  PRIMARY KEY(space, key)) STRICT, WITHOUT ROWID;
CREATE TABLE links(source INTEGER NOT NULL, relation TEXT NOT NULL, target INTEGER NOT NULL, entry INTEGER NOT NULL,
  PRIMARY KEY(source, relation, target)) STRICT, WITHOUT ROWID;
CREATE INDEX links_by_target ON links(target);
CREATE TABLE counters(author TEXT PRIMARY KEY, entries INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE VIRTUAL TABLE words USING fts5(space, key, body, content='', columnsize=0, prefix='2 3',
  tokenize='unicode61 remove_diacritics 2');
INSERT INTO counters VALUES('', 0, 0);
PRAGMA application_id=1312973671;
PRAGMA user_version=1;
)";
static_assert(kApplication == 1312973671 && kVersion == 1);

static Result<int64_t> number_of(Database& database, const char* sql) {
    Query query(database, sql);
    return TRY(query.row()) ? query.number_at(0) : 0;
}

// The whole of a small file, the beginning of a large one; damage further on is found by whoever reads it.
static Result<> look_through(Database& database, std::chrono::milliseconds time) {
    Database::TimeLimit limit(database, time);
    Query query(database, "PRAGMA quick_check(1)");
    auto row = query.row();
    if (!row.has_value() && row.error().code == ETIME) return {};
    if (!row.has_value()) return row.error();
    auto found = *row ? query.text_at(0) : "no answer";
    if (found == "ok") return {};
    return Error{.code = EUCLEAN, .message = printable(found, 200)};
}

Result<> Store::Impl::prepare() {
    auto application = TRY(number_of(*database, "PRAGMA application_id"));
    auto version = TRY(number_of(*database, "PRAGMA user_version"));
    auto tables = TRY(number_of(*database, "SELECT count(*) FROM sqlite_master"));
    if (application == 0 && version == 0 && tables == 0) {
        TRY(database->run("BEGIN IMMEDIATE"));
        TRY(database->run(kSchema).context("make the tables"));
        return database->run("COMMIT");
    }
    if (application != kApplication) return error("it is a database, but not of ctxgraph");
    if (version != kVersion)
        return error(cat("its form is number ", version, ", and this NullBox knows ", kVersion,
                         ": it was written by a newer one; boot that one"));
    return look_through(*database, limits.check);
}

Result<std::unique_ptr<Store>> Store::open(const std::string& path, StoreLimits limits) {
    auto impl = std::make_unique<Impl>();
    impl->limits = limits;
    auto database = Database::open(path);
    Result<> ready = database.has_value() ? Result<>() : Result<>(database.error());
    if (ready.has_value()) {
        impl->database = *std::move(database);
        ready = impl->prepare();
    }
    if (ready.has_value()) return std::unique_ptr<Store>(new Store(std::move(impl)));
    auto failure = with_context(std::move(ready.error()), path);
    if (failure.code == EUCLEAN)
        failure.message +=
            ". The file is damaged; nothing was changed. Repair a copy of it on another machine "
            "(sqlite3 graph.db .recover) and put that in its place, or move it away to begin with none";
    if (failure.code == EBUSY) failure.message += ". Another process has it open";
    return failure;
}

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

Result<std::optional<int64_t>> Store::Impl::space_id(std::string_view name) {
    Query query(*database, "SELECT id FROM spaces WHERE name = ?");
    if (TRY(query.text(name).row())) return std::optional(query.number_at(0));
    return std::optional<int64_t>();
}

Result<std::optional<int64_t>> Store::Impl::sequence_of(std::string_view id) {
    auto bytes = id_bytes(id);
    Query query(*database, "SELECT seq FROM entries WHERE id = ?");
    if (TRY(query.blob(bytes).row())) return std::optional(query.number_at(0));
    return std::optional<int64_t>();
}

static uint8_t digit_value(char c) { return static_cast<uint8_t>(c <= '9' ? c - '0' : c - 'a' + 10); }

std::string id_bytes(std::string_view id) {
    std::string bytes;
    for (size_t i = 0; i + 1 < id.size(); i += 2)
        bytes += static_cast<char>(digit_value(id[i]) << 4 | digit_value(id[i + 1]));
    return bytes;
}

std::string id_text(std::string_view bytes) {
    std::string text;
    for (char c : bytes) {
        text += "0123456789abcdef"[static_cast<uint8_t>(c) >> 4];
        text += "0123456789abcdef"[static_cast<uint8_t>(c) & 15];
    }
    return text;
}

} // namespace nullbox::ctxgraph

#include "ctxgraph/database.h"

#include <cerrno>
#include <sqlite3.h>

#include "base/check.h"
#include "base/text.h"

namespace nullbox::ctxgraph {

constexpr int kProgressSteps = 2000; // virtual machine instructions between two looks at the clock

static int errno_of(int code) {
    switch (code & 0xff) {
    case SQLITE_FULL:
        return ENOSPC;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return EUCLEAN;
    case SQLITE_INTERRUPT:
        return ETIME;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return EBUSY;
    default:
        return EIO;
    }
}

Error Database::failure(std::string_view what) const {
    int code = sqlite3_extended_errcode(handle_);
    int system = sqlite3_system_errno(handle_);
    bool full = (code & 0xff) == SQLITE_IOERR && (system == ENOSPC || system == EDQUOT);
    return {.code = full ? ENOSPC : errno_of(code), .message = cat(what, ": ", sqlite3_errmsg(handle_))};
}

// locking_mode EXCLUSIVE comes before WAL, so that the WAL's index is on our heap and there is no -shm file.
// The cache is small: the kernel has one too. secure_delete is Debian's default and doubles what a commit
// writes; history is kept anyway.
constexpr const char* kSettings = "PRAGMA locking_mode=EXCLUSIVE;"
                                  "PRAGMA page_size=4096;"
                                  "PRAGMA journal_mode=WAL;"
                                  "PRAGMA synchronous=FULL;"
                                  "PRAGMA wal_autocheckpoint=256;"
                                  "PRAGMA journal_size_limit=4194304;"
                                  "PRAGMA cache_size=-1024;"
                                  "PRAGMA mmap_size=0;"
                                  "PRAGMA temp_store=MEMORY;"
                                  "PRAGMA trusted_schema=OFF;"
                                  "PRAGMA cell_size_check=ON;"
                                  "PRAGMA secure_delete=OFF;";

Result<std::unique_ptr<Database>> Database::open(const std::string& path) {
    sqlite3* handle = nullptr;
    int code = sqlite3_open_v2(path.c_str(), &handle,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                                   SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE,
                               nullptr);
    if (!handle) return errno_error(ENOMEM, cat("open ", path));
    std::unique_ptr<Database> database(new Database(handle));
    if (code != SQLITE_OK) return database->failure(cat("open ", path));
    sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    sqlite3_db_config(handle, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, nullptr);
    TRY(database->run(kSettings).context(cat("open ", path)));
    return database;
}

Database::~Database() {
    for (auto& [sql, statement] : statements_) sqlite3_finalize(statement);
    sqlite3_close(handle_);
}

Result<> Database::run(const char* sql) {
    if (sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return failure("database");
    return {};
}

bool Database::in_transaction() const { return sqlite3_get_autocommit(handle_) == 0; }
int64_t Database::last_rowid() const { return sqlite3_last_insert_rowid(handle_); }

sqlite3_stmt* Database::prepared(const char* sql) {
    auto& statement = statements_[sql];
    if (!statement) sqlite3_prepare_v3(handle_, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
    return statement;
}

Database::TimeLimit::TimeLimit(Database& database, std::chrono::milliseconds time) : database_(database) {
    database_.deadline_ = std::chrono::steady_clock::now() + time;
    auto late = [](void* self) -> int {
        return std::chrono::steady_clock::now() >= static_cast<Database*>(self)->deadline_;
    };
    sqlite3_progress_handler(database_.handle_, kProgressSteps, late, &database_);
}

Database::TimeLimit::~TimeLimit() { sqlite3_progress_handler(database_.handle_, 0, nullptr, nullptr); }

Query::Query(Database& database, const char* sql)
    : database_(database), sql_(sql), statement_(database.prepared(sql)) {
    // Two runs of one statement at a time would be one run.
    CHECK(!statement_ || !sqlite3_stmt_busy(statement_));
}

Query::~Query() {
    if (!statement_) return;
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
}

Query& Query::text(std::string_view value) {
    // An empty view may have no address, which would bind NULL.
    const char* bytes = value.empty() ? "" : value.data();
    wrong_ |= sqlite3_bind_text64(statement_, ++bound_, bytes, value.size(), SQLITE_STATIC, SQLITE_UTF8) !=
              SQLITE_OK;
    return *this;
}

Query& Query::number(int64_t value) {
    wrong_ |= sqlite3_bind_int64(statement_, ++bound_, value) != SQLITE_OK;
    return *this;
}

Query& Query::blob(std::string_view value) {
    const char* bytes = value.empty() ? "" : value.data();
    wrong_ |= sqlite3_bind_blob64(statement_, ++bound_, bytes, value.size(), SQLITE_STATIC) != SQLITE_OK;
    return *this;
}

Query& Query::null() {
    wrong_ |= sqlite3_bind_null(statement_, ++bound_) != SQLITE_OK;
    return *this;
}

Result<bool> Query::row() {
    if (!statement_ || wrong_) return database_.failure(cat("database: ", sql_));
    int code = sqlite3_step(statement_);
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    return database_.failure("database");
}

Result<> Query::finish() {
    bool more = TRY(row());
    CHECK(!more);
    return {};
}

int64_t Query::number_at(int column) const { return sqlite3_column_int64(statement_, column); }

std::string_view Query::text_at(int column) const {
    const auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_, column));
    auto size = static_cast<size_t>(sqlite3_column_bytes(statement_, column));
    return bytes ? std::string_view(bytes, size) : std::string_view();
}

} // namespace nullbox::ctxgraph

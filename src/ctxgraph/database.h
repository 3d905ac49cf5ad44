// SQLite as the store uses it: one connection of one thread, statements kept, errors as Results with an errno
// value that says what to tell the one who asked: ENOSPC disk full, EUCLEAN damaged, ETIME the time limit,
// EBUSY another process has the file, EIO all else. Internal to src/ctxgraph.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

struct sqlite3;
struct sqlite3_stmt;

namespace nullbox::ctxgraph {

class Database {
public:
    // With our settings: WAL, synchronous FULL, no memory mapping, the file is ours alone while it is open.
    static Result<std::unique_ptr<Database>> open(const std::string& path);
    ~Database();
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;

    Result<> run(const char* sql); // one or more statements, no results
    bool in_transaction() const;
    int64_t last_rowid() const;

    // Until limit is dropped, statements that take longer in all end with ETIME.
    class TimeLimit {
    public:
        TimeLimit(Database& database, std::chrono::milliseconds time);
        ~TimeLimit();
        TimeLimit(const TimeLimit&) = delete;
        TimeLimit& operator=(const TimeLimit&) = delete;

    private:
        Database& database_;
    };

private:
    friend class Query;
    explicit Database(sqlite3* handle) : handle_(handle) {}
    Error failure(std::string_view what) const;
    sqlite3_stmt* prepared(const char* sql);

    sqlite3* handle_;
    std::map<const char*, sqlite3_stmt*> statements_; // by the address of the literal
    std::chrono::steady_clock::time_point deadline_;
};

// One run of a statement; sql is a literal. What is bound must outlive the run.
class Query {
public:
    Query(Database& database, const char* sql);
    ~Query();
    Query(const Query&) = delete;
    Query& operator=(const Query&) = delete;

    Query& text(std::string_view value);
    Query& number(int64_t value);
    Query& blob(std::string_view value);
    Query& null();

    Result<bool> row(); // the next one; false: there is none
    Result<> finish();  // for what has no rows
    int64_t number_at(int column) const;
    std::string_view text_at(int column) const; // or a blob; until the next row()

private:
    Database& database_;
    const char* sql_;
    sqlite3_stmt* statement_;
    int bound_ = 0;
    bool wrong_ = false;
};

} // namespace nullbox::ctxgraph

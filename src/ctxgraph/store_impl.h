// The store's inside, in two files: store_write.cpp adds, store_read.cpp looks. Internal to those and
// store.cpp.
#pragma once

#include "ctxgraph/database.h"
#include "ctxgraph/store.h"

namespace nullbox::ctxgraph {

struct Store::Impl {
    struct Head {
        Entry entry;
        int64_t sequence = 0;
        bool chained = false; // its first parent is the entry before it
    };

    // store.cpp
    Result<> prepare();
    Result<std::optional<int64_t>> space_id(std::string_view name);
    Result<std::optional<int64_t>> sequence_of(std::string_view id);

    // store_write.cpp
    Result<std::vector<Result<Written>>> transaction(std::span<const Write> writes);
    Result<Written> write(const Write& write);
    Result<Written> add(const Write& write, const std::optional<Head>& head);
    Result<int64_t> space_for_writing(const std::string& name);
    Result<> count(const Write& write, size_t bytes);
    Result<> count_one(std::string_view author, size_t bytes, uint64_t most_entries, uint64_t most_bytes,
                       std::string_view whose);
    Result<> index(int64_t space, int64_t sequence, const Entry& entry, bool in);
    Result<> connect(const Write& write, int64_t sequence);

    // store_read.cpp
    Result<std::optional<Head>> head_of(int64_t space, std::string_view key);
    Result<std::optional<Entry>> at(int64_t sequence, int64_t* previous = nullptr);

    std::unique_ptr<Database> database;
    StoreLimits limits;
};

std::string id_bytes(std::string_view id);   // 64 digits to 32 bytes
std::string id_text(std::string_view bytes); // and back

} // namespace nullbox::ctxgraph

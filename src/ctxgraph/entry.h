// One entry of the shared memory, and its id: the SHA-256 of the canonical JSON (RFC 8785) of
//     {"author","key","kind","namespace","parents","value"}
// in 64 lower-case hexadecimal digits. The form is final: docs/ctxgraph.md. Pure.
//
// Entries never change. The entries of one key are a chain, and the first parent of each but the first is the
// one before it. Further parents are entries it was made from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ctxgraph/json.h"

namespace nullbox::ctxgraph {

constexpr size_t kMaxValueBytes = size_t{256} << 10; // canonical
constexpr size_t kMaxValueNesting = 16;
constexpr size_t kMaxKeyBytes = 256;
constexpr size_t kMaxNamespaceBytes = 64;
constexpr size_t kMaxSources = 16; // parents beside the one before it
constexpr size_t kMaxRelationBytes = 32;

enum class Kind { Value, Tombstone, Link };
std::string_view kind_name(Kind kind);
std::optional<Kind> kind_of(std::string_view name);

struct Entry {
    std::string id;
    std::string space; // its namespace
    std::string key;
    Kind kind = Kind::Value;
    std::string value; // canonical JSON; of a tombstone "null"
    std::vector<std::string> parents;
    std::string author; // "agent:NAME" or "operator:NAME", set by the host
    // Not part of what the id stands for:
    int64_t time_ms = 0;   // since 1970, by the host's clock
    uint64_t position = 0; // in its namespace, from 1, in the order of writing
};

std::string canonical(const Entry& entry);
std::string entry_id(const Entry& entry);

// Each is empty when right, else what is right, to be read after the name ("must be ...").
std::string wrong_namespace(std::string_view text);
std::string wrong_key(std::string_view text); // keys that begin with "link:" are links' own
std::string wrong_id(std::string_view text);
std::string wrong_relation(std::string_view text);
// The text of a value in its canonical form, within the bounds; the error's code is EINVAL or E2BIG.
Result<std::string> canonical_value(std::string_view text);
Result<std::string> canonical_value(const Json& value);

// A link says that one entry stands in a relation to another; it is an entry of its own, of the first one's
// namespace. Writing a tombstone to its key takes it back.
std::string link_key(std::string_view from, std::string_view relation, std::string_view to);
std::string link_value(std::string_view from, std::string_view relation, std::string_view to);
struct LinkEnds {
    std::string from, relation, to;
};
std::optional<LinkEnds> parse_link_key(std::string_view key);

} // namespace nullbox::ctxgraph

// What somebody searches for, made safe: words, "phrases" and prefix* become an FTS5 expression
// (sqlite.org/fts5.html, section 3) in which every word stands in quotes, so nothing of it is an operator, a
// column or a syntax error. All words must occur. And the text of a value that is searched. Pure.
#pragma once

#include "ctxgraph/json.h"

namespace nullbox::ctxgraph {

constexpr size_t kMaxQueryBytes = 512;
constexpr size_t kMaxQueryTerms = 16;

// The error is EINVAL's, for who asked.
Result<std::string> fts_expression(std::string_view query);
// Texts, names and numbers of a value, a line each.
std::string searchable(const Json& value);

} // namespace nullbox::ctxgraph

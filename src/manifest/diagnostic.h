// What a parser of configuration says when a document is wrong: where, which key, what is wrong, what would
// be right. A parser reports every mistake it can find in one pass, not only the first.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nullbox::manifest {

struct Diagnostic {
    std::string file;
    uint32_t line = 0; // 1-based; 0 when no line applies (a missing key)
    uint32_t column = 0;
    std::string key;     // "service.cage.exec"; empty for a syntax error
    std::string message; // "must be a list of texts, is a number; for example [\"/system/bin/cage\"]"
};

// "nulld.toml:12:1: service.cage.exec: must be ..."
std::string to_text(const Diagnostic& diagnostic);
std::string to_text(const std::vector<Diagnostic>& diagnostics); // a line each

} // namespace nullbox::manifest

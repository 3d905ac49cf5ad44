#include "manifest/diagnostic.h"

#include "base/text.h"

namespace nullbox::manifest {

std::string to_text(const Diagnostic& diagnostic) {
    std::string out = diagnostic.file;
    if (diagnostic.line != 0) out += cat(":", diagnostic.line, ":", diagnostic.column);
    out += ": ";
    if (!diagnostic.key.empty()) out += cat(diagnostic.key, ": ");
    return out + diagnostic.message;
}

std::string to_text(const std::vector<Diagnostic>& diagnostics) {
    std::string out;
    for (const auto& diagnostic : diagnostics) out += to_text(diagnostic) + "\n";
    return out;
}

} // namespace nullbox::manifest

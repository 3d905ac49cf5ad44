#include "manifest/public_suffix.h"

#include "base/text.h"
#include "manifest/public_suffixes.h"

namespace nullbox::manifest {

// A rule is looked for as a line of the text: a manifest has few wildcards, and the list is short.
static bool has_rule(std::string_view rule) { return kPublicSuffixRules.contains(cat("\n", rule, "\n")); }

bool is_public_suffix(std::string_view name) {
    if (has_rule(name)) return true;
    size_t dot = name.find('.');
    if (dot == std::string_view::npos) return true; // whatever the list knows of it
    // "*.ck": every name directly below, but for the exceptions; and the name itself.
    return has_rule(cat("*.", name)) ||
           (has_rule(cat("*.", name.substr(dot + 1))) && !has_rule(cat("!", name)));
}

} // namespace nullbox::manifest

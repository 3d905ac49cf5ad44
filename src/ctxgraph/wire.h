// Entries, pages and refusals as the JSON that guests see. Internal to src/ctxgraph.
#pragma once

#include "ctxgraph/guest_api.h"

namespace nullbox::ctxgraph {

void append_entry(std::string& out, const Entry& entry);
std::string to_json(const EntryWithLinks& found);             // {"entry":{...},"links":[...]}
std::string to_json(const Page& page);                        // {"entries":[...],"next":"..."}
std::string to_json(const std::vector<NamespaceView>& views); // {"namespaces":[...]}
std::string to_json(const Written& written);                  // {"created":...,"id":...,"position":...}

// {"error":{"code":"not_found","message":"..."}}; the codes: docs/ctxgraph.md.
Response refusal(unsigned status, std::string_view code, std::string_view message);
Response refusal(const Error& failure);
std::string_view code_of(const Error& failure);
constexpr std::string_view kConflictMessage = "the key was written by somebody else since; read it again";

} // namespace nullbox::ctxgraph

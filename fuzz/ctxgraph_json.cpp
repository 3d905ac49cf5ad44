// JSON as an agent sends it: parsing, the canonical text, the value of an entry. What is accepted has one
// canonical text, which parses to itself; Boost.JSON, another reader, must find nothing wrong with it.
#include <boost/json/parse.hpp>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "ctxgraph/entry.h"
#include "ctxgraph/search_query.h"

using namespace nullbox::ctxgraph;

static void check_order(const Json& value) {
    for (size_t i = 0; i + 1 < value.members.size(); i++)
        CHECK(less_utf16(value.members[i].name, value.members[i + 1].name));
    for (const auto& member : value.members) check_order(member.value);
    for (const auto& item : value.items) check_order(item);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    auto value = parse_json(text);
    auto entry_value = canonical_value(text);
    CHECK(!entry_value.has_value() || (value.has_value() && entry_value->size() <= kMaxValueBytes));
    if (!value.has_value()) return 0;
    check_order(*value);
    CHECK(nesting_of(*value) <= 16);
    auto once = canonical(*value);
    auto again = parse_json(once);
    CHECK(again.has_value() && canonical(*again) == once);
    CHECK(valid_utf8(once) && valid_utf8(searchable(*value)));
    boost::json::error_code failure;
    boost::json::parse(once, failure);
    CHECK(!failure);
    Entry entry{.space = "n", .key = once.substr(0, 16), .value = once};
    CHECK(entry_id(entry).size() == 64);
    return 0;
}

// Host names and destinations as anybody may write them. One form: a name that is taken is taken again as
// itself, and holds nothing that another reader could understand differently.
#include <algorithm>

#include "base/check.h"
#include "egress/policy.h"

using namespace nullbox::egress;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    if (auto name = HostName::parse(text)) {
        const auto& form = name->text();
        CHECK(!form.empty() && form.size() <= 253 && !form.ends_with('.') && !form.contains(".."));
        CHECK(std::ranges::all_of(form, [](char c) {
            return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
        }));
        CHECK(HostName::parse(form)->text() == form);
        CHECK(!IpAddress::parse(form));
    }
    if (auto destination = Destination::parse(text)) {
        auto again = Destination::parse(destination->text());
        CHECK(again && again->text() == destination->text());
        CHECK(!Policy().decide(*destination).allowed);
    }
    if (auto policy = Policy::compile({.allow = {std::string(text)}})) CHECK(policy->rules() == 1);
    return 0;
}

// Paths of requests as an agent may write them, against what a server could make of them. A path that has a
// normal form is that form, and stays inside the pattern that covers it, however often it is decoded.
#include <algorithm>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/text.h"
#include "manifest/request_path.h"

using namespace nullbox;
using namespace nullbox::manifest;

// As the most forgiving server would: every encoded byte, once.
static std::string decoded(std::string_view text) {
    auto value = [](char c) { return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10; };
    std::string out;
    for (size_t i = 0; i < text.size(); i++) {
        if (text[i] != '%') {
            out += text[i];
            continue;
        }
        CHECK(i + 2 < text.size());
        out += static_cast<char>(value(text[i + 1]) << 4 | value(text[i + 2]));
        i += 2;
    }
    return out;
}

// Parameters cut off, backslashes turned, empty and dot segments taken out: where a file server would end.
static std::vector<std::string> walked(std::string path) {
    std::ranges::replace(path, '\\', '/');
    std::vector<std::string> out;
    for (auto part : split(path, '/')) {
        auto name = part.substr(0, part.find_first_of(";?#"));
        while (name.ends_with(' ')) name.remove_suffix(1);
        if (name == "..") {
            if (!out.empty()) out.pop_back();
        } else if (!name.empty() && name != ".") {
            out.emplace_back(name);
        }
    }
    return out;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    static const auto kPattern = *RequestPathPattern::parse("/v1/*/x/*");
    if (auto pattern = RequestPathPattern::parse(text)) CHECK(!pattern->matches("v1"));
    auto normal = normal_request_path(text);
    if (!normal) return 0;
    auto again = normal_request_path(*normal);
    CHECK(again && *again == *normal);
    CHECK(std::ranges::all_of(*normal, [](char c) { return c > ' ' && c < 0x7f; }));
    auto raw = decoded(*normal);
    CHECK(!raw.contains('\\') && !raw.contains(';') && !raw.contains('%') && !raw.contains('\0'));
    CHECK(decoded(std::string(text)) == raw);
    if (!kPattern.matches(*normal)) return 0;
    auto end = walked(raw);
    CHECK(end.size() >= 3 && end[0] == "v1" && end[2] == "x");
    return 0;
}

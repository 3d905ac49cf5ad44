// What an HTTP client may send to gate in the places that gate reads itself: verb, target, digest. The first
// line is the verb, the second the target, the rest the digest.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "gate/answer_status.h"
#include "gate/request_target.h"

using namespace nullbox::gate;

static bool is_plain(std::string_view text) {
    return std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
               c == '.';
    });
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view rest(reinterpret_cast<const char*>(data), size);
    auto line = [&] {
        auto end = std::min(rest.find('\n'), rest.size());
        auto found = rest.substr(0, end);
        rest.remove_prefix(std::min(end + 1, rest.size()));
        return found;
    };
    auto verb = line(), target = line();
    auto parsed = parse_target(verb, target);
    // What comes out becomes part of a path of a socket, of a method's name, of a log line.
    CHECK(is_plain(parsed.first) && is_plain(parsed.second));
    CHECK(parsed.first.size() <= 64 && parsed.second.size() <= 64);
    if (parsed.kind == Target::Kind::Call || parsed.kind == Target::Kind::Upload)
        CHECK(!parsed.first.empty() && !parsed.second.empty());
    if (auto digest = parse_digest(rest)) CHECK(digest->size() == 64);
    auto status = status_of_refusal(target);
    CHECK(status >= 400 && status < 600);
    return 0;
}

// What any local process may send to a service's socket: the cutting of the stream, the JSON, the request,
// and the reading of its parameters. Also what a service answers to a client.
#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/value.hpp>
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "varlink/description.h"
#include "varlink/message.h"
#include "varlink/parameters.h"

using namespace nullbox::varlink;

static void read_parameters(const boost::json::object& object) {
    Parameters p(object);
    auto name = p.text_or("name", "none", {.most_bytes = 32});
    CHECK(name.size() <= 32);
    auto lines = p.number_or("lines", 10, {.least = 1, .most = 1000});
    CHECK(lines >= 1 && lines <= 1000);
    p.boolean_or("follow", false);
    CHECK(p.texts_or_none("names", {.most_items = 4}).size() <= 4);
    (void)p.finish();
}

// Fractions are read to within a bit, so they need not survive; no method takes any.
static bool has_fraction(const boost::json::value& value) {
    if (const auto* list = value.if_array()) return std::ranges::any_of(*list, has_fraction);
    if (const auto* object = value.if_object())
        return std::ranges::any_of(*object, [](const auto& entry) { return has_fraction(entry.value()); });
    return value.is_double();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view bytes(reinterpret_cast<const char*>(data), size);
    (void)parse_description(bytes);
    (void)parse_reply(bytes);
    // The first byte says how the stream is cut into packets.
    size_t piece = bytes.empty() ? 1 : 1 + static_cast<uint8_t>(bytes[0]);
    MessageReader reader(4096);
    for (size_t at = bytes.empty() ? 0 : 1; at < bytes.size(); at += piece) {
        reader.feed(bytes.substr(at, piece));
        for (;;) {
            auto message = reader.next();
            if (!message.has_value()) return 0;
            if (!*message) break;
            CHECK((*message)->size() <= 4096);
            auto request = parse_request(**message);
            if (!request.has_value()) continue;
            read_parameters(request->parameters);
            // What is read, written and read again is the same.
            auto written = encode(*request);
            CHECK(written.find('\0') == written.size() - 1);
            auto again = parse_request(std::string_view(written).substr(0, written.size() - 1));
            CHECK(again.has_value());
            CHECK(again->method == request->method);
            CHECK(again->parameters == request->parameters || has_fraction(request->parameters));
        }
    }
    return 0;
}

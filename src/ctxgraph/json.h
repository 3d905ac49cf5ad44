// JSON as agents send it: parsed strictly, written canonically (RFC 8785, JCS). Pure.
//
// What comes in is hostile: nesting, the number of values and the length of numbers are bounded, UTF-8 must
// be valid, lone surrogates and names that occur twice are refused (RFC 7493, I-JSON). A number must be one
// that a double holds: a whole number that would change is refused, fractions become the nearest double. So
// what is accepted has exactly one canonical text, and that text parses to the same value.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nullbox::ctxgraph {

struct Member;

struct Json {
    enum class Kind { Null, Bool, Number, Text, List, Object };
    Kind kind = Kind::Null;
    bool boolean = false;
    std::string text;            // Text: UTF-8. Number: its canonical digits
    std::vector<Json> items;     // List
    std::vector<Member> members; // Object, in canonical order

    bool is(Kind wanted) const { return kind == wanted; }
    const Json* find(std::string_view name) const; // a member's value; nullptr: none, or no object
};

struct Member {
    std::string name;
    Json value;
};

struct JsonBounds {
    size_t nesting = 16; // lists and objects inside one another
    size_t values = 65'536;
};

// The error says what is wrong and at which byte.
Result<Json> parse_json(std::string_view text, const JsonBounds& bounds = {});
size_t nesting_of(const Json& value);

std::string canonical(const Json& value);
void append_canonical(std::string& out, const Json& value);
// A text in quotes, escaped as RFC 8785 section 3.2.2.2 says.
void append_quoted(std::string& out, std::string_view text);
std::string quoted(std::string_view text);

// ECMAScript's Number::toString, which RFC 8785 section 3.2.2.3 asks for. Finite numbers only.
std::string number_text(double value);
// The order of RFC 8785 section 3.2.3: by UTF-16 code units. Both valid UTF-8.
bool less_utf16(std::string_view left, std::string_view right);
bool valid_utf8(std::string_view text);

} // namespace nullbox::ctxgraph

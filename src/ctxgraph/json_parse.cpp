// Reading: RFC 8259 within the bounds of json.h.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/text.h"
#include "ctxgraph/json.h"
#include "ctxgraph/utf8.h"

namespace nullbox::ctxgraph {
namespace {

constexpr size_t kMaxNumberBytes = 400;

class Parser {
public:
    Parser(std::string_view text, const JsonBounds& bounds) : text_(text), left_(text), bounds_(bounds) {}

    Result<Json> document() {
        Json value;
        TRY(parse(value, bounds_.nesting));
        skip_blanks();
        if (!left_.empty()) return wrong("something follows the value");
        return value;
    }

private:
    Error wrong(std::string_view what) const {
        return error(cat("not valid JSON at byte ", text_.size() - left_.size(), ": ", what));
    }
    void skip_blanks() {
        while (!left_.empty() && std::string_view(" \t\r\n").contains(left_.front())) left_.remove_prefix(1);
    }
    bool take(char c) {
        if (left_.empty() || left_.front() != c) return false;
        left_.remove_prefix(1);
        return true;
    }
    bool take(std::string_view word) {
        if (!left_.starts_with(word)) return false;
        left_.remove_prefix(word.size());
        return true;
    }

    Result<> parse(Json& value, size_t deeper) {
        skip_blanks();
        if (++values_ > bounds_.values) return wrong(cat("more than ", bounds_.values, " values"));
        if (left_.empty()) return wrong("it ends too early");
        if (left_.front() == '{' || left_.front() == '[') {
            if (deeper == 0) return wrong(cat("nested deeper than ", bounds_.nesting));
            return take('{') ? parse_object(value, deeper - 1) : parse_list(value, deeper - 1);
        }
        if (left_.front() == '"') {
            value.kind = Json::Kind::Text;
            return parse_text(value.text);
        }
        if (take("null")) return {};
        if (bool yes = take("true"); yes || take("false")) {
            value.kind = Json::Kind::Bool;
            value.boolean = yes;
            return {};
        }
        return parse_number(value);
    }

    Result<> parse_list(Json& value, size_t deeper) {
        value.kind = Json::Kind::List;
        left_.remove_prefix(1);
        skip_blanks();
        if (take(']')) return {};
        do TRY(parse(value.items.emplace_back(), deeper));
        while (next_of_several());
        return take(']') ? Result<>() : wrong("expected , or ]");
    }

    Result<> parse_object(Json& value, size_t deeper) {
        value.kind = Json::Kind::Object;
        skip_blanks();
        if (take('}')) return {};
        do {
            auto& member = value.members.emplace_back();
            skip_blanks();
            if (left_.empty() || left_.front() != '"') return wrong("expected a name in quotes");
            TRY(parse_text(member.name));
            skip_blanks();
            if (!take(':')) return wrong("expected :");
            TRY(parse(member.value, deeper));
        } while (next_of_several());
        if (!take('}')) return wrong("expected , or }");
        std::ranges::sort(value.members, less_utf16, &Member::name);
        auto twice = std::ranges::adjacent_find(value.members, {}, &Member::name);
        if (twice != value.members.end())
            return wrong(cat("the name \"", printable(twice->name, 64), "\" occurs twice"));
        return {};
    }

    bool next_of_several() {
        skip_blanks();
        return take(',');
    }

    Result<> parse_text(std::string& out) {
        left_.remove_prefix(1);
        while (!take('"')) {
            if (left_.empty()) return wrong("a text does not end");
            if (static_cast<unsigned char>(left_.front()) < 0x20)
                return wrong("a control character in a text");
            if (take('\\')) {
                TRY(parse_escape(out));
                continue;
            }
            auto rest = left_;
            if (take_code_point(left_) == kNoCodePoint) return wrong("not valid UTF-8");
            out += rest.substr(0, rest.size() - left_.size());
        }
        return {};
    }

    Result<> parse_escape(std::string& out) {
        static constexpr std::string_view kNames = "\"\\/bfnrt", kMeant = "\"\\/\b\f\n\r\t";
        if (take('u')) {
            auto unit = TRY(parse_hex());
            if (unit >= 0xdc00 && unit < 0xe000) return wrong("half a surrogate pair");
            if (unit >= 0xd800 && unit < 0xdc00) {
                auto low = take("\\u") ? TRY(parse_hex()) : 0;
                if (low < 0xdc00 || low >= 0xe000) return wrong("half a surrogate pair");
                unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            }
            append_code_point(out, unit);
            return {};
        }
        auto which = left_.empty() ? std::string_view::npos : kNames.find(left_.front());
        if (which == std::string_view::npos) return wrong("no such escape");
        out += kMeant[which];
        left_.remove_prefix(1);
        return {};
    }

    Result<uint32_t> parse_hex() {
        uint32_t unit = 0;
        if (left_.size() < 4) return wrong("\\u needs four hexadecimal digits");
        for (char c : left_.substr(0, 4)) {
            auto lower = static_cast<char>(c | 0x20);
            if (c >= '0' && c <= '9')
                unit = unit << 4 | static_cast<uint32_t>(c - '0');
            else if (lower >= 'a' && lower <= 'f')
                unit = unit << 4 | static_cast<uint32_t>(lower - 'a' + 10);
            else
                return wrong("\\u needs four hexadecimal digits");
        }
        left_.remove_prefix(4);
        return unit;
    }

    size_t take_digits() {
        size_t count = 0;
        while (count < left_.size() && left_[count] >= '0' && left_[count] <= '9') count++;
        left_.remove_prefix(count);
        return count;
    }

    Result<> parse_number(Json& value) {
        auto begin = left_;
        take('-');
        bool whole = true;
        if (!take('0') && take_digits() == 0) return wrong("expected a value");
        if (take('.')) {
            whole = false;
            if (take_digits() == 0) return wrong("expected digits after the point");
        }
        if (take('e') || take('E')) {
            whole = false;
            if (!take('+')) take('-');
            if (take_digits() == 0) return wrong("expected digits in the exponent");
        }
        std::string literal(begin.substr(0, begin.size() - left_.size()));
        if (literal.size() > kMaxNumberBytes) return wrong("a number is too long");
        double number = std::strtod(literal.c_str(), nullptr); // correctly rounded; we never set a locale
        bool vanished =
            number == 0 &&
            literal.substr(0, literal.find_first_of("eE")).find_first_of("123456789") != std::string::npos;
        if (!std::isfinite(number) || vanished) return wrong("a number is out of range");
        value.kind = Json::Kind::Number;
        value.text = number_text(number);
        if (whole && value.text != literal && literal != "-0")
            return wrong(cat("the number ", printable(literal, 64), " would become ", value.text,
                             "; send it as a text"));
        return {};
    }

    std::string_view text_, left_;
    JsonBounds bounds_;
    size_t values_ = 0;
};

} // namespace

Result<Json> parse_json(std::string_view text, const JsonBounds& bounds) {
    return Parser(text, bounds).document();
}

} // namespace nullbox::ctxgraph

#include "varlink/description.h"

#include <algorithm>

#include "base/text.h"
#include "varlink/server.h"

namespace nullbox::varlink {

namespace {

constexpr int kMostLevels = 16; // of structs within structs

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Recursive descent; a token is a word or one character of punctuation.
class Parser {
public:
    explicit Parser(std::string_view text) : text_(text) {}

    Result<Description> parse() {
        out_.comment = comment();
        TRY(expect("interface"));
        out_.interface = std::string(TRY(interface_name()));
        while (!next().empty()) TRY(member());
        for (const auto& [name, line] : used_types_)
            if (std::ranges::find(out_.types, name, &Declared::name) == out_.types.end())
                return error(cat("line ", line, ": there is no type ", name));
        if (out_.methods.empty()) return error(cat("interface ", out_.interface, " has no method"));
        return std::move(out_);
    }

private:
    Error wrong(std::string_view wanted) {
        auto found = next();
        auto line = 1 + std::ranges::count(text_.substr(0, position_), '\n');
        return error(cat("line ", line, ": ", wanted, " expected, found ",
                         found.empty() ? "the end" : cat("\"", printable(found, 40), "\"")));
    }

    // The token at the position, after blanks and comments; empty at the end.
    std::string_view next() {
        while (position_ < text_.size()) {
            char c = text_[position_];
            if (c == '#')
                remember_comment();
            else if (c == ' ' || c == '\t' || c == '\n' || c == '\r')
                position_++;
            else
                break;
        }
        auto rest = text_.substr(position_);
        if (rest.starts_with("->") || rest.starts_with("[]")) return rest.substr(0, 2);
        if (rest.starts_with("[string]")) return rest.substr(0, 8);
        size_t length = 0;
        while (length < rest.size() && (is_letter(rest[length]) || is_digit(rest[length]) ||
                                        rest[length] == '_' || rest[length] == '.' || rest[length] == '-')) {
            if (rest.substr(length).starts_with("->")) break;
            length++;
        }
        return rest.substr(0, std::max<size_t>(length, rest.empty() ? 0 : 1));
    }
    // Comment lines that follow each other are one comment; a blank line begins another.
    void remember_comment() {
        auto end = std::min(text_.find('\n', position_), text_.size());
        auto line = text_.substr(position_ + 1, end - position_ - 1);
        bool alone =
            trim(text_.substr(0, position_).substr(text_.substr(0, position_).rfind('\n') + 1)).empty();
        if (!alone || position_ != comment_end_ + 1) comment_.clear();
        if (alone) {
            if (!comment_.empty()) comment_ += '\n';
            comment_ += trim(line);
            comment_end_ = end;
        }
        position_ = end;
    }
    // The one that ends right above the next token.
    std::string comment() {
        auto token = next();
        auto at = token.empty() ? text_.size() : static_cast<size_t>(token.data() - text_.data());
        bool above = !comment_.empty() && at == comment_end_ + 1;
        return above ? std::exchange(comment_, {}) : std::string();
    }

    std::string_view take() {
        auto token = next();
        position_ += token.size();
        return token;
    }
    bool take_if(std::string_view token) {
        if (next() != token) return false;
        position_ += token.size();
        return true;
    }
    Result<> expect(std::string_view token) {
        if (!take_if(token)) return wrong(cat("\"", token, "\""));
        return {};
    }

    Result<std::string_view> interface_name() {
        auto parts = split(next(), '.');
        bool right = parts.size() >= 2;
        for (auto part : parts)
            right &=
                !part.empty() && part.front() != '-' && part.back() != '-' &&
                std::ranges::all_of(part, [](char c) { return is_letter(c) || is_digit(c) || c == '-'; });
        if (!right || !is_letter(parts[0][0])) return wrong("a name such as io.nullbox.cage");
        return take();
    }
    Result<std::string_view> type_name() {
        auto name = next();
        bool right = !name.empty() && name[0] >= 'A' && name[0] <= 'Z' &&
                     std::ranges::all_of(name, [](char c) { return is_letter(c) || is_digit(c); });
        if (!right) return wrong("a name that begins with a capital");
        return take();
    }
    // Letters, digits, single '_' inside.
    Result<std::string_view> field_name() {
        auto name = next();
        bool right =
            !name.empty() && is_letter(name[0]) && name.back() != '_' && !name.contains("__") &&
            std::ranges::all_of(name, [](char c) { return is_letter(c) || is_digit(c) || c == '_'; });
        if (!right) return wrong("a field's name");
        return take();
    }

    Result<std::string> declared_name() {
        auto name = TRY(type_name());
        bool known = std::ranges::contains(out_.methods, name, &MethodForm::name) ||
                     std::ranges::contains(out_.errors, name, &Declared::name) ||
                     std::ranges::contains(out_.types, name, &Declared::name);
        if (known) return error(cat("\"", name, "\" is declared twice"));
        return std::string(name);
    }

    Result<> member() {
        auto above = comment();
        if (take_if("method")) {
            MethodForm method{.name = TRY(declared_name()), .comment = std::move(above)};
            method.in = TRY(structure(0, false)).fields;
            TRY(expect("->"));
            method.out = TRY(structure(0, false)).fields;
            out_.methods.push_back(std::move(method));
        } else if (take_if("error")) {
            Declared declared{.name = TRY(declared_name()), .comment = std::move(above)};
            declared.type = TRY(structure(0, false));
            out_.errors.push_back(std::move(declared));
        } else if (take_if("type")) {
            Declared declared{.name = TRY(declared_name()), .comment = std::move(above)};
            declared.type = TRY(structure(0, true));
            out_.types.push_back(std::move(declared));
        } else {
            return wrong("\"method\", \"error\" or \"type\"");
        }
        return {};
    }

    // "(name: type, ...)", or "(name, ...)" where an enumeration may stand.
    Result<Type> structure(int level, bool may_be_enumeration) {
        if (level > kMostLevels) return wrong("less nesting");
        TRY(expect("("));
        Type out;
        if (take_if(")")) return out;
        std::vector<std::string_view> names;
        do {
            auto name = TRY(field_name());
            if (std::ranges::contains(names, name)) return wrong(cat("another name than ", name));
            names.push_back(name);
            if (names.size() == 1 && may_be_enumeration && next() != ":") out.kind = Type::Kind::Enumeration;
            if (out.kind == Type::Kind::Enumeration) {
                out.values.emplace_back(name);
            } else {
                TRY(expect(":"));
                out.fields.push_back({.name = std::string(name), .type = TRY(type(level))});
            }
        } while (take_if(","));
        TRY(expect(")"));
        return out;
    }

    Result<Type> around(Type::Kind kind, int level) {
        Type out{.kind = kind};
        out.inner.push_back(TRY(type(level + 1)));
        return out;
    }

    Result<Type> type(int level) {
        using Kind = Type::Kind;
        if (level > kMostLevels) return wrong("less nesting");
        if (take_if("?")) {
            if (next() == "?") return wrong("a type");
            return around(Kind::Optional, level);
        }
        if (take_if("[]")) return around(Kind::List, level);
        if (take_if("[string]")) return around(Kind::Map, level);
        if (next() == "(") return structure(level + 1, true);
        constexpr std::pair<std::string_view, Kind> kPlain[] = {{"bool", Kind::Bool},
                                                                {"int", Kind::Int},
                                                                {"float", Kind::Float},
                                                                {"string", Kind::String},
                                                                {"object", Kind::Object}};
        for (const auto& [plain, kind] : kPlain)
            if (take_if(plain)) return Type{.kind = kind};
        auto line = 1 + std::ranges::count(text_.substr(0, position_), '\n');
        auto name = TRY(type_name());
        used_types_.emplace_back(name, line);
        return Type{.kind = Kind::Named, .name = std::string(name)};
    }

    std::string_view text_;
    size_t position_ = 0;
    std::string comment_;
    size_t comment_end_ = std::string_view::npos - 1; // where its last line ends
    std::vector<std::pair<std::string, int64_t>> used_types_;
    Description out_;
};

} // namespace

Result<Description> parse_description(std::string_view text) { return Parser(text).parse(); }

Result<> check_interface(const InterfaceTable& table) {
    auto description = TRY(parse_description(table.description).context(cat("description of ", table.name)));
    if (description.interface != table.name)
        return error(cat("the description is of ", description.interface, ", the table of ", table.name));
    for (const auto& method : table.methods) {
        if (std::erase_if(description.methods, [&](const auto& one) { return one.name == method.name; }) != 1)
            return error(cat("method ", method.name, " is in the table, but not once in the description"));
        if (!method.handle) return error(cat("method ", method.name, " has no handler"));
    }
    if (!description.methods.empty())
        return error(cat("method ", description.methods[0].name, " is described, but not in the table"));
    return {};
}

} // namespace nullbox::varlink

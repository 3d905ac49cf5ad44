#include "ctxgraph/search_query.h"

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "ctxgraph/utf8.h"

namespace nullbox::ctxgraph {

// Punctuation, symbols and emoji beyond ASCII, coarsely: FTS5 sees no word in them, and a phrase without a
// word would match nothing at all. What is missing here costs hits, not safety.
static bool is_symbol(uint32_t point) {
    struct Range {
        uint32_t first, last;
    };
    static constexpr Range kSymbols[] = {
        {0x80, 0xa9},     {0xab, 0xb1},     {0xb4, 0xb4},      {0xb6, 0xb8},     {0xbb, 0xbb},
        {0xbf, 0xbf},     {0xd7, 0xd7},     {0xf7, 0xf7},      {0x2000, 0x206f}, {0x20a0, 0x20ff},
        {0x2190, 0x245f}, {0x2500, 0x2775}, {0x2794, 0x2bff},  {0x3000, 0x3004}, {0x3008, 0x3020},
        {0xfe00, 0xfe0f}, {0xff01, 0xff0f}, {0x1f000, 0x1faff}};
    return std::ranges::any_of(
        kSymbols, [&](const Range& range) { return point >= range.first && point <= range.last; });
}

static bool has_word(std::string_view text) {
    while (!text.empty()) {
        auto point = take_code_point(text), lower = point | 0x20;
        bool ascii_word = (point >= '0' && point <= '9') || (lower >= 'a' && lower <= 'z');
        if (point < 0x80 ? ascii_word : !is_symbol(point)) return true;
    }
    return false;
}

static bool is_blank(char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f; }

static Error wrong(std::string_view what) { return {.code = EINVAL, .message = cat("the search ", what)}; }

namespace {
struct Term {
    std::string text;
    bool prefix = false;
};
} // namespace

static Term take_term(std::string_view& query) {
    Term term;
    if (query.front() == '"') {
        query.remove_prefix(1);
        size_t end = std::min(query.find('"'), query.size()); // one that does not end goes to the end
        term.text = query.substr(0, end);
        query.remove_prefix(std::min(end + 1, query.size()));
    } else {
        size_t end = 0;
        while (end < query.size() && !is_blank(query[end]) && query[end] != '"') end++;
        term.text = query.substr(0, end);
        query.remove_prefix(end);
    }
    if (term.text.ends_with('*') || query.starts_with('*')) {
        term.prefix = true;
        while (term.text.ends_with('*')) term.text.pop_back();
        while (query.starts_with('*')) query.remove_prefix(1);
    }
    for (char& c : term.text)
        if (is_blank(c)) c = ' ';
    return term;
}

Result<std::string> fts_expression(std::string_view query) {
    if (query.size() > kMaxQueryBytes) return wrong(cat("is longer than ", kMaxQueryBytes, " bytes"));
    if (!valid_utf8(query)) return wrong("is not valid UTF-8");
    std::string out;
    size_t terms = 0;
    for (;;) {
        while (!query.empty() && is_blank(query.front())) query.remove_prefix(1);
        if (query.empty()) break;
        auto term = take_term(query);
        if (!has_word(term.text)) continue;
        if (++terms > kMaxQueryTerms)
            return wrong(cat("has more than ", kMaxQueryTerms, " words and phrases"));
        // A shorter prefix stands for a good part of all words.
        if (term.prefix && term.text.size() < 2) return wrong("has a prefix* of less than two letters");
        out += out.empty() ? "\"" : " AND \"";
        for (char c : term.text) out += c == '"' ? "\"\"" : std::string(1, c);
        out += term.prefix ? "\"*" : "\"";
    }
    if (out.empty()) return wrong("has no word in it");
    return out;
}

static void append_searchable(std::string& out, const Json& value) {
    auto line = [&](std::string_view text) {
        out += text;
        out += '\n';
    };
    if (value.is(Json::Kind::Text) || value.is(Json::Kind::Number)) line(value.text);
    for (const auto& item : value.items) append_searchable(out, item);
    for (const auto& member : value.members) {
        line(member.name);
        append_searchable(out, member.value);
    }
}

std::string searchable(const Json& value) {
    std::string out;
    append_searchable(out, value);
    return out;
}

} // namespace nullbox::ctxgraph

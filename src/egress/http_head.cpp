#include "egress/http_head.h"

#include <algorithm>

#include "base/text.h"

namespace nullbox::egress::http {

constexpr size_t kMaxMethodBytes = 32;

static bool is_token_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").contains(c);
}
static bool is_token(std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, is_token_char);
}
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; }

bool same_name(std::string_view one, std::string_view other) {
    return std::ranges::equal(one, other, {}, lower, lower);
}

void Fields::remove(std::string_view name) {
    std::erase_if(fields_, [&](const Field& field) { return same_name(field.name, name); });
}

size_t Fields::count(std::string_view name) const {
    return static_cast<size_t>(
        std::ranges::count_if(fields_, [&](const Field& field) { return same_name(field.name, name); }));
}

std::optional<std::string_view> Fields::find(std::string_view name) const {
    for (const auto& field : fields_)
        if (same_name(field.name, name)) return field.value;
    return std::nullopt;
}

std::vector<std::string> Fields::tokens(std::string_view name) const {
    std::vector<std::string> found;
    for (const auto& field : fields_)
        if (same_name(field.name, name))
            for (auto part : split(field.value, ','))
                if (auto token = trim(part); !token.empty()) found.emplace_back(token);
    return found;
}

bool Fields::has_token(std::string_view name, std::string_view token) const {
    return std::ranges::any_of(tokens(name),
                               [&](const std::string& other) { return same_name(other, token); });
}

std::optional<size_t> head_end(std::string_view bytes) {
    size_t end = bytes.substr(0, kMaxHeadBytes).find("\r\n\r\n");
    return end == std::string_view::npos ? std::nullopt : std::optional(end + 4);
}

static Result<Field> parse_field(std::string_view line) {
    size_t colon = line.find(':');
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon)))
        return error("a header line has no name before a colon, or a blank where none may be");
    auto value = line.substr(colon + 1);
    while (!value.empty() && (value.front() == ' ' || value.front() == '\t')) value.remove_prefix(1);
    while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
    for (char c : value)
        if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f)
            return error("a header's value holds a control character");
    return Field{std::string(line.substr(0, colon)), std::string(value)};
}

// The lines after the first one.
static Result<Fields> parse_fields(std::string_view text) {
    Fields fields;
    while (text != "\r\n") {
        size_t end = text.find("\r\n");
        if (end == std::string_view::npos) return error("the head does not end");
        auto field = TRY(parse_field(text.substr(0, end)));
        if (fields.all().size() == kMaxFields) return error(cat("more than ", kMaxFields, " header lines"));
        fields.add(std::move(field.name), std::move(field.value));
        text.remove_prefix(end + 2);
    }
    return fields;
}

// What the fields say about the body; kind None: nothing.
static Result<Framing> parse_framing(const Fields& fields, int minor) {
    size_t lengths = fields.count("Content-Length"), codings = fields.count("Transfer-Encoding");
    if (lengths + codings > 1)
        return error("the body's length is given more than once (Content-Length, Transfer-Encoding)");
    if (codings == 1) {
        if (minor == 0 || !same_name(*fields.find("Transfer-Encoding"), "chunked"))
            return error("the only transfer coding is chunked, in HTTP/1.1");
        return Framing{.kind = Framing::Kind::Chunked};
    }
    if (lengths == 0) return Framing{};
    auto text = *fields.find("Content-Length");
    auto length = parse_number(text, 0, INT64_MAX);
    if (!length || text.empty() || !std::ranges::all_of(text, is_digit))
        return error("the content length is no number");
    return Framing{.kind = Framing::Kind::Length, .length = static_cast<uint64_t>(*length)};
}

namespace {
struct Head {
    std::string_view line, fields;
};
} // namespace

static Result<Head> split_head(std::string_view head) {
    size_t end = head.find("\r\n");
    if (end == std::string_view::npos || !head.ends_with("\r\n\r\n")) return error("the head does not end");
    // A line feed alone ends a line for some readers and not for others; so with the carriage return.
    for (size_t i = 0; i < head.size(); i++) {
        if (head[i] == '\n' && (i == 0 || head[i - 1] != '\r'))
            return error("a line ends without a carriage return");
        if (head[i] == '\r' && (i + 1 == head.size() || head[i + 1] != '\n'))
            return error("a carriage return stands inside a line");
    }
    return Head{head.substr(0, end), head.substr(end + 2)};
}

static std::optional<int> parse_version(std::string_view text) {
    if (text == "HTTP/1.1") return 1;
    if (text == "HTTP/1.0") return 0;
    return std::nullopt;
}

Result<RequestHead> parse_request(std::string_view text) {
    auto [line, fields] = TRY(split_head(text));
    auto parts = split(line, ' ');
    if (parts.size() != 3 || !is_token(parts[0]) || parts[0].size() > kMaxMethodBytes || parts[1].empty())
        return error("the first line is no HTTP/1.1 request");
    auto visible = [](char c) { return c > ' ' && c < 0x7f; };
    if (!std::ranges::all_of(parts[1], visible))
        return error("the request's target holds a character that is none of a URL");
    auto minor = parse_version(parts[2]);
    if (!minor) return error("the request is of another version than HTTP/1.0 or HTTP/1.1");
    RequestHead head{.method = std::string(parts[0]), .target = std::string(parts[1]), .minor = *minor};
    head.fields = TRY(parse_fields(fields));
    head.framing = TRY(parse_framing(head.fields, head.minor));
    return head;
}

Result<ResponseHead> parse_response(std::string_view text) {
    auto [line, fields] = TRY(split_head(text));
    auto minor = parse_version(line.substr(0, line.find(' ')));
    if (!minor || line.size() < 12 || line[8] != ' ' || (line.size() > 12 && line[12] != ' '))
        return error("the first line is no HTTP/1.1 answer");
    auto status = parse_number(line.substr(9, 3), 100, 599);
    if (!status) return error("the answer's status is no number from 100 to 599");
    ResponseHead head{.minor = *minor, .status = static_cast<unsigned>(*status)};
    if (line.size() > 13) head.reason = printable(line.substr(13), 256);
    head.fields = TRY(parse_fields(fields));
    return head;
}

static bool keeps_alive(const Fields& fields, int minor) {
    if (fields.has_token("Connection", "close")) return false;
    return minor == 1 || fields.has_token("Connection", "keep-alive");
}

bool RequestHead::keep_alive() const { return keeps_alive(fields, minor); }
bool ResponseHead::keep_alive() const { return keeps_alive(fields, minor); }

Result<Framing> ResponseHead::framing(std::string_view method) const {
    auto said = TRY(parse_framing(fields, minor));
    if (method == "HEAD" || status < 200 || status == 204 || status == 304) return Framing{};
    if (said.kind != Framing::Kind::None) return said;
    return Framing{.kind = Framing::Kind::UntilClose};
}

static void append_fields(std::string& out, const Fields& fields) {
    for (const auto& field : fields.all())
        out.append(field.name).append(": ").append(field.value).append("\r\n");
    out += "\r\n";
}

std::string encode(const RequestHead& head) {
    auto out = cat(head.method, " ", head.target, " HTTP/1.", head.minor, "\r\n");
    append_fields(out, head.fields);
    return out;
}

std::string encode(const ResponseHead& head) {
    auto out = cat("HTTP/1.", head.minor, " ", head.status, " ", head.reason, "\r\n");
    append_fields(out, head.fields);
    return out;
}

} // namespace nullbox::egress::http

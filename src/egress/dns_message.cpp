#include "egress/dns_message.h"

#include <algorithm>

#include "base/bytes.h"
#include "base/text.h"

namespace nullbox::egress::dns {

constexpr size_t kHeaderBytes = 12;
constexpr size_t kMaxNameBytes = 255;
constexpr size_t kMaxAliases = 8;
constexpr uint16_t kResponse = 0x8000, kTruncated = 0x0200, kRecursionDesired = 0x0100,
                   kRecursionAvailable = 0x0080;

namespace {

// Big-endian reading of a whole message; names may point back into it.
class Reader {
public:
    explicit Reader(std::span<const std::byte> message) : message_(message) {}
    uint16_t number16() {
        auto b = take(2);
        return failed_ ? uint16_t{0} : static_cast<uint16_t>(byte(b, 0) << 8 | byte(b, 1));
    }
    uint32_t number32() {
        uint32_t high = number16();
        return high << 16 | number16();
    }
    std::span<const std::byte> take(size_t count) {
        if (failed_ || count > message_.size() - at_) {
            failed_ = true;
            return {};
        }
        auto field = message_.subspan(at_, count);
        at_ += count;
        return field;
    }
    // Labels joined by dots, without a dot at the end. A label that holds a dot itself (or NUL, or anything
    // else that is no host name) comes out with '\0' in its place, so that nobody takes it for another name.
    std::string name();
    size_t at() const { return at_; }
    bool failed() const { return failed_; }
    bool at_end() const { return at_ == message_.size(); }

private:
    static uint8_t byte(std::span<const std::byte> bytes, size_t i) { return static_cast<uint8_t>(bytes[i]); }
    bool label(size_t& at, std::string& text);
    std::span<const std::byte> message_;
    size_t at_ = 0;
    bool failed_ = false;
};

// One label; false at the end of the name or on failure.
bool Reader::label(size_t& at, std::string& text) {
    size_t size = byte(message_, at++);
    if (size == 0) return false;
    if (size > 63 || size > message_.size() - at || text.size() + size + 1 > kMaxNameBytes) {
        failed_ = true;
        return false;
    }
    if (!text.empty()) text += '.';
    for (auto b : message_.subspan(at, size)) {
        char c = static_cast<char>(b);
        text += c == '.' ? '\0' : c;
    }
    at += size;
    return true;
}

std::string Reader::name() {
    std::string text;
    size_t at = at_, least = at_; // each pointer must go before where this part of the name began
    bool jumped = false;
    while (!failed_) {
        if (at >= message_.size()) {
            failed_ = true;
        } else if (uint8_t first = byte(message_, at); first >= 0xc0) {
            if (at + 1 >= message_.size()) {
                failed_ = true;
                break;
            }
            size_t target = size_t{first & 0x3fu} << 8 | byte(message_, at + 1);
            if (!jumped) at_ = at + 2;
            jumped = true;
            if (target >= least || target < kHeaderBytes) failed_ = true;
            at = least = target;
        } else if (!label(at, text)) {
            if (!jumped) at_ = at;
            break;
        }
    }
    return failed_ ? std::string() : text;
}

class Writer {
public:
    Writer& number8(uint8_t value) {
        out_.push_back(std::byte{value});
        return *this;
    }
    Writer& number16(uint16_t value) {
        return number8(static_cast<uint8_t>(value >> 8)).number8(static_cast<uint8_t>(value));
    }
    Writer& number32(uint32_t value) {
        return number16(static_cast<uint16_t>(value >> 16)).number16(static_cast<uint16_t>(value));
    }
    Writer& bytes(std::span<const std::byte> bytes) {
        out_.insert(out_.end(), bytes.begin(), bytes.end());
        return *this;
    }
    Writer& name(std::string_view name) {
        for (auto label : split(name, '.')) {
            number8(static_cast<uint8_t>(label.size()));
            bytes(std::as_bytes(std::span(label)));
        }
        return number8(0);
    }
    Writer& opt() { // EDNS, version 0, no options
        return number8(0).number16(kTypeOpt).number16(kMaxUdpBytes).number32(0).number16(0);
    }
    std::vector<std::byte> take() { return std::move(out_); }

private:
    std::vector<std::byte> out_;
};

struct Record {
    std::string name;
    uint16_t type = 0, klass = 0;
    uint32_t ttl = 0;
    std::span<const std::byte> data;
    size_t data_at = 0;
};

Record read_record(Reader& reader) {
    Record record;
    record.name = reader.name();
    record.type = reader.number16();
    record.klass = reader.number16();
    record.ttl = reader.number32();
    auto size = reader.number16();
    record.data_at = reader.at();
    record.data = reader.take(size);
    return record;
}

// The additional section of a query: at most one OPT, nothing else of interest.
std::optional<BadQuery> read_additional(Reader& reader, uint16_t count, Query& query) {
    BadQuery bad{.id = query.id};
    for (unsigned i = 0; i < count; i++) {
        auto record = read_record(reader);
        if (reader.failed() || (record.type == kTypeOpt && (query.edns || !record.name.empty()))) return bad;
        if (record.type != kTypeOpt) continue;
        query.edns = true;
        query.udp_bytes = std::clamp<uint16_t>(record.klass, 512, kMaxUdpBytes);
    }
    return std::nullopt;
}

} // namespace

std::expected<Query, BadQuery> parse_query(std::span<const std::byte> message) {
    Reader reader(message);
    Query query{.id = reader.number16()};
    auto flags = reader.number16();
    uint16_t questions = reader.number16(), answers = reader.number16(), authorities = reader.number16(),
             additional = reader.number16();
    if (reader.failed() || flags & kResponse) return std::unexpected(BadQuery{});
    BadQuery bad{.id = query.id};
    if ((flags >> 11 & 0xf) != 0) return std::unexpected(BadQuery{.id = query.id, .rcode = Rcode::NotImp});
    if (questions != 1 || answers != 0 || authorities != 0 || additional > 2) return std::unexpected(bad);
    query.recursion_desired = flags & kRecursionDesired;
    auto name = reader.name();
    query.type = reader.number16();
    query.klass = reader.number16();
    if (reader.failed()) return std::unexpected(bad);
    auto question = message.subspan(kHeaderBytes, reader.at() - kHeaderBytes);
    query.question.assign(question.begin(), question.end());
    query.shown_name = printable(name, 256);
    if (auto parsed = HostName::parse(name)) query.name = *std::move(parsed);
    if (auto wrong = read_additional(reader, additional, query)) return std::unexpected(*wrong);
    if (!reader.at_end()) return std::unexpected(bad);
    return query;
}

static Writer header(uint16_t id, uint16_t flags, bool question, bool answer, bool opt) {
    Writer out;
    out.number16(id).number16(flags).number16(question).number16(answer).number16(0).number16(opt);
    return out;
}

std::vector<std::byte> answer(const Query& query, Rcode rcode, std::optional<Ip4> address, uint32_t ttl_s) {
    auto flags = static_cast<uint16_t>(kResponse | kRecursionAvailable | static_cast<unsigned>(rcode) |
                                       (query.recursion_desired ? kRecursionDesired : 0u));
    auto out = header(query.id, flags, true, address.has_value(), query.edns);
    out.bytes(query.question);
    if (address)
        out.number16(0xc000 | kHeaderBytes)
            .number16(kTypeA)
            .number16(kClassIn)
            .number32(ttl_s)
            .number16(4)
            .number32(address->value);
    if (query.edns) out.opt();
    return out.take();
}

std::vector<std::byte> answer(const BadQuery& bad) {
    if (!bad.id) return {};
    return header(*bad.id, static_cast<uint16_t>(kResponse | static_cast<unsigned>(bad.rcode)), false, false,
                  false)
        .take();
}

std::vector<std::byte> encode(const UpstreamQuestion& question) {
    auto out = header(question.id, kRecursionDesired, true, false, true);
    out.name(question.spelling).number16(question.type).number16(kClassIn);
    return out.opt().take();
}

static std::string lower(std::string text) {
    for (char& c : text)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
    return text;
}

namespace {
struct Sections {
    std::vector<Record> records;
    std::vector<std::pair<std::string, std::string>> aliases; // whose, to whom
};
} // namespace

static Result<Sections> read_records(Reader& reader, std::span<const std::byte> message, size_t count) {
    Sections sections;
    for (size_t i = 0; i < std::min(count, kMaxRecords); i++) {
        auto record = read_record(reader);
        if (reader.failed()) return error("a record of the answer is broken");
        record.name = lower(std::move(record.name));
        if (record.klass != kClassIn) continue;
        if (record.type == kTypeCname) {
            Reader target(message.first(record.data_at + record.data.size()));
            (void)target.take(record.data_at);
            sections.aliases.emplace_back(record.name, lower(target.name()));
            if (target.failed()) return error("an alias in the answer is broken");
        }
        sections.records.push_back(std::move(record));
    }
    return sections;
}

// The addresses of a name, along its aliases.
static void follow(const Sections& sections, std::string name, uint16_t type, UpstreamAnswer& answer) {
    answer.ttl_s = UINT32_MAX;
    for (size_t step = 0; step <= kMaxAliases; step++) {
        for (const auto& record : sections.records) {
            if (record.name != name || (record.type != type && record.type != kTypeCname)) continue;
            answer.ttl_s = std::min(answer.ttl_s, record.ttl & 0x80000000 ? 0 : record.ttl);
            if (record.type != type) continue;
            auto address = IpAddress::from_bytes(record.data);
            if (address && address->v6 == (type == kTypeAaaa)) answer.addresses.push_back(*address);
        }
        auto next = std::ranges::find(sections.aliases, name, &std::pair<std::string, std::string>::first);
        if (!answer.addresses.empty() || next == sections.aliases.end()) break;
        name = next->second;
    }
    if (answer.addresses.empty()) answer.ttl_s = 0;
}

Result<UpstreamAnswer> parse_answer(std::span<const std::byte> message, const UpstreamQuestion& question) {
    Reader reader(message);
    auto id = reader.number16(), flags = reader.number16(), questions = reader.number16(),
         answers = reader.number16();
    (void)reader.number32(); // authority and additional: nothing we take from there
    auto name = reader.name();
    auto type = reader.number16(), klass = reader.number16();
    if (reader.failed() || id != question.id || !(flags & kResponse) || questions != 1 ||
        name != question.spelling || type != question.type || klass != kClassIn)
        return error("not the answer to this question");
    UpstreamAnswer answer{.rcode = static_cast<Rcode>(flags & 0xf), .truncated = (flags & kTruncated) != 0};
    if (answer.truncated || answer.rcode != Rcode::NoError) return answer;
    auto sections = TRY(read_records(reader, message, answers));
    follow(sections, lower(question.spelling), type, answer);
    return answer;
}

} // namespace nullbox::egress::dns

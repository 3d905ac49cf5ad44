#include "egress/records.h"

#include <algorithm>
#include <array>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "egress/record_json.h"
#include "varlink/answer.h"

namespace nullbox::egress {

namespace json = boost::json;
using varlink::text_or_null;

constexpr auto kRepeatTime = std::chrono::seconds(60);
constexpr size_t kMaxRepeats = 512;
constexpr std::array<std::string_view, 6> kKinds = {"lookup", "connection", "request",
                                                    "packet", "summary",    "budget"};
constexpr std::array<std::string_view, 4> kVerdicts = {"allowed", "denied", "failed", "ended"};

std::string_view name_of(RecordKind kind) { return kKinds[static_cast<size_t>(kind)]; }
std::string_view name_of(Verdict verdict) { return kVerdicts[static_cast<size_t>(verdict)]; }

json::object to_json(const Record& record) {
    return {{"sequence", record.sequence},
            {"time_ms", record.time_ms},
            {"agent", record.agent},
            {"kind", name_of(record.kind)},
            {"verdict", name_of(record.verdict)},
            {"name", text_or_null(record.name)},
            {"address", text_or_null(record.address)},
            {"port", record.port ? json::value(record.port) : json::value()},
            {"rule", text_or_null(record.rule)},
            {"reason", text_or_null(record.reason)},
            {"add", text_or_null(record.add)},
            {"method", text_or_null(record.method)},
            {"path", text_or_null(record.path)},
            {"count", record.count},
            {"bytes_up", record.bytes_up},
            {"bytes_down", record.bytes_down}};
}

std::string to_line(const Record& record) { return json::serialize(to_json(record)); }

static std::string text_of(const json::object& object, const char* name) {
    const auto* value = object.if_contains(name);
    return value && value->is_string() ? std::string(value->get_string()) : std::string();
}

static uint64_t number_of(const json::object& object, const char* name) {
    const auto* value = object.if_contains(name);
    return value && value->is_int64() && value->get_int64() > 0 ? static_cast<uint64_t>(value->get_int64())
                                                                : 0;
}

template <typename Enum, size_t N>
static bool read_name(const json::object& object, const char* name,
                      const std::array<std::string_view, N>& names, Enum& out) {
    auto found = std::ranges::find(names, text_of(object, name));
    if (found == names.end()) return false;
    out = static_cast<Enum>(found - names.begin());
    return true;
}

// Our own file; but a line may be cut where the power went.
std::optional<Record> from_line(std::string_view line) {
    boost::system::error_code wrong;
    auto value = json::parse({line.data(), line.size()}, wrong);
    if (wrong || !value.is_object()) return std::nullopt;
    const auto& object = value.get_object();
    Record record;
    if (!read_name(object, "kind", kKinds, record.kind) ||
        !read_name(object, "verdict", kVerdicts, record.verdict))
        return std::nullopt;
    record.sequence = number_of(object, "sequence");
    record.time_ms = static_cast<int64_t>(number_of(object, "time_ms"));
    record.agent = text_of(object, "agent");
    record.name = text_of(object, "name");
    record.address = text_of(object, "address");
    record.port = static_cast<uint16_t>(number_of(object, "port"));
    record.rule = text_of(object, "rule");
    record.reason = text_of(object, "reason");
    record.add = text_of(object, "add");
    record.method = text_of(object, "method");
    record.path = text_of(object, "path");
    record.count = number_of(object, "count");
    record.bytes_up = number_of(object, "bytes_up");
    record.bytes_down = number_of(object, "bytes_down");
    return record;
}

RecordBook::RecordBook(Options options) : options_(std::move(options)) {
    if (options_.path.empty()) return;
    load(options_.path + ".1");
    load(options_.path);
    if (auto opened = open(); !opened) {
        problem_ = cat("records are kept in memory only: ", opened.error().message);
        log_warning(problem_);
    }
}

void RecordBook::load(const std::string& path) {
    auto content = read_file(path, options_.most_file_bytes * 2);
    if (!content) return; // none yet
    for (auto line : split(*content, '\n')) {
        auto record = from_line(line);
        if (!record) continue;
        next_sequence_ = std::max(next_sequence_, record->sequence + 1);
        records_.push_back(*std::move(record));
        if (records_.size() > options_.most_in_memory) records_.pop_front();
    }
}

Result<> RecordBook::open() {
    file_ = Fd(::open(options_.path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file_) return errno_error(cat("open ", options_.path));
    struct stat facts{};
    if (::fstat(file_.get(), &facts) < 0) return errno_error(cat("look at ", options_.path));
    file_bytes_ = static_cast<size_t>(facts.st_size);
    char last = '\n';
    torn_ = facts.st_size > 0 && ::pread(file_.get(), &last, 1, facts.st_size - 1) == 1 && last != '\n';
    return {};
}

Result<> RecordBook::rotate() {
    file_.reset();
    if (::rename(options_.path.c_str(), (options_.path + ".1").c_str()) < 0)
        return errno_error(cat("rename ", options_.path));
    return open();
}

Result<> RecordBook::append_to_file(const std::string& line) {
    if (!file_) TRY(open());
    if (file_bytes_ + line.size() > options_.most_file_bytes) TRY(rotate());
    // A line that the disk had no room for, or that a power cut tore, ends before the next one begins.
    auto text = torn_ ? "\n" + line : line;
    auto count = ::write(file_.get(), text.data(), text.size());
    if (count < 0) return errno_error(cat("write to ", options_.path));
    file_bytes_ += static_cast<size_t>(count);
    torn_ = static_cast<size_t>(count) < text.size();
    if (torn_) return errno_error(ENOSPC, cat("write to ", options_.path));
    unsynced_ = true;
    return {};
}

void RecordBook::append(const std::string& line) {
    if (options_.path.empty()) return;
    auto written = append_to_file(line);
    auto said = written ? std::string() : cat("a record was not written: ", written.error().message);
    if (!said.empty() && problem_.empty()) log_warning(said);
    problem_ = said;
}

void RecordBook::write(Record record) {
    record.sequence = next_sequence_++;
    record.time_ms = options_.now_ms();
    append(to_line(record) + "\n");
    records_.push_back(record);
    if (records_.size() > options_.most_in_memory) records_.pop_front();
    // A follower may leave while it is told.
    std::vector<uint64_t> ids;
    for (const auto& [id, follower] : followers_) ids.push_back(id);
    for (auto id : ids)
        if (auto found = followers_.find(id); found != followers_.end()) {
            auto follower = found->second;
            follower(record);
        }
}

void RecordBook::write_counted(Record record) {
    auto now = options_.now();
    auto [rate, added] =
        rates_.try_emplace(RateKey{record.agent, record.kind, record.verdict == Verdict::Denied},
                           Rate{.budget = TokenBucket(options_.burst, options_.per_second), .said = now});
    if (rate->second.budget.take(now))
        write(std::move(record));
    else
        rate->second.left_out++;
}

// Whether the record was only counted, because its like was written a moment ago.
bool RecordBook::repeats(const Record& record) {
    bool connection = record.kind == RecordKind::Connection &&
                      (record.verdict == Verdict::Allowed || record.verdict == Verdict::Ended);
    if (connection) return false;
    auto key =
        cat(record.agent, '\0', name_of(record.kind), '\0', name_of(record.verdict), '\0', record.name, '\0',
            record.address, '\0', record.port, '\0', record.reason, '\0', record.method, '\0', record.path);
    if (auto found = repeats_.find(key); found != repeats_.end()) {
        found->second.more++;
        return true;
    }
    if (repeats_.size() < kMaxRepeats)
        repeats_.emplace(key, Repeat{.since = options_.now(), .record = record});
    return false;
}

void RecordBook::add(Record record) {
    if (!repeats(record)) write_counted(std::move(record));
}

void RecordBook::tick() {
    auto now = options_.now();
    std::vector<Record> due;
    std::erase_if(repeats_, [&](auto& entry) {
        auto& repeat = entry.second;
        if (now - repeat.since < kRepeatTime) return false;
        if (repeat.more > 0) {
            repeat.record.count = repeat.more;
            due.push_back(std::move(repeat.record));
        }
        return true;
    });
    for (auto& record : due) write_counted(std::move(record));
    for (auto& [key, rate] : rates_) {
        if (rate.left_out == 0 || now - rate.said < kRepeatTime) continue;
        const auto& [agent, kind, denied] = key;
        write({.agent = agent,
               .kind = RecordKind::Summary,
               .verdict = denied ? Verdict::Denied : Verdict::Allowed,
               .reason = cat(rate.left_out, " more records of kind ", name_of(kind),
                             " were left out: too many at once"),
               .count = rate.left_out});
        rate.left_out = 0;
        rate.said = now;
    }
    std::erase_if(rates_,
                  [&](auto& entry) { return entry.second.left_out == 0 && entry.second.budget.full(now); });
    if (std::exchange(unsynced_, false) && file_) ::fdatasync(file_.get());
}

std::vector<Record> RecordBook::last(size_t count, const std::function<bool(const Record&)>& matches) const {
    std::vector<Record> found;
    for (auto at = records_.rbegin(); at != records_.rend() && found.size() < count; ++at)
        if (matches(*at)) found.push_back(*at);
    std::ranges::reverse(found);
    return found;
}

uint64_t RecordBook::follow(Follower follower) {
    followers_.emplace(next_follower_, std::move(follower));
    return next_follower_++;
}

void RecordBook::unfollow(uint64_t id) { followers_.erase(id); }

} // namespace nullbox::egress

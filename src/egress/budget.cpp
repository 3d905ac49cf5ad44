#include "egress/budget.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

namespace nullbox::egress {

namespace json = boost::json;

// So much of a limit may be used before the file is written again.
constexpr uint64_t kWrites = 64;
constexpr std::array<std::string_view, kResources> kNames = {"bytes", "connections", "requests"};
constexpr size_t kMaxFileBytes = size_t{4} << 20;
constexpr int64_t kMinuteMs = 60'000;

std::string_view name_of(Resource resource) { return kNames[static_cast<size_t>(resource)]; }

uint64_t Budget::limit(Resource resource) const {
    switch (resource) {
    case Resource::Bytes:
        return bytes;
    case Resource::Connections:
        return connections;
    case Resource::Requests:
        return requests;
    }
    return 0;
}

static int64_t minute_of(Clock::time_point now) {
    return std::chrono::floor<std::chrono::minutes>(now.time_since_epoch()).count();
}

// The count, with the minutes that are too old taken out.
Ledger::Count& Ledger::count(Resource resource, Clock::time_point now) {
    auto minute = std::max(minute_of(now), minute_);
    auto passed = std::min<int64_t>(minute - minute_, kMinutes);
    for (auto& each : counts_)
        for (int64_t i = 0; i < passed; i++) {
            auto& old = each.minutes[static_cast<size_t>(minute - i) % kMinutes];
            each.sum -= old;
            old = 0;
        }
    minute_ = minute;
    return counts_[static_cast<size_t>(resource)];
}

void Ledger::add(Count& count, size_t minutes_ago, uint64_t amount) {
    amount = std::min(amount, UINT64_MAX - count.sum);
    count.minutes[(static_cast<size_t>(minute_) + kMinutes - minutes_ago) % kMinutes] += amount;
    count.sum += amount;
}

bool Ledger::take(Resource resource, uint64_t amount, const Budget& budget, Clock::time_point now) {
    auto& count = this->count(resource, now);
    auto limit = budget.limit(resource);
    auto left = limit == 0 ? UINT64_MAX : limit - std::min(limit, count.sum);
    bool allowed = amount <= left;
    auto added = allowed ? amount : left;
    add(count, 0, added);
    count.unwritten = std::min(count.unwritten, UINT64_MAX - added) + added;
    if (limit == 0 || added == 0 || count.unwritten < count.ahead) return allowed;
    count.ahead = std::max<uint64_t>(1, limit / kWrites);
    if (write_) write_();
    return allowed;
}

uint64_t Ledger::used(Resource resource, Clock::time_point now) { return count(resource, now).sum; }

bool Ledger::tells(Resource resource, Clock::time_point now) {
    auto& told = count(resource, now).told;
    if (told && now - *told < std::chrono::hours(1)) return false;
    told = now;
    return true;
}

bool Ledger::unused(Clock::time_point now) {
    count(Resource::Bytes, now);
    return std::ranges::all_of(counts_, [](const Count& count) { return count.sum == 0; });
}

Budgets::Budgets(Options options) : options_(std::move(options)) {
    if (!options_.path.empty()) load();
}

Budgets::~Budgets() {
    write(false);
    for (auto& [name, ledger] : ledgers_) ledger->write_ = nullptr; // agents may hold it a moment longer
}

std::shared_ptr<Ledger> Budgets::of(const std::string& agent) {
    auto& ledger = ledgers_[agent];
    if (!ledger) {
        ledger = std::make_shared<Ledger>();
        ledger->minute_ = minute_of(options_.now());
        ledger->write_ = [this] { write(true); };
    }
    return ledger;
}

void Budgets::tick() {
    auto now = options_.now();
    auto is_due = [](const auto& entry) {
        return std::ranges::any_of(entry.second->counts_, [](const Ledger::Count& count) {
            return count.ahead > 0 && count.unwritten > 0;
        });
    };
    // What was ahead is of the minute it was written in; what is used later is younger.
    if (minute_of(now) != written_ && std::ranges::any_of(ledgers_, is_due)) write(true);
    std::erase_if(ledgers_,
                  [&](auto& entry) { return entry.second.use_count() == 1 && entry.second->unused(now); });
}

// {"time_ms": ..., "agents": {"researcher": {"bytes": [[minutes ago, amount], ...], ...}}}
void Budgets::write(bool ahead) {
    if (options_.path.empty()) return;
    json::object agents;
    auto now = options_.now();
    for (auto& [name, ledger] : ledgers_) {
        if (ledger->unused(now)) continue;
        json::object counts;
        for (size_t which = 0; which < kResources; which++) {
            auto& count = ledger->counts_[which];
            json::array minutes;
            for (size_t ago = 0; ago < Ledger::kMinutes; ago++) {
                auto at = (static_cast<size_t>(ledger->minute_) + Ledger::kMinutes - ago) % Ledger::kMinutes;
                auto amount = count.minutes[at] + (ahead && ago == 0 ? count.ahead : 0);
                if (amount > 0) minutes.push_back(json::array{ago, amount});
            }
            count.unwritten = 0;
            counts[kNames[which]] = std::move(minutes);
        }
        agents[name] = std::move(counts);
    }
    auto text = json::serialize(json::object{{"time_ms", options_.now_ms()}, {"agents", std::move(agents)}});
    written_ = minute_of(now);
    auto written = write_file_atomic(options_.path, text, 0600);
    auto said =
        written ? std::string() : cat("budgets are counted in memory only: ", written.error().message);
    if (!said.empty() && problem_.empty()) log_warning(said);
    problem_ = said;
}

static uint64_t number_in(const json::value& value) {
    if (value.is_uint64()) return value.get_uint64();
    return value.is_int64() && value.get_int64() > 0 ? static_cast<uint64_t>(value.get_int64()) : 0;
}

// Our own file. What is in it counts as used, at the age it has by the wall clock; a clock that went back
// makes nothing younger than now and nothing older than it was.
void Budgets::load() {
    auto text = read_file(options_.path, kMaxFileBytes);
    if (!text) return; // none yet
    boost::system::error_code wrong;
    auto value = json::parse(*text, wrong);
    const auto* object = wrong ? nullptr : value.if_object();
    const auto* agents = object ? object->if_contains("agents") : nullptr;
    const auto* time = object ? object->if_contains("time_ms") : nullptr;
    if (!agents || !agents->is_object() || !time || !time->is_int64()) {
        problem_ = cat(options_.path, " is not readable: budgets begin anew");
        return log_warning(problem_);
    }
    auto passed_ms = std::max<int64_t>(0, options_.now_ms() - time->get_int64());
    auto passed = static_cast<uint64_t>(passed_ms / kMinuteMs);
    for (const auto& [name, counts] : agents->get_object()) {
        if (!counts.is_object()) continue;
        auto ledger = of(std::string(name));
        for (size_t which = 0; which < kResources; which++) {
            const auto* minutes = counts.get_object().if_contains(kNames[which]);
            if (!minutes || !minutes->is_array()) continue;
            for (const auto& item : minutes->get_array()) {
                const auto* pair = item.if_array();
                if (!pair || pair->size() != 2) continue;
                auto ago = number_in((*pair)[0]) + std::min<uint64_t>(passed, Ledger::kMinutes);
                if (ago < Ledger::kMinutes) ledger->add(ledger->counts_[which], ago, number_in((*pair)[1]));
            }
        }
    }
}

} // namespace nullbox::egress

#include "agent_start.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <optional>
#include <thread>

#include "base/loop.h" // Clock
#include "base/text.h"
#include "varlink/client.h"

namespace nullbox::bench {

namespace json = boost::json;

constexpr auto kLimit = std::chrono::seconds(100); // within that of who asks the observer

static std::string text_of(const json::object& object, std::string_view key) {
    const auto* value = object.if_contains(key);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

namespace {
// Two connections, because Start answers only when the command runs, and its first line may come before that.
struct Attempt {
    std::string socket, name;
    Clock::time_point begin, end;
    std::optional<std::string> line;
    std::string said; // what cage and the VM said meanwhile: why no line came
    Result<> started;
    std::thread starter;

    void ask() {
        auto client = varlink::Client::connect(socket);
        if (!client) {
            started = client.error();
            return;
        }
        auto answer = client->call("io.nullbox.cage.Start", {{"name", name}}, kLimit);
        if (!answer) started = answer.error();
    }
    // One answer of Logs. The first, empty one says that cage will tell us of every line to come.
    bool hear(const json::object& answer) {
        if (!starter.joinable()) {
            begin = Clock::now();
            starter = std::thread([this] { ask(); });
            return true;
        }
        const auto* lines = answer.if_contains("lines");
        if (lines == nullptr || !lines->is_array()) return true;
        bool failed = false;
        for (const auto& one : lines->get_array()) {
            if (!one.is_object() || line) continue;
            if (text_of(one.get_object(), "stream") == "stdout") {
                line = text_of(one.get_object(), "text");
                end = Clock::now();
            } else {
                auto text = text_of(one.get_object(), "text");
                failed |= text_of(one.get_object(), "stream") == "cage" && text.starts_with("failed");
                said += cat("; ", text);
            }
        }
        return !line && !failed; // one that failed says nothing more
    }
};
} // namespace

static Result<> wait_for_first_line(Attempt& attempt) {
    auto follower = TRY(varlink::Client::connect(attempt.socket));
    auto followed = follower.call_more(
        "io.nullbox.cage.Logs", {{"name", attempt.name}, {"lines", 0}, {"follow", true}},
        [&](const json::object& answer) { return attempt.hear(answer); }, kLimit);
    if (attempt.starter.joinable()) attempt.starter.join();
    TRY(std::move(attempt.started).context("start the agent"));
    TRY(std::move(followed).context(cat("follow the agent's log", attempt.said)));
    if (!attempt.line) return error(cat("the agent's log ended without a line of the agent's", attempt.said));
    return {};
}

static Result<int64_t> vm_pid(const json::object& status) {
    const auto* agent = status.if_contains("agent");
    const auto* pid =
        agent != nullptr && agent->is_object() ? agent->get_object().if_contains("vm_pid") : nullptr;
    if (pid == nullptr || !pid->is_int64() || pid->get_int64() <= 0) return error("the agent has no VM");
    return pid->get_int64();
}

Result<AgentStart> start_agent(const std::string& socket, const std::string& name) {
    Attempt attempt{.socket = socket, .name = name};
    auto waited = wait_for_first_line(attempt);
    auto client = TRY(varlink::Client::connect(socket));
    auto status = client.call("io.nullbox.cage.Status", {{"name", name}}, kLimit);
    // One that ended at its line has no VM any more.
    auto pid = status ? vm_pid(*status) : status.error();
    auto resident = pid ? resident_kb(*pid) : Result<int64_t>(0);
    auto cpu = pid ? cpu_ms(*pid) : Result<double>(0);
    auto stopped = client.call("io.nullbox.cage.Stop", {{"name", name}, {"grace_ms", 1000}}, kLimit);
    TRY(std::move(waited));
    if (!status) return status.error();
    if (!stopped) return stopped.error();
    return AgentStart{
        .first = {.after_ms = std::chrono::duration<double, std::milli>(attempt.end - attempt.begin).count(),
                  .process_kb = TRY(std::move(resident).context("the VM process")),
                  .cpu_ms = TRY(std::move(cpu).context("the VM process")),
                  .line = *attempt.line},
        .status = *std::move(status)};
}

// From the first request to the last one's first line. The first that does not come is the error.
static Result<double> start_all(const std::string& socket, const std::vector<std::string>& names,
                                Order order) {
    std::vector<Attempt> attempts(names.size());
    std::vector<Result<>> waited(names.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < names.size(); i++) {
        attempts[i].socket = socket;
        attempts[i].name = names[i];
        threads.emplace_back([&, i] { waited[i] = wait_for_first_line(attempts[i]); });
        if (order == Order::InARow) threads.back().join();
    }
    for (auto& thread : threads)
        if (thread.joinable()) thread.join();
    for (size_t i = 0; i < names.size(); i++) TRY(std::move(waited[i]).context(names[i]));
    auto begin = std::ranges::min_element(attempts, {}, &Attempt::begin)->begin;
    auto end = std::ranges::max_element(attempts, {}, &Attempt::end)->end;
    return std::chrono::duration<double, std::milli>(end - begin).count();
}

static Result<> stop_all(varlink::Client& client, const std::vector<std::string>& names) {
    for (const auto& name : names)
        TRY(client.call("io.nullbox.cage.Stop", {{"name", name}, {"grace_ms", 0}}, kLimit));
    return {};
}

Result<double> start_agents(const std::string& socket, const std::vector<std::string>& names, Order order) {
    auto took = start_all(socket, names, order);
    auto client = TRY(varlink::Client::connect(socket));
    TRY(stop_all(client, names));
    return took;
}

static Result<Activity> activity_of_all(varlink::Client& client, const std::vector<std::string>& names) {
    Activity all;
    for (const auto& name : names) {
        auto status = TRY(client.call("io.nullbox.cage.Status", {{"name", name}}, kLimit));
        auto pid = TRY(vm_pid(status).context(name));
        auto one = TRY(activity(pid));
        all.wakeups += one.wakeups;
        all.cpu_ms += one.cpu_ms;
    }
    return all;
}

static Result<Activity> rest(const std::string& socket, const std::vector<std::string>& names,
                             std::chrono::seconds settle, std::chrono::seconds watch) {
    auto client = TRY(varlink::Client::connect(socket));
    std::this_thread::sleep_for(settle);
    auto before = TRY(activity_of_all(client, names));
    std::this_thread::sleep_for(watch);
    auto after = TRY(activity_of_all(client, names));
    auto per_agent_second = static_cast<double>(names.size()) * static_cast<double>(watch.count());
    return Activity{.wakeups = (after.wakeups - before.wakeups) / per_agent_second,
                    .cpu_ms = (after.cpu_ms - before.cpu_ms) / per_agent_second};
}

Result<Activity> idle_agents(const std::string& socket, const std::vector<std::string>& names,
                             std::chrono::seconds settle, std::chrono::seconds watch) {
    auto started = start_all(socket, names, Order::AtOnce);
    auto rested = started ? rest(socket, names, settle, watch) : started.error();
    auto client = TRY(varlink::Client::connect(socket));
    TRY(stop_all(client, names));
    return rested;
}

} // namespace nullbox::bench

#include "cage/agent_status.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <ctime>

#include "base/text.h"
#include "cage/agent.h"
#include "varlink/answer.h"

namespace nullbox::cage {

namespace json = boost::json;
using varlink::text_or_null;

static json::value number_or_null(int64_t value) {
    return value < 0 ? json::value(nullptr) : json::value(value);
}

json::object agent_summary(const Agent& agent) {
    const auto& manifest = agent.entry().manifest;
    return {{"name", agent.entry().name},
            {"state", state_name(agent.life().state())},
            {"describe", printable(agent.life().describe())},
            {"health", agent.health()},
            {"image", manifest ? manifest->image : ""},
            {"version", manifest ? manifest->version : ""}};
}

// On the clock as it is now: one that was set since then moves what was before.
static json::value wall_clock_ms(Clock::time_point when) {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000 +
           (when - Clock::now()) / std::chrono::milliseconds(1);
}

static void add_times(const Agent& agent, json::object& answer) {
    auto run = agent.last_run();
    bool runs = agent.life().alive() && agent.life().state() != State::Starting;
    answer["started_at_ms"] = run ? wall_clock_ms(run->began) : json::value(nullptr);
    answer["uptime_ms"] = run && runs ? json::value((run->ended - run->began) / std::chrono::milliseconds(1))
                                      : json::value(nullptr);
    answer["cpu_time_ms"] = agent.cpu_time() / std::chrono::milliseconds(1);
}

json::object agent_status(const Agent& agent) {
    auto answer = agent_summary(agent);
    const auto& manifest = agent.entry().manifest;
    const auto& end = agent.life().command_end();
    const auto& times = agent.start_times();
    bool exited = end && agent.life().state() == State::Exited;
    const auto& last = agent.life().last_end();
    const auto* next = agent.next_entry();
    answer["manifest"] = agent.entry().manifest_path;
    answer["diagnostics"] = next ? next->diagnostics : agent.entry().diagnostics;
    answer["changed"] = next != nullptr;
    answer["waits_for"] = text_or_null(printable(agent.life().waits_for()));
    answer["started_anew_because"] = text_or_null(printable(agent.life().lost()));
    answer["address"] = text_or_null(agent.address());
    answer["max_memory_mb"] = manifest ? manifest->max_memory_mb : 0;
    answer["max_cpu_percent"] = manifest ? manifest->max_cpu_percent : 0;
    answer["exit_code"] = number_or_null(exited && !end->by_signal ? int64_t{end->value} : -1);
    answer["exit_signal"] = number_or_null(exited && end->by_signal ? int64_t{end->value} : -1);
    answer["reason"] = last ? json::value(end_reason_name(last->reason)) : json::value(nullptr);
    answer["last_end"] = text_or_null(last ? printable(last->text) : "");
    answer["restarts"] = agent.life().restarts();
    answer["next_start_ms"] = agent.next_try() ? wall_clock_ms(*agent.next_try()) : json::value(nullptr);
    add_times(agent, answer);
    answer["vcpus"] = manifest ? manifest->vcpus() : 0;
    answer["vm_pid"] = number_or_null(agent.vm_pid() > 0 ? agent.vm_pid() : -1);
    answer["vm_memory_bytes"] =
        number_or_null(agent.vm_pid() > 0 ? static_cast<int64_t>(agent.vm_memory_bytes()) : -1);
    answer["start_to_first_output_ms"] = number_or_null(times.first_output_ms);
    answer["start_times_ms"] = json::object{{"vm_spawned", number_or_null(times.vm_spawned_ms)},
                                            {"vm_started", number_or_null(times.vm_started_ms)},
                                            {"guest_hello", number_or_null(times.guest_hello_ms)},
                                            {"command_started", number_or_null(times.command_started_ms)},
                                            {"first_output", number_or_null(times.first_output_ms)}};
    answer["log_lines"] = agent.log().size();
    answer["log_lines_dropped"] = agent.log().dropped();
    return answer;
}

} // namespace nullbox::cage

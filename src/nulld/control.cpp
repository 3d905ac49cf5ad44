#include "nulld/control.h"

#include <boost/json.hpp>
#include <sys/utsname.h>

#include "base/file.h"
#include "base/text.h"
#include "nulld/io.nullbox.nulld.varlink.h"
#include "nulld/mounts.h"
#include "nulld/process_facts.h"
#include "nulld/system.h"
#include "varlink/answer.h"
#include "varlink/parameters.h"
#include "varlink/server.h"

namespace nullbox::nulld {

namespace json = boost::json;
using varlink::Call;
using varlink::text_or_null;

constexpr const char* kSocket = "/run/nulld/nulld.sock";
constexpr const char* kInterface = "io.nullbox.nulld";
constexpr size_t kMostLogBytes = size_t{512} << 10; // in one answer

// Who may call. PID 1 stops the machine for nobody else: root (the tests' root probe; no service runs as
// root) and gate, which checks the operator's role first.
static const std::vector<uid_t> kOperators = {0, 105};

static json::value number_or_null(const std::optional<int64_t>& number) {
    return number ? json::value(*number) : json::value();
}
static json::array texts(const std::vector<std::string>& list) {
    return json::array(list.begin(), list.end());
}

static std::string_view name_of(Actual actual) {
    switch (actual) {
    case Actual::Down:
        return "down";
    case Actual::Waiting:
        return "waiting";
    case Actual::Starting:
        return "starting";
    case Actual::Up:
        return "running";
    case Actual::Stopping:
        return "stopping";
    case Actual::Clearing:
        return "clearing";
    case Actual::Delayed:
        return "delayed";
    }
    return "?";
}

static json::value sandbox_of(pid_t pid) {
    auto facts = pid ? sandbox_facts(pid) : std::nullopt;
    if (!facts) return nullptr;
    return json::object{{"uid", facts->uid},
                        {"gid", facts->gid},
                        {"capabilities", texts(facts->capabilities)},
                        {"no_new_privs", facts->no_new_privs},
                        {"seccomp", facts->seccomp},
                        {"own_namespaces", texts(facts->own_namespaces)}};
}

static json::object service_of(const ServiceStatus& service, const sandbox::Cgroup* group, bool brief) {
    return {{"name", service.name},
            {"state", name_of(service.actual)},
            {"wanted", service.wanted_up ? "up" : "down"},
            {"description", service.description},
            {"pid", service.pid ? json::value(service.pid) : json::value()},
            {"uptime_ms", number_or_null(service.uptime_ms)},
            {"restarts", service.restarts},
            {"failures_in_a_row", service.failures},
            {"crash_loop", service.crash_loop},
            {"last_exit", text_or_null(service.last_exit)},
            {"last_error", text_or_null(service.last_error)},
            {"status", text_or_null(service.status_text)},
            {"memory_bytes", group ? group->memory_current_bytes() : 0},
            {"processes", group ? group->processes() : 0},
            {"oom_kills", group ? group->oom_kills() : 0},
            {"sandbox", brief ? json::value() : sandbox_of(service.pid)}};
}

static json::array mounts() {
    json::array out;
    for (const auto& mount : current_mounts())
        out.push_back(json::object{{"source", printable(mount.source)},
                                   {"target", printable(mount.target)},
                                   {"type", mount.type},
                                   {"options", mount.options}});
    return out;
}

static json::object self(const System& system) {
    auto facts = self_facts();
    auto watchdog = system.watchdog_s();
    return {{"open_files", facts.open_files},
            {"memory_bytes", facts.memory_bytes},
            {"zombies", facts.zombies},
            {"reaped", system.reaped().total},
            {"orphans_reaped", system.reaped().orphans},
            {"console_lines_dropped", system.console_lines_dropped()},
            {"watchdog_s", watchdog ? json::value(*watchdog) : json::value()}};
}

static void answer_status(const System& system, Call call) {
    varlink::Parameters parameters(call.parameters());
    bool brief = parameters.boolean_or("brief", false);
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    auto status = system.status();
    utsname kernel{};
    ::uname(&kernel);
    json::array services;
    for (ServiceId id = 0; id < status.services.size(); id++)
        services.push_back(service_of(status.services[id], system.runner().group(id), brief));
    json::object answer{{"version", kVersion},
                        {"hostname", status.hostname},
                        {"kernel", kernel.release},
                        {"uptime_ms", status.uptime_ms},
                        {"shutting_down", status.shutting_down},
                        {"boot", json::object{{"stage1_ms", status.stage1_ms},
                                              {"stage2_ms", status.stage2_ms},
                                              {"ready_ms", number_or_null(status.ready_ms)},
                                              {"settled_ms", number_or_null(status.settled_ms)}}},
                        {"data", json::object{{"device", text_or_null(status.data_device)},
                                              {"total_bytes", status.data_total_bytes},
                                              {"free_bytes", status.data_free_bytes}}},
                        {"addresses", texts(status.addresses)},
                        {"services", std::move(services)},
                        {"problems", texts(status.problems)}};
    if (!brief) {
        answer["mounts"] = mounts();
        answer["nulld"] = self(system);
    }
    call.reply(std::move(answer));
}

// The service a call names, or its error answered.
static std::optional<ServiceId> named_service(const System& system, Call& call) {
    varlink::Parameters parameters(call.parameters());
    auto name = parameters.text("name", {.most_bytes = 32});
    if (auto wrong = parameters.finish()) {
        call.invalid_parameter(wrong->parameter, wrong->message);
        return std::nullopt;
    }
    auto id = system.runner().supervisor().find(name);
    if (!id) {
        std::string message = cat("there is no service \"", name, "\"");
        call.error("io.nullbox.nulld.NoSuchService", json::object{{"name", name}, {"message", message}});
    }
    return id;
}

template <typename Act>
static void act_on_service(System& system, Call call, Act act) {
    auto id = named_service(system, call);
    if (!id) return;
    Result<> done = act(*id);
    if (!done) return call.error("io.nullbox.nulld.ShuttingDown", done.error().message);
    call.reply({});
}

static json::object line_of(std::string_view source, const LogLine& line) {
    return {{"number", line.number},
            {"source", source},
            {"uptime_ms", line.uptime_ms},
            {"time_ms", line.time_ms},
            {"text", line.text}};
}

static json::object newest_lines(const LogBook& log, std::string_view source, size_t most) {
    auto lines = log.newest(source, most);
    size_t bytes = 0, first = lines.size();
    while (first > 0 && bytes + lines[first - 1].line->text.size() + 128 < kMostLogBytes)
        bytes += lines[--first].line->text.size() + 128;
    json::array out;
    for (size_t i = first; i < lines.size(); i++) out.push_back(line_of(lines[i].source, *lines[i].line));
    return {{"lines", std::move(out)}, {"forgotten", log.forgotten(source)}};
}

static void answer_logs(System& system, Call call) {
    varlink::Parameters parameters(call.parameters());
    auto source = parameters.text_or("service", "", {.most_bytes = 32});
    auto most = parameters.number_or("lines", 100, {.least = 0, .most = 1000});
    bool follow = parameters.boolean_or("follow", false);
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    LogBook& log = system.log();
    if (!source.empty() && !log.knows(source)) {
        std::string message = cat("there is no service \"", source, "\"");
        return call.error("io.nullbox.nulld.NoSuchService",
                          json::object{{"name", source}, {"message", message}});
    }
    auto lines = newest_lines(log, source, static_cast<size_t>(most));
    if (!follow) return call.reply(std::move(lines));
    call.reply_continues(std::move(lines));
    if (!call.wants_more()) return; // that was the error answer
    auto kept = std::make_shared<std::optional<Call>>(std::move(call));
    auto each = [kept, source, &log](std::string_view from, const LogLine& line) {
        if (!(*kept)->connected()) return false;
        if (source.empty() || source == from)
            (*kept)->reply_continues(
                {{"lines", json::array{line_of(from, line)}}, {"forgotten", log.forgotten(source)}});
        return true;
    };
    if (auto followed = log.follow(each); !followed)
        (*kept)->error("io.nullbox.nulld.TooManyFollowers", followed.error().message);
}

static void answer_power(System& system, Call call, PowerAction action) {
    varlink::Parameters parameters(call.parameters());
    auto reason = parameters.text_or("reason", "", {.most_bytes = 200});
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    if (system.shutting_down())
        return call.error("io.nullbox.nulld.ShuttingDown", "the machine is shutting down already");
    auto who = cat("uid ", call.peer().uid, reason.empty() ? "" : ": ", printable(reason));
    call.reply({});
    system.begin_shutdown(action, who);
}

static varlink::InterfaceTable table(System& system) {
    auto method = [](const char* name, std::function<void(Call)> handle) {
        return varlink::Method{.name = name, .allowed_uids = kOperators, .handle = std::move(handle)};
    };
    auto power = [&](const char* name, PowerAction action) {
        return method(name, [&system, action](Call call) { answer_power(system, std::move(call), action); });
    };
    return {.name = kInterface,
            .description = std::string(kInterfaceDescription),
            .methods = {method("Status", [&](Call call) { answer_status(system, std::move(call)); }),
                        method("StartService",
                               [&](Call call) {
                                   act_on_service(system, std::move(call),
                                                  [&](ServiceId id) { return system.runner().start(id); });
                               }),
                        method("StopService",
                               [&](Call call) {
                                   act_on_service(system, std::move(call), [&](ServiceId id) -> Result<> {
                                       system.runner().stop(id);
                                       return {};
                                   });
                               }),
                        method("RestartService",
                               [&](Call call) {
                                   act_on_service(system, std::move(call),
                                                  [&](ServiceId id) { return system.runner().restart(id); });
                               }),
                        method("Logs", [&](Call call) { answer_logs(system, std::move(call)); }),
                        power("Reboot", PowerAction::Reboot), power("PowerOff", PowerAction::PowerOff),
                        power("Halt", PowerAction::Halt)}};
}

Control::Control(std::unique_ptr<varlink::Server> server) : server_(std::move(server)) {}
Control::~Control() = default;

Result<std::unique_ptr<Control>> Control::listen(Loop& loop, System& system) {
    TRY(make_directories("/run/nulld", 0711));
    auto server = TRY(varlink::Server::listen(
        loop, kSocket, {.product = "NullBox nulld", .version = kVersion}, table(system)));
    return std::unique_ptr<Control>(new Control(std::move(server)));
}

} // namespace nullbox::nulld

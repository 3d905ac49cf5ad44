#include <boost/json/object.hpp>

#include "base/text.h"
#include "cage/interface_methods.h"

namespace nullbox::cage {

using varlink::Call;
using varlink::Parameters;

constexpr size_t kMostArguments = 1024;
constexpr size_t kMostVariables = 256;
// A command's arguments may be scripts; all together they are bounded by the frame that carries them.
constexpr varlink::TextBounds kArgument{
    .least_bytes = 0, .most_bytes = guest_link::kMaxExecRequest, .several_lines = true};
constexpr varlink::TextBounds kPath{.most_bytes = guest_link::kMaxPath};
constexpr varlink::TextBounds kUser{.most_bytes = guest_link::kMaxUserText};

static std::string wrong_variable(std::string_view entry) {
    auto equals = entry.find('=');
    auto name = entry.substr(0, equals);
    bool good = equals != std::string_view::npos && !name.empty() && (name[0] < '0' || name[0] > '9');
    for (char c : name)
        good =
            good && (c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'));
    return good ? "" : cat("\"", printable(entry, 40), "\" is not NAME=VALUE");
}

static void open(Cage& cage, Call call, Parameters& parameters, const std::string& name, ExecOrder order) {
    auto* agent = agent_of(cage, call, parameters, name);
    if (!agent) return;
    if (agent->exec_full())
        return call.error("io.nullbox.cage.TooManyExecs",
                          cat(guest_link::kMaxExecAtOnce, " commands and copies run in ", name,
                              " already, the most at a time: wait until one has ended"));
    auto opened = agent->exec(std::move(order));
    if (!opened) return call.error("io.nullbox.cage.CannotExec", printable(opened.error().message));
    std::vector<Fd> fds;
    fds.push_back(std::move(opened->stream));
    fds.push_back(std::move(opened->lease));
    call.reply({}, std::move(fds));
}

void exec(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    auto name = parameters.text("name", {.most_bytes = 64});
    auto who = parameters.text("operator", {.most_bytes = 64});
    guest_link::ExecRequest request;
    request.command =
        parameters.texts("command", {.least_items = 1, .most_items = kMostArguments, .item = kArgument});
    request.environment =
        parameters.texts_or_none("environment", {.most_items = kMostVariables, .item = kArgument});
    for (const auto& entry : request.environment)
        if (auto wrong = wrong_variable(entry); !wrong.empty()) parameters.wrong("environment", wrong);
    request.user = parameters.text_or("user", "", kUser);
    request.working_directory = parameters.text_or("working_directory", "", kPath);
    if (!request.working_directory.empty() && !request.working_directory.starts_with('/'))
        parameters.wrong("working_directory", "must begin with \"/\"");
    request.terminal = parameters.boolean_or("terminal", false);
    request.interactive = parameters.boolean_or("interactive", false);
    request.rows = static_cast<uint16_t>(parameters.number_or("rows", 24, {.least = 1, .most = 10'000}));
    request.columns =
        static_cast<uint16_t>(parameters.number_or("columns", 80, {.least = 1, .most = 10'000}));
    if (!request.command.empty() && request.command.front().empty())
        parameters.wrong("command", "the first must not be empty");
    open(cage, std::move(call), parameters, name, {.operator_name = who, .what = std::move(request)});
}

void copy(Cage& cage, Call call) {
    static constexpr std::string_view kDirections[] = {"out", "in"};
    Parameters parameters(call.parameters());
    auto name = parameters.text("name", {.most_bytes = 64});
    auto who = parameters.text("operator", {.most_bytes = 64});
    guest_link::CopyRequest request;
    request.direction = parameters.choice("direction", kDirections) == 1 ? guest_link::Direction::IntoGuest
                                                                         : guest_link::Direction::OutOfGuest;
    request.path = parameters.text("path", kPath);
    request.name = parameters.text_or("source_name", "", {.most_bytes = 255});
    request.user = parameters.text_or("user", "", kUser);
    if (request.name.contains('/') || request.name == "..")
        parameters.wrong("source_name", "must be a name without \"/\"");
    open(cage, std::move(call), parameters, name, {.operator_name = who, .what = std::move(request)});
}

} // namespace nullbox::cage

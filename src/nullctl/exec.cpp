#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <cstdlib>
#include <unistd.h>

#include "base/text.h"
#include "nullctl/box_stream.h"
#include "nullctl/commands.h"
#include "nullctl/exec_session.h"
#include "nullctl/exit_status.h"

namespace nullbox::nullctl {

namespace json = boost::json;

static json::object request_of(const ExecOptions& options) {
    auto texts = [](const std::vector<std::string>& list) { return json::array(list.begin(), list.end()); };
    json::object out{{"command", texts(options.command)},
                     {"terminal", options.terminal},
                     {"interactive", options.interactive}};
    auto environment = options.environment;
    if (options.terminal) {
        auto size = window_size(STDOUT_FILENO);
        out["rows"] = size.rows;
        out["columns"] = size.columns;
        const char* kind = std::getenv("TERM");
        bool said =
            std::ranges::any_of(environment, [](const auto& one) { return one.starts_with("TERM="); });
        if (kind && *kind && !said) environment.push_back(cat("TERM=", kind));
    }
    if (!environment.empty()) out["environment"] = texts(environment);
    if (!options.user.empty()) out["user"] = options.user;
    if (!options.working_directory.empty()) out["working_directory"] = options.working_directory;
    return out;
}

Result<> agent_exec(Tool& tool, const ExecOptions& options) {
    tool.exit_code = kExecFailed;
    if (!is_agent_name(options.name)) return error(cat("\"", options.name, "\" is no agent's name"));
    auto* box = TRY(tool.box());
    auto stream = TRY(box->stream(cat("/v1/exec/", options.name), request_of(options)));
    auto ended = run_exec(
        {.stream = stream->socket(), .interactive = options.interactive, .terminal = options.terminal});
    auto problem = stream->close();
    if (!ended) return problem.empty() ? ended.error() : with_context(ended.error(), problem);
    tool.exit_code = *ended;
    return {};
}

} // namespace nullbox::nullctl

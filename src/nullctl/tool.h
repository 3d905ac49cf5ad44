// What every command works with: the terminal, the settings, the box that was chosen. A command is a function
// of this; command_line.cpp says which arguments lead to which.
#pragma once

#include <memory>
#include <optional>

#include "nullctl/box.h"
#include "nullctl/terminal.h"

namespace nullbox::nullctl {

class Tool {
public:
    Tool(Terminal& terminal, std::string config_folder)
        : terminal(terminal), config_folder(std::move(config_folder)) {}

    Terminal& terminal;
    std::string config_folder;
    std::string box_name; // empty: the only one
    bool json = false;
    std::optional<int> exit_code = {}; // of a command in an agent, which is ours then

    Result<Box*> box(); // the chosen one, connected when first needed
    // The answer verbatim if --json was given, else nothing said.
    Result<Answer> ask(std::string_view service, std::string_view method,
                       boost::json::object parameters = {});
    // The same, where there is only "done" to say.
    Result<> tell(std::string_view service, std::string_view method, boost::json::object parameters,
                  std::string_view done);

private:
    std::unique_ptr<Box> box_;
};

} // namespace nullbox::nullctl

// nullctl: what an operator has on their own machine. The box has nothing to run it with.
#include <clocale>
#include <csignal>
#include <cstdio>

#include "base/text.h"
#include "nullctl/command_line.h"

int main(int count, char** arguments) {
    using namespace nullbox::nullctl;
    std::setlocale(LC_TIME, "");
    std::signal(SIGPIPE, SIG_IGN); // a box that closes is an error; a pager that does, a failed write
    auto terminal = Terminal::of_process();
    auto folder = Settings::default_folder();
    if (!folder.has_value()) {
        std::fputs(nullbox::cat("nullctl: ", folder.error().message, "\n").c_str(), stderr);
        return static_cast<int>(Exit::Usage);
    }
    Tool tool(terminal, *folder);
    return static_cast<int>(run({arguments + 1, arguments + count}, tool));
}

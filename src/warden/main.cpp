// warden: keeps the vault, and gives a secret to nobody but egress, for one header of one host, or to cage,
// if an operator has granted it as exposed. It has no network, and no file but its own.
#include <unistd.h>

#include "base/log.h"
#include "base/service.h"
#include "base/text.h"
#include "warden/interface.h"

namespace nullbox::warden {
namespace {

struct Options {
    std::string socket = "/run/warden/warden.sock";
    std::string vault = "/var/warden/vault";
    std::vector<uid_t> also_allowed; // for tests
};

Result<Options> parse(std::span<char*> arguments) {
    Options options;
    for (size_t i = 0; i < arguments.size(); i += 2) {
        std::string_view name = arguments[i];
        if (i + 1 == arguments.size() || (name != "--socket" && name != "--vault" && name != "--allow-uid"))
            return error(cat("unknown argument ", name,
                             " or no value; use [--socket PATH] [--vault PATH] "
                             "[--allow-uid N]..."));
        std::string_view value = arguments[i + 1];
        if (name == "--socket") options.socket = value;
        if (name == "--vault") options.vault = value;
        if (name != "--allow-uid") continue;
        auto uid = parse_number(value, 0, UINT32_MAX - 1);
        if (!uid) return error(cat("--allow-uid ", value, ": must be a number"));
        options.also_allowed.push_back(static_cast<uid_t>(*uid));
    }
    return options;
}

Result<> serve(Service& service, const Options& options) {
    TRY(hide_process());
    TRY(start_crypto());
    auto status = [&service](const std::string& line) { service.status(line); };
    auto warden = TRY(Warden::make(service.loop(), {.path = options.vault, .status = status}));
    auto server = TRY(serve_interface(service.loop(), *warden, options.socket, options.also_allowed));
    service.on_stop([&] {
        warden->lock();
        // A key that is being derived cannot be called back; the file is whole at any time.
        if (warden->trying()) ::_exit(EXIT_SUCCESS);
        service.loop().stop();
    });
    service.ready();
    return service.serve();
}

} // namespace
} // namespace nullbox::warden

int main(int count, char** arguments) {
    using namespace nullbox;
    auto options = warden::parse(std::span(arguments, static_cast<size_t>(count)).subspan(1));
    if (!options) {
        log_error(cat("warden: ", options.error().message));
        return 2;
    }
    return run_service("warden", [&](Service& service) { return warden::serve(service, *options); });
}

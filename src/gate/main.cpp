// gate: the only door. HTTPS for operators, translated into the services' Varlink; it holds no logic of
// theirs.
#include <boost/asio/io_context.hpp>
#include <sys/prctl.h>

#include "base/log.h"
#include "base/text.h"
#include "gate/box_key.h"
#include "gate/interface.h"
#include "manifest/machine.h"
#include "net/loop_in_asio.h"

namespace nullbox::gate {
namespace {

constexpr uid_t kGate = 105;
constexpr std::chrono::seconds kLookAtConfiguration{1};
constexpr std::chrono::seconds kWindDown{2};

struct Options {
    std::string key = "/var/gate/key.pem", machine = "/run/nulld/machine.toml", run_folder = "/run";
    std::vector<uid_t> allowed{kGate};
    std::optional<uint16_t> port; // else the machine configuration's
};

Result<Options> parse(std::span<char*> arguments) {
    Options options;
    for (size_t i = 0; i < arguments.size(); i++) {
        std::string_view name = arguments[i];
        std::string_view value = i + 1 < arguments.size() ? arguments[++i] : "";
        auto number = parse_number(value, 0, name == "--port" ? 65535 : UINT32_MAX - 1);
        if (name == "--key" && !value.empty())
            options.key = value;
        else if (name == "--machine" && !value.empty())
            options.machine = value;
        else if (name == "--run" && !value.empty())
            options.run_folder = value;
        else if (name == "--allow-uid" && number)
            options.allowed.push_back(static_cast<uid_t>(*number));
        else if (name == "--port" && number)
            options.port = static_cast<uint16_t>(*number);
        else
            return error(cat("argument ", name, " ", value,
                             ": use [--key FILE] [--machine FILE] [--run FOLDER] "
                             "[--port N] [--allow-uid N]..."));
    }
    return options;
}

std::string status_line(const Door& door, const Operators& operators, const std::string& fingerprint) {
    auto count = operators.all().size();
    auto who =
        count == 0
            ? std::string("no operators: nullctl keygen prints what to put into the machine configuration")
        : count == 1 ? std::string("1 operator")
                     : cat(count, " operators");
    return cat("https on ", door.port(), ", fingerprint ", fingerprint, ", ", who);
}

Result<> serve(Service& service, const Options& options) {
    ::prctl(PR_SET_DUMPABLE, 0); // no core file, and nobody of our uid looks in
    auto identity = TRY(box_key(options.key));
    auto fingerprint = net::fingerprint(identity.public_key());
    Operators operators(options.machine);
    boost::asio::io_context context(1);
    auto door =
        TRY(Door::open(context, service.loop(), identity, operators,
                       {.port = options.port.value_or(operators.port()), .run_folder = options.run_folder}));
    auto server = TRY(serve_interface(service.loop(), *door, operators,
                                      {.socket_path = cat(options.run_folder, "/gate/gate.sock"),
                                       .allowed = options.allowed,
                                       .fingerprint = fingerprint}));
    auto say = [&] {
        for (const auto& problem : operators.problems()) log_warning(problem);
        service.status(status_line(*door, operators, fingerprint));
    };
    Watch again;
    std::function<void()> look = [&] {
        if (operators.refresh()) {
            door->operators_changed();
            say();
        }
        again = service.loop().after(kLookAtConfiguration, look);
    };
    say();
    service.ready();
    look();
    return net::serve(service, context, [&](auto stop) { door->wind_down(kWindDown, std::move(stop)); });
}

} // namespace
} // namespace nullbox::gate

int main(int count, char** arguments) {
    using namespace nullbox;
    auto options = gate::parse(std::span(arguments, static_cast<size_t>(count)).subspan(1));
    if (!options) {
        log_error(cat("gate: ", options.error().message));
        return 2;
    }
    return run_service("gate", [&](Service& service) { return gate::serve(service, *options); });
}

#include "gate/interface.h"

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "base/text.h"
#include "gate/io.nullbox.gate.varlink.h"
#include "varlink/parameters.h"

namespace nullbox::gate {

namespace json = boost::json;
using varlink::Call;
using varlink::Parameters;

static json::object object_of(const Operator& one) {
    return {
        {"name", one.name}, {"role", role_name(one.role)}, {"fingerprint", net::fingerprint(one.public_key)}};
}

static void status(const Door& door, const Operators& operators, const std::string& fingerprint, Call call) {
    Parameters parameters(call.parameters());
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    json::array list, problems(operators.problems().begin(), operators.problems().end());
    for (const auto& one : operators.all()) list.push_back(object_of(one));
    const auto& counts = door.counts();
    call.reply({{"port", door.port()},
                {"fingerprint", fingerprint},
                {"operators", std::move(list)},
                {"problems", std::move(problems)},
                {"connections", counts.connections},
                {"handshakes", counts.handshakes},
                {"refused", counts.refused}});
}

static void who_am_i(const Operators& operators, Call call) {
    Parameters parameters(call.parameters());
    auto name = parameters.text("operator", {.most_bytes = 64});
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    const auto* one = operators.named(name);
    if (!one) return call.error("io.nullbox.gate.NoSuchOperator", cat("no operator ", printable(name, 64)));
    call.reply({{"operator", object_of(*one)}});
}

varlink::InterfaceTable interface_table(const Door& door, const Operators& operators,
                                        const InterfaceOptions& options) {
    return {.name = "io.nullbox.gate",
            .description = std::string(kInterfaceDescription),
            .methods = {{.name = "Status",
                         .allowed_uids = options.allowed,
                         .handle = [&door, &operators, fingerprint = options.fingerprint](
                                       Call call) { status(door, operators, fingerprint, std::move(call)); }},
                        {.name = "WhoAmI",
                         .allowed_uids = options.allowed,
                         .handle = [&operators](Call call) { who_am_i(operators, std::move(call)); }}}};
}

Result<std::unique_ptr<varlink::Server>>
serve_interface(Loop& loop, const Door& door, const Operators& operators, const InterfaceOptions& options) {
    return varlink::Server::listen(loop, options.socket_path, {.product = "NullBox gate", .version = "0.1.0"},
                                   interface_table(door, operators, options));
}

} // namespace nullbox::gate

// ctxgraph: the memory that agents share. It has a database, a socket of its own, and the streams that cage
// passes; it opens nothing else.
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <sys/stat.h>

#include "base/log.h"
#include "base/text.h"
#include "ctxgraph/interface.h"
#include "net/loop_in_asio.h"

namespace nullbox::ctxgraph {
namespace {

constexpr std::chrono::seconds kBetweenStatusLines{1};

struct Options {
    std::string database = "/var/ctxgraph/graph.db";
    InterfaceOptions interface;
};

Result<Options> parse(std::span<char*> arguments) {
    Options options;
    for (size_t i = 0; i < arguments.size(); i++) {
        std::string_view name = arguments[i];
        std::string_view value = i + 1 < arguments.size() ? arguments[++i] : "";
        if (name == "--database" && !value.empty()) {
            options.database = value;
        } else if (name == "--socket" && !value.empty()) {
            options.interface.socket_path = value;
        } else if (auto uid = parse_number(value, 0, UINT32_MAX - 1); name == "--allow-uid" && uid) {
            options.interface.also_allowed.push_back(static_cast<uid_t>(*uid));
        } else {
            return error(cat("argument ", name, " ", value,
                             ": use [--database FILE] [--socket PATH] [--allow-uid N]..."));
        }
    }
    return options;
}

std::string status_line(const Result<Totals>& totals) {
    if (!totals.has_value()) return printable(totals.error().message, 200);
    auto count = [](uint64_t number, std::string_view one, std::string_view many) {
        return cat(number, " ", number == 1 ? one : many);
    };
    return cat(count(totals->entries, "entry", "entries"), ", ",
               count(totals->namespaces, "namespace", "namespaces"));
}

Result<> serve(Service& service, const Options& options) {
    ::umask(077);
    boost::asio::io_context context(1);
    auto store = TRY(Store::open(options.database));
    Writes writes(*store, [&](std::function<void()> soon) { boost::asio::post(context, std::move(soon)); });
    Memory memory(*store, writes);
    GuestServer guests(context, memory);
    auto server = TRY(serve_interface(service.loop(), memory, guests, options.interface));
    Watch again;
    memory.on_change = [&] {
        if (again) return;
        again = service.loop().after(kBetweenStatusLines, [&] {
            again.drop();
            service.status(status_line(memory.totals()));
        });
    };
    service.status(status_line(memory.totals()));
    service.ready();
    return net::serve(service, context);
}

} // namespace
} // namespace nullbox::ctxgraph

int main(int count, char** arguments) {
    using namespace nullbox;
    auto options = ctxgraph::parse(std::span(arguments, static_cast<size_t>(count)).subspan(1));
    if (!options) {
        log_error(cat("ctxgraph: ", options.error().message));
        return 2;
    }
    return run_service("ctxgraph", [&](Service& service) { return ctxgraph::serve(service, *options); });
}

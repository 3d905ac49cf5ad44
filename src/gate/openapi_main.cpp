// Runs when NullBox is built: gate_openapi OUT.json OUT.h FILE.varlink... The header holds the same text, for
// gate to serve.
#include <boost/json/serialize.hpp>

#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "gate/openapi.h"

namespace nullbox::gate {
namespace {

Result<> write_description(std::span<char*> arguments) {
    if (arguments.size() < 3) return error("use: gate_openapi OUT.json OUT.h FILE.varlink...");
    std::vector<varlink::Description> services;
    for (std::string path : arguments.subspan(2)) {
        auto text = TRY(read_file(path));
        services.push_back(TRY(varlink::parse_description(text).context(path)));
    }
    auto text = boost::json::serialize(openapi(services));
    TRY(write_file_atomic(arguments[0], cat(text, "\n"), 0644));
    return write_file_atomic(arguments[1],
                             cat("// Made by gate_openapi from the .varlink files.\n#pragma once\n\n"
                                 "#include <string_view>\n\nnamespace nullbox::gate {\n\n"
                                 "constexpr std::string_view kOpenApi = R\"openapi(",
                                 text, ")openapi\";\n\n} // namespace nullbox::gate\n"),
                             0644);
}

} // namespace
} // namespace nullbox::gate

int main(int count, char** arguments) {
    auto done = nullbox::gate::write_description(std::span(arguments, static_cast<size_t>(count)).subspan(1));
    if (!done) nullbox::log_error(done.error().message);
    return done ? 0 : 1;
}

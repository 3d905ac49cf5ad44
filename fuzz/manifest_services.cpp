// nulld.toml: whatever the text, the services that come out are right and in an order that can be started.
#include <cstddef>
#include <cstdint>
#include <set>

#include "base/check.h"
#include "manifest/forms.h"
#include "manifest/services.h"

using namespace nullbox::manifest;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    auto config = parse_services({reinterpret_cast<const char*>(data), size}, "nulld.toml");
    std::set<std::string> started;
    for (const auto& service : config.services) {
        CHECK(wrong_name(service.name).empty());
        CHECK(!service.exec.empty() && service.exec[0].starts_with('/'));
        CHECK(service.syscalls_unrestricted != !service.syscalls.empty());
        CHECK(service.restart_delay <= service.restart_delay_max);
        for (const auto& name : service.after) CHECK(started.contains(name));
        CHECK(started.insert(service.name).second);
    }
    CHECK(!config.services.empty() || !config.diagnostics.empty());
    return 0;
}

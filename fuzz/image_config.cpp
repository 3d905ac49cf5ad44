// /.nullbox/image as an image has it. What is accepted is written back to a text that says the same.
#include "guest_link/image_config.h"

#include "agent_init/image_defaults.h"
#include "base/check.h"

using namespace nullbox;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view text(reinterpret_cast<const char*>(data), size);
    auto config = guest_link::parse_image_config(text);
    if (!config) return 0;
    auto again = guest_link::parse_image_config(guest_link::write_image_config(*config));
    CHECK(again && *again == *config);
    guest_link::Start start{
        .uid = guest_link::kImageDecides, .gid = guest_link::kImageDecides, .working_directory = ""};
    // The accounts are the image's as well: the same bytes.
    if (agent_init::fill_in(start, *config, text, text))
        CHECK(!start.command.empty() && start.uid != guest_link::kImageDecides &&
              start.gid != guest_link::kImageDecides && start.working_directory.starts_with('/'));
    return 0;
}

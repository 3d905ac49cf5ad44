// What an image says of how it is run: the file /.nullbox/image at its root, which nullctl writes when it
// imports an image, and agent-init reads in the guest. The host never reads it: what an image says is its own
// guest's business and nobody else's. A manifest's own words go before it, key by key.
//
// Text, a line each, in which "\\" is a backslash and "\n" a line break:
//   nullbox image 1
//   command WORD          one line for each word, in order
//   environment NAME=VALUE
//   user USER[:GROUP]     names or numbers; names are of the image's /etc/passwd and /etc/group
//   working_directory PATH
// Pure; whoever reads takes nothing for granted.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace nullbox::guest_link {

constexpr std::string_view kImageConfigPath = "/.nullbox/image";
constexpr size_t kMostImageCommand = 256;
constexpr size_t kMostImageEnvironment = 256;
constexpr size_t kMostImageConfigBytes = size_t{512} << 10;

struct ImageConfig {
    std::vector<std::string> command, environment;
    std::string user, working_directory; // empty: not said
    bool operator==(const ImageConfig&) const = default;
};

std::string write_image_config(const ImageConfig& config);
Result<ImageConfig> parse_image_config(std::string_view text);

} // namespace nullbox::guest_link

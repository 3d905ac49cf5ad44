#include "guest_link/image_config.h"

#include "base/text.h"

namespace nullbox::guest_link {

constexpr std::string_view kFirstLine = "nullbox image 1";

static void add_line(std::string& out, std::string_view key, std::string_view value) {
    out += cat(key, " ");
    for (char c : value) {
        if (c == '\\' || c == '\n') {
            out += '\\';
            out += c == '\n' ? 'n' : '\\';
        } else {
            out += c;
        }
    }
    out += '\n';
}

std::string write_image_config(const ImageConfig& config) {
    auto out = cat(kFirstLine, "\n");
    for (const auto& word : config.command) add_line(out, "command", word);
    for (const auto& variable : config.environment) add_line(out, "environment", variable);
    if (!config.user.empty()) add_line(out, "user", config.user);
    if (!config.working_directory.empty()) add_line(out, "working_directory", config.working_directory);
    return out;
}

static Result<std::string> unescape(std::string_view value) {
    std::string out;
    for (size_t i = 0; i < value.size(); i++) {
        if (value[i] == '\0') return error("has a NUL in it");
        if (value[i] != '\\') {
            out += value[i];
            continue;
        }
        char next = ++i < value.size() ? value[i] : '\0';
        if (next != '\\' && next != 'n') return error("has a backslash before neither \"n\" nor a backslash");
        out += next == 'n' ? '\n' : '\\';
    }
    return out;
}

static Result<> take(ImageConfig& config, std::string_view key, std::string value) {
    auto to_list = [&](std::vector<std::string>& list, size_t most) -> Result<> {
        if (list.size() == most) return error(cat("more than ", most, " lines of ", key));
        list.push_back(std::move(value));
        return {};
    };
    auto once = [&](std::string& text) -> Result<> {
        if (!text.empty()) return error(cat(key, " is said twice"));
        text = std::move(value);
        return {};
    };
    if (key == "command") return to_list(config.command, kMostImageCommand);
    if (key == "environment") {
        if (!value.contains('=') || value.starts_with('=')) return error("environment must be NAME=VALUE");
        return to_list(config.environment, kMostImageEnvironment);
    }
    if (key == "user") return once(config.user);
    if (key == "working_directory") {
        if (!value.starts_with('/')) return error("working_directory must begin with /");
        return once(config.working_directory);
    }
    return {}; // of a later version
}

Result<ImageConfig> parse_image_config(std::string_view text) {
    if (text.size() > kMostImageConfigBytes) return error(cat("more than ", kMostImageConfigBytes, " bytes"));
    auto lines = split(text, '\n');
    if (lines.front() != kFirstLine) return error(cat("its first line is not \"", kFirstLine, "\""));
    ImageConfig config;
    for (size_t i = 1; i < lines.size(); i++) {
        if (lines[i].empty()) continue;
        auto blank = lines[i].find(' ');
        auto key = lines[i].substr(0, blank);
        auto value = blank == std::string_view::npos ? std::string_view() : lines[i].substr(blank + 1);
        auto where = cat("line ", i + 1);
        auto plain = TRY(unescape(value).context(where));
        TRY(take(config, key, std::move(plain)).context(where));
    }
    return config;
}

} // namespace nullbox::guest_link

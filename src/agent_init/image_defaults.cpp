#include "agent_init/image_defaults.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"

namespace nullbox::agent_init {

constexpr size_t kMostAccountsBytes = size_t{4} << 20;
constexpr int64_t kMostId = int64_t{UINT32_MAX} - 1;

namespace {

struct Ids {
    uint32_t uid = 0, gid = 0;
};

std::optional<uint32_t> number(std::string_view text) {
    auto value = parse_number(text, 0, kMostId);
    if (!value) return std::nullopt;
    return static_cast<uint32_t>(*value);
}

// The line of passwd or group whose first field is the name, or whose third is the number.
std::optional<std::vector<std::string_view>> find_line(std::string_view text, std::string_view name,
                                                       std::optional<uint32_t> id) {
    for (auto line : split(text, '\n')) {
        auto fields = split(line, ':');
        if (fields.size() < 4) continue;
        if (id ? number(fields[2]) == id : fields[0] == name) return fields;
    }
    return std::nullopt;
}

// "user", "7", "user:group", "7:8", "user:8", as Docker has it: a user alone brings the group that passwd
// gives.
Result<Ids> ids_of(std::string_view text, std::string_view passwd, std::string_view group) {
    auto colon = text.find(':');
    auto user = text.substr(0, colon);
    Ids ids;
    auto uid = number(user);
    auto line = find_line(passwd, user, uid);
    if (!uid && !line)
        return error(cat("the image's user \"", printable(user, 64),
                         "\" is not in its /etc/passwd: set user in the "
                         "manifest"));
    ids.uid = uid ? *uid : number((*line)[2]).value_or(kDefaultId);
    if (colon == std::string_view::npos) {
        ids.gid = line ? number((*line)[3]).value_or(0) : 0;
        return ids;
    }
    auto name = text.substr(colon + 1);
    if (auto gid = number(name)) {
        ids.gid = *gid;
        return ids;
    }
    auto group_line = find_line(group, name, std::nullopt);
    auto gid = group_line ? number((*group_line)[2]) : std::nullopt;
    if (!gid)
        return error(cat("the image's group \"", printable(name, 64),
                         "\" is not in its /etc/group: set group in "
                         "the manifest"));
    ids.gid = *gid;
    return ids;
}

bool has_variable(const std::vector<std::string>& environment, std::string_view variable) {
    auto name = variable.substr(0, variable.find('=') + 1); // with its "="
    return std::ranges::any_of(environment, [&](const std::string& one) { return one.starts_with(name); });
}

} // namespace

Result<> fill_in(guest_link::Start& start, const guest_link::ImageConfig& image, std::string_view passwd,
                 std::string_view group) {
    if (start.command.empty()) start.command = image.command;
    if (start.command.empty()) return error("the manifest has no command, and the image names none");
    if (start.uid == guest_link::kImageDecides) {
        Ids ids{.uid = kDefaultId, .gid = kDefaultId};
        if (!image.user.empty()) ids = TRY(ids_of(image.user, passwd, group));
        start.uid = ids.uid;
        if (start.gid == guest_link::kImageDecides) start.gid = ids.gid;
    }
    for (const auto& variable : image.environment)
        if (!has_variable(start.environment, variable)) start.environment.push_back(variable);
    if (start.working_directory.empty())
        start.working_directory = image.working_directory.empty() ? "/" : image.working_directory;
    return {};
}

Result<> fill_in_from_root(guest_link::Start& start) {
    std::string path(guest_link::kImageConfigPath);
    guest_link::ImageConfig image;
    auto text = read_file(path, guest_link::kMostImageConfigBytes);
    if (text)
        image = TRY(guest_link::parse_image_config(*text).context(path));
    else if (text.error().code != ENOENT && text.error().code != ENOTDIR)
        return std::move(text.error());
    bool own_folder = start.working_directory.empty() && !image.working_directory.empty();
    auto passwd = read_file("/etc/passwd", kMostAccountsBytes).value_or("");
    auto group = read_file("/etc/group", kMostAccountsBytes).value_or("");
    TRY(fill_in(start, image, passwd, group));
    if (own_folder && ::access(start.working_directory.c_str(), F_OK) < 0)
        TRY(make_directories(start.working_directory).context("the image's working directory"));
    return {};
}

} // namespace nullbox::agent_init

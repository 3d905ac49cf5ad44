#include "nullctl/settings.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"
#include "manifest/section.h"
#include "nullctl/exit_status.h"

namespace nullbox::nullctl {

constexpr size_t kMostBoxes = 1000;

static bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= 64 && std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
               c == '_' || c == '.';
    });
}

bool is_fingerprint(std::string_view text) {
    constexpr std::string_view kPrefix = "sha256:";
    return text.size() == kPrefix.size() + 64 && text.starts_with(kPrefix) &&
           std::ranges::all_of(text.substr(kPrefix.size()),
                               [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

static bool is_host(std::string_view text) {
    return !text.empty() && text.size() <= 253 && std::ranges::all_of(text, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
               c == '.' || c == ':' || c == '%' || c == '_';
    });
}

Result<KnownBox> parse_address(std::string_view text) {
    KnownBox box;
    auto host = text;
    std::string_view port;
    if (text.starts_with('[')) {
        auto end = text.find(']');
        if (end == std::string_view::npos) return error(cat("address ", text, ": \"]\" is missing"));
        host = text.substr(1, end - 1);
        port = text.substr(end + 1);
    } else if (auto colon = text.find(':'); colon != std::string_view::npos && colon == text.rfind(':')) {
        host = text.substr(0, colon);
        port = text.substr(colon);
    }
    if (!is_host(host)) return error(cat("address ", text, ": must be HOST, HOST:PORT or [IPv6]:PORT"));
    box.host = host;
    if (port.empty()) return box;
    auto number = port.starts_with(':') ? parse_number(port.substr(1), 1, 65535) : std::nullopt;
    if (!number) return error(cat("address ", text, ": the port must be a number from 1 to 65535"));
    box.port = static_cast<uint16_t>(*number);
    return box;
}

Result<std::string> Settings::default_folder() {
    if (const char* own = std::getenv("NULLCTL_CONFIG"); own && *own) return std::string(own);
    if (const char* base = std::getenv("XDG_CONFIG_HOME"); base && *base) return cat(base, "/nullctl");
    if (const char* home = std::getenv("HOME"); home && *home) return cat(home, "/.config/nullctl");
    return error("where the configuration is: set NULLCTL_CONFIG, XDG_CONFIG_HOME or HOME");
}

// toml: [box.NAME] host, port, fingerprint.
static Result<std::vector<KnownBox>> parse_boxes(std::string_view text, const std::string& path) {
    manifest::Report report(path);
    std::vector<KnownBox> boxes;
    if (auto root = manifest::parse_document(text, size_t{1} << 20, report)) {
        manifest::Section top(report, *root, "");
        if (const auto* list = top.table("box"))
            for (const auto& entry : list->entries) {
                KnownBox box{.name = entry.key};
                if (entry.value.kind != manifest::Value::Kind::Table) {
                    report.add(entry.at, cat("box.", entry.key), "must be a table");
                    continue;
                }
                manifest::Section section(report, entry.value, cat("box.", entry.key));
                section.text("host", {.example = "\"192.0.2.7\"", .most_bytes = 253, .required = true},
                             box.host);
                section.number("port", {.least = 1, .most = 65535}, box.port);
                section.text("fingerprint", {.example = "\"sha256:...\"", .most_bytes = 71, .required = true},
                             box.fingerprint);
                if (!is_name(box.name) || !is_host(box.host) || !is_fingerprint(box.fingerprint))
                    section.wrong("fingerprint", "this box is not as nullctl wrote it; add it again");
                section.finish();
                boxes.push_back(std::move(box));
            }
        top.finish();
    }
    auto wrong = std::move(report).take();
    if (!wrong.empty()) return error(manifest::to_text(wrong));
    return boxes;
}

Result<Settings> Settings::load(const std::string& folder) {
    Settings settings;
    settings.folder_ = folder;
    auto path = folder + "/boxes.toml";
    auto text = read_file(path);
    if (!text.has_value() && text.error().code == ENOENT) return settings;
    if (!text.has_value()) return text.error();
    settings.boxes_ = TRY(parse_boxes(*text, path));
    return settings;
}

Result<KnownBox> Settings::box(std::string_view name) const {
    if (name.empty() && boxes_.size() == 1) return boxes_[0];
    if (boxes_.empty()) return ends_with(Exit::Usage, "no box is known yet: nullctl box add NAME ADDRESS");
    std::vector<std::string_view> names;
    std::string list;
    for (const auto& box : boxes_) {
        if (box.name == name) return box;
        names.push_back(box.name);
        list += cat(list.empty() ? "" : ", ", box.name);
    }
    if (name.empty())
        return ends_with(Exit::Usage, cat("which box? Say --box NAME or set NULLBOX_BOX: ", list));
    auto near = closest(name, names);
    return ends_with(Exit::Usage,
                     cat("no box \"", name, "\"; ",
                         near.empty() ? cat("there are: ", list) : cat("did you mean ", near, "?")));
}

Result<> Settings::put(KnownBox box) {
    if (!is_name(box.name))
        return ends_with(Exit::Usage,
                         cat("box name \"", box.name, "\": letters, digits, \"-\", \"_\" and \".\" only"));
    std::erase_if(boxes_, [&](const auto& one) { return one.name == box.name; });
    if (boxes_.size() >= kMostBoxes) return error("too many boxes");
    boxes_.push_back(std::move(box));
    std::ranges::sort(boxes_, {}, &KnownBox::name);
    return save();
}

Result<> Settings::remove(std::string_view name) {
    if (std::erase_if(boxes_, [&](const auto& one) { return one.name == name; }) == 0)
        return ends_with(Exit::Usage, cat("no box \"", name, "\""));
    return save();
}

Result<> Settings::save() const {
    std::string text = "# The boxes nullctl knows. Written by nullctl box add and remove.\n";
    for (const auto& box : boxes_)
        text += cat("\n[box.\"", box.name, "\"]\nhost = \"", box.host, "\"\nport = ", box.port,
                    "\nfingerprint = \"", box.fingerprint, "\"\n");
    TRY(make_directories(folder_, 0700));
    return write_file_atomic(folder_ + "/boxes.toml", text, 0600);
}

Result<net::Identity> Settings::key() const {
    auto path = folder_ + "/key.pem";
    struct stat facts{};
    if (::stat(path.c_str(), &facts) < 0) {
        if (errno != ENOENT) return errno_error(cat("look at ", path));
        return ends_with(Exit::Usage, cat("there is no key in ", folder_, ": nullctl keygen makes one"));
    }
    if (facts.st_mode & 077)
        return ends_with(Exit::Usage, cat(path, " can be read by others: chmod 600 ", path));
    auto text = TRY(read_file(path, size_t{16} << 10));
    auto key = net::Identity::from_pem(text);
    ::explicit_bzero(text.data(), text.size());
    return std::move(key).context(path);
}

Result<net::Identity> Settings::key_or_new() {
    auto path = folder_ + "/key.pem";
    struct stat facts{};
    if (::stat(path.c_str(), &facts) == 0) return key();
    TRY(make_directories(folder_, 0700));
    auto made = TRY(net::Identity::make());
    auto text = TRY(made.to_pem());
    auto written = write_file_atomic(path, text, 0600);
    ::explicit_bzero(text.data(), text.size());
    TRY(std::move(written));
    return made;
}

} // namespace nullbox::nullctl

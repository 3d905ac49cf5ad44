#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "importer/import.h"
#include "manifest/forms.h"
#include "nullctl/commands.h"
#include "nullctl/exit_status.h"
#include "nullctl/fields.h"

namespace nullbox::nullctl {

namespace fs = std::filesystem;

// "My_Image-1.2.tar.gz" is my-image-1-2.
static std::string name_after(const std::string& source) {
    auto stem = fs::path(source).lexically_normal();
    if (!stem.has_filename()) stem = stem.parent_path();
    auto text = stem.filename().string();
    for (std::string_view ending :
         {".gz", ".xz", ".zst", ".tgz", ".tar", ".oci", ".img", ".squashfs", ".erofs"})
        if (text.ends_with(ending) && text.size() > ending.size()) text.resize(text.size() - ending.size());
    std::string name;
    for (char c : text) {
        bool upper = c >= 'A' && c <= 'Z';
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (plain || upper)
            name += upper ? static_cast<char>(c - 'A' + 'a') : c;
        else if (!name.empty() && !name.ends_with('-'))
            name += '-';
    }
    name.resize(std::min<size_t>(name.size(), 64));
    while (name.ends_with('-')) name.pop_back();
    return name;
}

static Result<std::string> name_of(const ImportOptions& options) {
    auto name = options.name.empty() ? name_after(options.source) : options.name;
    if (auto wrong = manifest::wrong_name(name); !wrong.empty() || name.size() > 64)
        return ends_with(Exit::Usage,
                         options.name.empty()
                             ? cat("no name can be made of ", options.source, ": give one with --name")
                             : cat("name \"", name, "\": lower-case letters, digits and \"-\", at most 64"));
    return name;
}

static json::object as_json(const importer::Summary& summary) {
    json::object out{{"form", summary.form},
                     {"layers", summary.layers},
                     {"files", summary.files},
                     {"folders", summary.folders},
                     {"symbolic_links", summary.symlinks},
                     {"unpacked_bytes", summary.unpacked_bytes},
                     {"image_bytes", summary.image_bytes},
                     {"devices_left_out", summary.devices},
                     {"sockets_left_out", summary.sockets},
                     {"stray_whiteouts", summary.stray_whiteouts}};
    if (!summary.run) return out;
    out["command"] = json::array(summary.run->command.begin(), summary.run->command.end());
    out["environment"] = json::array(summary.run->environment.begin(), summary.run->environment.end());
    out["user"] = summary.run->user;
    out["working_directory"] = summary.run->working_directory;
    return out;
}

static std::string counted(uint64_t number, std::string_view what) {
    return cat(number, " ", what, number == 1 ? "" : "s");
}

static void say_run(Terminal& terminal, const guest_link::ImageConfig& run) {
    std::string command;
    for (const auto& word : run.command) command += cat(command.empty() ? "" : " ", word);
    terminal.line(
        cat("runs      ", command.empty() ? "nothing by itself: the manifest must have a command" : command));
    terminal.line(cat("as        user ", run.user == "0" ? "0 (root, in its own VM)" : run.user, ", in ",
                      run.working_directory.empty() ? "/" : run.working_directory));
    std::string_view title = "with      ";
    for (const auto& variable : run.environment) {
        terminal.line(cat(title, variable));
        title = "          ";
    }
}

static void say(Terminal& terminal, const importer::Summary& summary) {
    bool layered = summary.run.has_value();
    terminal.line(cat("took      ", summary.form, layered ? cat(", ", counted(summary.layers, "layer")) : "",
                      ": ", counted(summary.files, "file"), ", ", counted(summary.folders, "folder"), ", ",
                      size_text(static_cast<int64_t>(summary.unpacked_bytes))));
    terminal.line(cat("made      an image of ", size_text(static_cast<int64_t>(summary.image_bytes))));
    if (summary.run)
        say_run(terminal, *summary.run);
    else
        terminal.line("runs      what the manifest says: such a source names no command");
    if (summary.devices > 0)
        terminal.line(
            cat("left out  ", counted(summary.devices, "device node"), " below /dev: a guest has its own"),
            Tone::Caution);
    if (summary.sockets > 0)
        terminal.line(cat("left out  ", counted(summary.sockets, "socket")), Tone::Caution);
    if (summary.stray_whiteouts > 0)
        terminal.line(cat("ignored   ", counted(summary.stray_whiteouts, "whiteout"), " of nothing"),
                      Tone::Caution);
}

static Result<importer::Summary> make_image(Tool& tool, const ImportOptions& options, int to) {
    importer::Request request{.source = options.source, .tag = options.tag, .limits = options.limits};
    request.limits.file_bytes = options.file_mb << 20;
    request.limits.total_bytes = options.total_mb << 20;
    request.platform = TRY(importer::parse_platform(options.platform));
    return importer::import_image(request, to, [&](std::string_view what, uint64_t done, uint64_t total) {
        tool.terminal.progress(what, done, total);
    });
}

// Whole, or not there: the file gets its name when it is right.
static Result<importer::Summary> make_file(Tool& tool, const ImportOptions& options) {
    auto partial = options.output + ".partial";
    Fd fd(::open(partial.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!fd) return errno_error(cat("make ", partial));
    auto made = make_image(tool, options, fd.get());
    if (made && ::fsync(fd.get()) < 0) made = errno_error(cat("write ", partial));
    if (made && ::rename(partial.c_str(), options.output.c_str()) < 0)
        made = errno_error(cat("put it at ", options.output));
    if (!made) ::unlink(partial.c_str());
    return made;
}

static Result<> report(Tool& tool, const std::optional<importer::Summary>& summary, std::string_view where) {
    if (tool.json) {
        tool.terminal.json(json::serialize(summary ? as_json(*summary) : json::object()));
        return {};
    }
    if (summary) say(tool.terminal, *summary);
    tool.terminal.line(where, Tone::Good);
    return {};
}

Result<> image_import(Tool& tool, const ImportOptions& options) {
    std::error_code ignored;
    bool ready =
        fs::is_regular_file(options.source, ignored) && TRY(importer::is_runtime_image(options.source));
    if (!options.output.empty()) {
        if (ready)
            return ends_with(Exit::Usage,
                             cat(options.source, " is a runtime image already: without --output it goes "
                                                 "to the box"));
        auto summary = TRY(make_file(tool, options));
        return report(tool, summary, cat("It is at ", options.output, "."));
    }
    auto name = TRY(name_of(options));
    if (ready) {
        auto fd = TRY(open_readonly(options.source));
        TRY(send(tool, "image", name, fd.get(), name));
        return report(tool, std::nullopt, cat("image ", name, " is on the box."));
    }
    (void)TRY(tool.box()); // before the work, if there is no box to go to
    auto fd = TRY(importer::make_temporary_file());
    auto summary = TRY(make_image(tool, options, fd.get()));
    TRY(send(tool, "image", name, fd.get(), name));
    return report(tool, summary, cat("image ", name, " is on the box."));
}

Result<> image_list(Tool& tool) {
    auto answer = TRY(tool.ask("cage", "ListImages"));
    if (tool.json) return {};
    std::vector<std::vector<Cell>> rows;
    for (const auto& value : list_at(answer.parameters, "images")) {
        if (!value.is_object()) continue;
        const auto& image = value.get_object();
        std::string agents;
        for (const auto& agent : list_at(image, "used_by"))
            agents += cat(agents.empty() ? "" : ", ", text_of(agent));
        rows.push_back({text_at(image, "name"), size_text(number_at(image, "bytes")),
                        flag_at(image, "fixed") ? "the system's" : "imported", agents});
    }
    if (rows.empty())
        tool.terminal.line("no images: nullctl image import SOURCE", Tone::Faint);
    else
        tool.terminal.table({"NAME", "SIZE", "FROM", "USED BY"}, rows);
    return {};
}

Result<> image_remove(Tool& tool, const std::string& name) {
    return tool.tell("cage", "RemoveImage", {{"name", name}}, cat("image ", name, " is gone from the box."));
}

} // namespace nullbox::nullctl

#include <algorithm>
#include <boost/json/object.hpp>
#include <fcntl.h>
#include <filesystem>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/text.h"
#include "nullctl/commands.h"
#include "nullctl/exit_status.h"
#include "nullctl/fields.h"
#include "nullctl/pack.h"
#include "nullctl/powers.h"

namespace nullbox::nullctl {

Result<> send(Tool& tool, std::string_view kind, std::string_view name, int fd, std::string_view what) {
    auto* box = TRY(tool.box());
    return box->upload(kind, name, fd, [&](uint64_t done, uint64_t total) {
        auto size = size_text(static_cast<int64_t>(total));
        tool.terminal.progress(cat(what, ", ", size), done, total);
    });
}

static Result<Fd> in_memory(std::string_view content) {
    Fd fd(::memfd_create("manifest", MFD_CLOEXEC));
    if (!fd) return errno_error("make a file in memory");
    TRY(write_all(fd.get(), content));
    return fd;
}

static std::vector<GrantOptions> grants_of(const manifest::AgentManifest& manifest) {
    std::vector<GrantOptions> grants;
    for (const auto& credential : manifest.credentials) {
        if (credential.exposed)
            grants.push_back({.secret = credential.name, .agent = manifest.name, .exposed = true});
        for (const auto& inject : credential.inject)
            grants.push_back({.secret = credential.name,
                              .agent = manifest.name,
                              .host = inject.host,
                              .header = inject.header,
                              .format = inject.format});
    }
    return grants;
}

static Result<> ask_for_consent(Tool& tool, const manifest::AgentManifest& manifest, bool yes) {
    auto show = [&](const Power& power) {
        if (tool.json)
            tool.terminal.note(power.text, power.tone);
        else
            tool.terminal.line(power.text, power.tone);
    };
    for (const auto& power : powers_of(manifest)) show(power);
    if (yes) return {};
    if (!tool.terminal.can_ask())
        return ends_with(Exit::Usage, "nobody is here to say yes to that: give --yes if it is what you want");
    if (tool.terminal.confirm("Deploy it?")) return {};
    return ends_with(Exit::Failed, "nothing was deployed");
}

// What there is to say about it to the person who deploys.
static Result<std::string_view> start_it(Tool& tool, const std::string& name) {
    auto* box = TRY(tool.box());
    auto before = TRY(box->call("cage", "Status", {{"name", name}}));
    auto state = text_at(object_at(before.parameters, "agent"), "state");
    bool runs = state == "running" || state == "paused" || state == "starting" || state == "stopping";
    auto started = box->call("cage", runs ? "Restart" : "Start", {{"name", name}});
    if (started.has_value()) return runs ? "; restarted with what is new" : "";
    if (!started.error().message.contains("image")) return started.error();
    return ends_with(
        exit_of(started.error()),
        cat(started.error().message, ". A runtime image is put on the box with nullctl image import"));
}

// Whatever fails leaves what was there: the manifest, which is what makes it count, goes last.
Result<> agent_deploy(Tool& tool, const DeployOptions& options) {
    constexpr size_t kMostBytes = size_t{64} << 10;
    auto path = (std::filesystem::path(options.folder) / "AGENT.toml").string();
    auto text = TRY(read_file(path, kMostBytes).context("an agent is a folder with an AGENT.toml"));
    auto parsed = manifest::parse_agent(text, path);
    if (auto* wrong = std::get_if<std::vector<manifest::Diagnostic>>(&parsed))
        return error(manifest::to_text(*wrong));
    const auto& manifest = std::get<manifest::AgentManifest>(parsed);
    auto grants = grants_of(manifest);

    TRY(ask_for_consent(tool, manifest, options.yes));
    TRY(check_secrets(tool, grants));
    auto packed = TRY(pack_folder(options.folder));
    if (packed.image)
        TRY(send(tool, "app", manifest.name, packed.image.get(),
                 cat(packed.files, packed.files == 1 ? " file" : " files")));
    TRY(settle_grants(tool, manifest.name, grants));
    auto document = TRY(in_memory(text));
    TRY(send(tool, "manifest", manifest.name, document.get(), "manifest"));
    auto* box = TRY(tool.box());
    auto reloaded = TRY(box->call("cage", "Reload"));
    std::string_view what;
    if (std::ranges::contains(list_at(reloaded.parameters, "updated"), json::value(manifest.name)))
        what = "; only its network is another: the new rules are in effect, without a restart";
    else if (options.start)
        what = TRY(start_it(tool, manifest.name));
    auto now = TRY(tool.ask("cage", "Status", {{"name", manifest.name}}));
    if (!tool.json)
        tool.terminal.line(cat(manifest.name, ": ", text_at(object_at(now.parameters, "agent"), "describe"),
                               what, "; its output: nullctl agent logs -f ", manifest.name));
    return {};
}

} // namespace nullbox::nullctl

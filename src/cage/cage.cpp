#include "cage/cage.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/service.h"
#include "base/text.h"

namespace nullbox::cage {

constexpr std::string_view kOwnLeaf = "daemon";

Result<std::string> take_over_own_cgroup() {
    auto text = TRY(read_file("/proc/self/cgroup"));
    auto line = trim(text);
    if (!line.starts_with("0::/")) return error(cat("not in a version 2 control group: ", line));
    line.remove_prefix(3);
    auto leaf = cat("/", kOwnLeaf);
    bool already_in_leaf = line.ends_with(leaf); // nulld puts us there
    if (already_in_leaf) line.remove_suffix(leaf.size());
    auto root = cat("/sys/fs/cgroup", line == "/" ? "" : line);
    if (!already_in_leaf) {
        auto own = TRY(sandbox::Cgroup::create(root + leaf));
        TRY(own.add(::getpid()));
    }
    auto all = TRY(sandbox::Cgroup::create(root));
    TRY(all.enable_controllers_below());
    return root;
}

static std::vector<std::string> groups_below(const std::string& root) {
    std::vector<std::string> names;
    std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(root.c_str()), &::closedir);
    while (const dirent* entry = entries ? ::readdir(entries.get()) : nullptr)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.' && entry->d_name != kOwnLeaf)
            names.emplace_back(entry->d_name);
    return names;
}

static Result<> remove_leftovers(const std::string& root) {
    for (const auto& name : groups_below(root)) {
        auto group = TRY(sandbox::Cgroup::create(cat(root, "/", name)));
        if (group.populated())
            log_warning(cat("agent ", name, " was left running by an earlier cage: killed"));
        TRY(group.kill());
        constexpr int kTries = 500;
        for (int i = 0; group.populated() && i < kTries; i++) ::usleep(10'000);
        if (group.populated()) return error(cat("agent ", name, " of an earlier cage does not end"));
        TRY(group.remove());
    }
    return {};
}

static StartTurns::CpuTime cpu_time_of_all(const std::string& root) {
    if (root.empty()) return {};
    auto all = sandbox::Cgroup::create(root);
    if (!all) return {};
    return [all = std::make_shared<sandbox::Cgroup>(*std::move(all))] { return all->cpu_time(); };
}

Cage::Cage(Loop& loop, HostSetup host, std::vector<std::string> agent_folders)
    : loop_(loop), host_(std::move(host)), agent_folders_(std::move(agent_folders)),
      uploads_(std::make_unique<Uploads>(loop, host_.uploads)), vault_(loop, host_.sockets.warden,
                                                                       [this] {
                                                                           for (const auto& agent : agents_)
                                                                               agent->try_again();
                                                                       }),
      egress_(loop, host_.sockets.egress,
              [this] {
                  for (const auto& agent : agents_)
                      agent->network_lost("egress ended, and the agent's network with it");
              }),
      turns_(loop, StartTurns::of_this_machine(), cpu_time_of_all(host_.cgroup_root)),
      survivors_(host_.survivors_file) {}

Result<std::unique_ptr<Cage>> Cage::make(Loop& loop, HostSetup host,
                                         const std::vector<std::string>& agent_folders) {
    std::unique_ptr<Cage> cage(new Cage(loop, std::move(host), agent_folders));
    if (!cage->host_.cgroup_root.empty()) TRY(remove_leftovers(cage->host_.cgroup_root));
    auto clock = ClockWatch::make(loop, [cage = cage.get()] {
        for (const auto& agent : cage->agents_) agent->clock_set();
    });
    if (clock)
        cage->clock_.emplace(*std::move(clock));
    else // agents run all the same
        log_error(clock.error().message);
    if (auto cleaned = cage->uploads_->clean_up(); !cleaned) log_error(cleaned.error().message);
    return cage;
}

void Cage::on_change() {
    notify_status(status_line());
    if (!begun_) return; // what an earlier cage left still counts
    std::vector<std::string> wanted;
    for (const auto& agent : agents_)
        if (agent->life().wanted()) wanted.push_back(agent->entry().name);
    survivors_.keep(wanted);
}

void Cage::read_agents() {
    for (auto& entry : read_catalogue(agent_folders_)) add(std::move(entry));
    on_change();
}

// The lowest number that is free: a VM's uid and CID follow from it.
void Cage::add(CatalogueEntry entry) {
    if (!entry.manifest) log_error(cat("agent ", entry.name, " cannot run: ", entry.diagnostics));
    uint32_t number = 0;
    while (std::ranges::any_of(agents_, [&](const auto& agent) { return agent->number() == number; }))
        number++;
    AgentContext context{.loop = loop_,
                         .host = host_,
                         .number = number,
                         .promised_bytes = [this] { return promised_bytes(); },
                         .changed = [this] { on_change(); },
                         .vault = vault_,
                         .egress = egress_,
                         .turns = turns_};
    agents_.push_back(std::make_unique<Agent>(std::move(context), std::move(entry)));
}

static bool is_same(const CatalogueEntry& one, const CatalogueEntry& other) {
    return one.text == other.text && one.manifest_path == other.manifest_path &&
           one.app_image_path == other.app_image_path && one.app_image == other.app_image;
}

void Cage::reload(std::function<void(const Reloaded&)> done) {
    auto kept = std::make_shared<Reloaded>();
    auto& result = *kept;
    auto awaited = std::make_shared<size_t>(1);
    auto one_less = [this, kept, awaited, done = std::move(done)] {
        if (--*awaited > 0) return;
        on_change();
        done(*kept);
    };
    auto entries = read_catalogue(agent_folders_);
    for (const auto& agent : agents_) {
        const auto& name = agent->entry().name;
        if (!std::ranges::contains(entries, name, &CatalogueEntry::name) && !leaving_.contains(name))
            result.removed.push_back(name);
    }
    for (const auto& name : result.removed) retire(name, [] {});
    for (auto& entry : entries) {
        if (!entry.manifest) result.invalid.push_back(entry.name);
        auto* agent = find(entry.name);
        bool left = leaving_.erase(entry.name) > 0; // it is there again before it was gone
        if (!agent || left) result.added.push_back(entry.name);
        if (!agent) {
            add(std::move(entry));
        } else if (!is_same(entry, agent->next_entry() ? *agent->next_entry() : agent->entry())) {
            if (!left) result.changed.push_back(entry.name);
            ++*awaited;
            agent->update(std::move(entry), [kept, one_less, name = agent->entry().name](bool in_effect) {
                if (in_effect) kept->updated.push_back(name);
                one_less();
            });
        }
    }
    one_less();
}

void Cage::retire(const std::string& name, std::function<void()> done) {
    leaving_[name]; // find() still knows it: its VM may be there
    find(name)->stop([this, name, done = std::move(done)] { drop_when_idle(name, done); });
}

// Not from within the agent's own call, and not before egress has its network back.
void Cage::drop_when_idle(const std::string& name, std::function<void()> done) {
    constexpr auto kLook = std::chrono::milliseconds(20);
    auto leaving = leaving_.find(name);
    if (leaving == leaving_.end()) return done();
    leaving->second = loop_.after(kLook, [this, name, done = std::move(done)] {
        auto* agent = find(name);
        if (agent && !agent->idle()) return drop_when_idle(name, done);
        auto finished = done; // the watch that holds us goes now
        auto gone = name;
        leaving_.erase(gone);
        std::erase_if(agents_, [&](const auto& one) { return one->entry().name == gone; });
        on_change();
        finished();
    });
}

void Cage::remove(Agent& agent, std::function<void(Result<>)> done) {
    auto name = agent.entry().name;
    auto path = agent.entry().manifest_path;
    if (path != cat(host_.uploads.agent_folder, "/", name, ".toml"))
        return done(
            error(cat("agent ", name, " is part of the system image (", path, "): it can be stopped only")));
    // The manifest first: without it the rest is nothing.
    if (::unlink(path.c_str()) < 0 && errno != ENOENT) return done(errno_error(cat("remove ", path)));
    auto app = cat(host_.uploads.agent_folder, "/", name, ".app.img");
    if (::unlink(app.c_str()) < 0 && errno != ENOENT) return done(errno_error(cat("remove ", app)));
    Fd folder(::open(host_.uploads.agent_folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder || ::fsync(folder.get()) < 0)
        return done(errno_error(cat("write ", host_.uploads.agent_folder)));
    log_info(cat("agent ", name, " removed"));
    retire(name, [done = std::move(done)] { done({}); });
}

Agent* Cage::find(std::string_view name) {
    auto found =
        std::ranges::find_if(agents_, [&](const auto& agent) { return agent->entry().name == name; });
    return found == agents_.end() ? nullptr : found->get();
}

uint64_t Cage::promised_bytes() const {
    uint64_t sum = 0;
    for (const auto& agent : agents_)
        // The one that asks is starting and holds nothing yet; its own need is counted by who asks.
        if (agent->vm_pid() != 0) sum += agent->promised_bytes();
    return sum;
}

bool Cage::others_listen() const {
    const auto& sockets = host_.sockets;
    return std::ranges::all_of(std::array{&sockets.egress, &sockets.warden, &sockets.ctxgraph},
                               [](const auto* path) { return ::access(path->c_str(), F_OK) == 0; });
}

void Cage::start_at_boot(std::chrono::milliseconds patience) {
    constexpr std::chrono::milliseconds kLook{25};
    if (patience > std::chrono::milliseconds(0) && !others_listen()) {
        boot_ = loop_.after(kLook, [this, left = patience - kLook] { start_at_boot(left); });
        return;
    }
    begun_ = true;
    const auto& left = survivors_.left();
    for (const auto& agent : agents_) {
        const auto& manifest = agent->entry().manifest;
        bool wanted =
            left ? std::ranges::contains(*left, agent->entry().name) : manifest && manifest->start_at_boot;
        if (wanted) // its log says how it went
            agent->start([](const Result<>&) {}, left ? "cage ended unexpectedly, and the VM with it" : "");
    }
    on_change();
}

void Cage::stop_all(std::chrono::milliseconds grace, std::function<void()> done) {
    boot_.drop();
    survivors_.forget();
    auto left = std::make_shared<size_t>(agents_.size() + 1);
    auto one_less = [left, done = std::move(done)] {
        if (--*left == 0) done();
    };
    for (const auto& agent : agents_) agent->stop(one_less, grace);
    one_less();
}

std::string Cage::status_line() const {
    if (agents_.empty()) return "agents: none (no manifest in /agent or /var/agents)";
    std::string line = "agents: ";
    for (const auto& agent : agents_) {
        auto described = agent->life().describe();
        line += cat(line.ends_with(": ") ? "" : ", ", agent->entry().name, " ",
                    std::string_view(described).substr(0, described.find('\n')));
    }
    return line;
}

} // namespace nullbox::cage

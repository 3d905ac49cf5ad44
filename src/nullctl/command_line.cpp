#include "nullctl/command_line.h"

#include <CLI/CLI.hpp>

#include "base/text.h"
#include "nullctl/commands.h"
#include "nullctl/completions.h"
#include "varlink/lines.h"

namespace nullbox::nullctl {

namespace {

using Action = std::function<Result<>()>;

// Where CLI11 writes what it read. One command runs, so commands share names.
struct Words {
    std::string name, second, third, fourth, fingerprint, role = "admin", reason, kdf, agent, method = "GET";
    int64_t lines = 100, grace_ms = -1;
    bool follow = false, yes = false, no_start = false;
    ExecOptions exec;
    CopyOptions copy;
    LogOptions log;
    GrantOptions grant;
    PutOptions put;
    PageOptions page;
    ImportOptions import;
};

class CommandLine {
public:
    explicit CommandLine(Tool& tool) : tool_(tool) {
        app_.name("nullctl");
        app_.require_subcommand(1);
        app_.fallthrough();
        app_.add_option("--box", tool.box_name, "the box to talk to, by its name here")
            ->envname("NULLBOX_BOX");
        app_.add_flag("--json", tool.json, "the service's answer as it is, for programs");
        app_.set_version_flag("--version", "nullctl 0.1.0");
        app_.footer(
            "Status: 0 good, 1 the box refused or failed, 2 wrong command line, 3 cannot reach the box,\n"
            "4 not trusted or another identity, 5 the vault is locked.");
        add_box();
        add_agents();
        add_vault();
        add_egress();
        add_memory();
        add_machine();
    }

    Exit parse(std::vector<std::string> arguments);
    const Action& chosen() const { return chosen_; }

private:
    CLI::App* command(CLI::App* parent, const std::string& name, const std::string& about, Action action) {
        auto* added = parent->add_subcommand(name, about);
        added->fallthrough();
        added->callback([this, action = std::move(action)] { chosen_ = action; });
        return added;
    }
    CLI::App* group(const std::string& name, const std::string& about) {
        auto* added = app_.add_subcommand(name, about);
        added->require_subcommand(1);
        added->fallthrough();
        return added;
    }
    void word(CLI::App* to, const std::string& title, std::string& target, const std::string& about) {
        to->add_option(title, target, about)->required();
    }
    void follow(CLI::App* to) {
        to->add_flag("-f,--follow", words_.follow, "go on with what comes");
        to->add_option("-n,--lines", words_.lines, "how many of the newest")
            ->check(CLI::Range(int64_t{0}, varlink::kMostLines))
            ->capture_default_str();
    }
    void yes(CLI::App* to) { to->add_flag("-y,--yes", words_.yes, "do not ask"); }
    void add_box();
    void add_agents();
    void add_exec(CLI::App* agent);
    void add_vault();
    void add_egress();
    void add_memory();
    void add_machine();

    CLI::App app_{"Operates a NullBox: agents in their own VMs, their network, secrets and memory."};
    Tool& tool_;
    Words words_;
    Action chosen_;
};

void CommandLine::add_box() {
    auto& w = words_;
    auto* keygen_command =
        command(&app_, "keygen", "make your key, and print the lines that let it into a box",
                [this] { return keygen(tool_, words_.name, words_.role); });
    w.name = "operator";
    keygen_command->add_option("--name", w.name, "the operator's name in the box's configuration")
        ->capture_default_str();
    keygen_command->add_option("--role", w.role, "admin, operator or reader")
        ->check(CLI::IsMember({"admin", "operator", "reader"}))
        ->capture_default_str();

    auto* box = group("box", "the boxes that are known here");
    auto* add = command(box, "add", "remember a box and its fingerprint",
                        [this] { return box_add(tool_, words_.name, words_.second, words_.fingerprint); });
    word(add, "NAME", w.name, "what to call it here");
    word(add, "ADDRESS", w.second, "HOST, HOST:PORT or [IPv6]:PORT");
    add->add_option("--fingerprint", w.fingerprint, "sha256:..., from the box's console");
    command(box, "list", "the boxes that are known here", [this] { return box_list(tool_); });
    auto* remove = command(box, "remove", "forget a box", [this] { return box_remove(tool_, words_.name); });
    word(remove, "NAME", w.name, "which");
}

void CommandLine::add_agents() {
    auto& w = words_;
    auto* agent = group("agent", "agents");
    auto* deploy = command(agent, "deploy", "put an agent on the box, after saying what it may do", [this] {
        return agent_deploy(tool_, {.folder = words_.name, .yes = words_.yes, .start = !words_.no_start});
    });
    word(deploy, "FOLDER", w.name, "with AGENT.toml and the agent's files");
    yes(deploy);
    deploy->add_flag("--no-start", w.no_start, "do not start it");
    command(agent, "list", "all agents", [this] { return agent_list(tool_); });
    auto named = [&](const std::string& name, const std::string& about, Action action) {
        auto* added = command(agent, name, about, std::move(action));
        word(added, "NAME", w.name, "of the agent");
        return added;
    };
    named("start", "start an agent", [this] { return agent_start(tool_, words_.name); });
    auto* stop =
        named("stop", "stop an agent", [this] { return agent_stop(tool_, words_.name, words_.grace_ms); });
    stop->add_option("--grace-ms", w.grace_ms, "from SIGTERM to SIGKILL")->check(CLI::Range(0, 60'000));
    named("restart", "stop an agent and start it anew", [this] { return agent_restart(tool_, words_.name); });
    named("pause", "stand an agent still, with all that it has in memory",
          [this] { return agent_pause(tool_, words_.name); });
    named("resume", "let a paused agent go on", [this] { return agent_resume(tool_, words_.name); });
    named("status", "how an agent is: health, times, what it uses, how its last run ended",
          [this] { return agent_status(tool_, words_.name); });
    auto* log = named("logs", "what an agent prints", [this] {
        words_.log.name = words_.name;
        words_.log.lines = words_.lines;
        words_.log.follow = words_.follow;
        return agent_logs(tool_, words_.log);
    });
    follow(log);
    log->add_option("--stream", w.log.stream, "only that; stdout and stderr as they came, without a prefix")
        ->check(CLI::IsMember({"stdout", "stderr", "vm", "cage"}));
    log->add_option("--since", w.log.since, "only what is newer: 90s, 10m, 2h, 1d, or 2026-11-30T12:00:00Z");
    log->add_flag("-t,--timestamps", w.log.timestamps, "with the time in UTC, to the millisecond");
    add_exec(agent);
    named("inspect", "what an agent may do, and how it is",
          [this] { return agent_inspect(tool_, words_.name); });
    yes(named("remove", "take an agent off the box",
              [this] { return agent_remove(tool_, words_.name, words_.yes); }));

    auto* image = group("image", "runtime images");
    auto* import = command(image, "import", "turn what there is into a runtime image, and put it on the box",
                           [this] { return image_import(tool_, words_.import); });
    word(import, "SOURCE", w.import.source,
         "an OCI layout or archive, what docker save writes, a tar, a folder, or a SquashFS or EROFS image");
    import->add_option("NAME,--name", w.import.name, "what manifests call it; else after SOURCE");
    import->add_option("--output", w.import.output, "write it to this file, and leave the box alone");
    import->add_option("--platform", w.import.platform, "of an image for several")->capture_default_str();
    import->add_option("--tag", w.import.tag, "which, if SOURCE holds several images");
    import->add_flag("--allow-stray-whiteouts", w.import.limits.allow_stray_whiteouts,
                     "take layers that remove files which no layer below has");
    auto limit = [&](const std::string& title, uint64_t& target, const std::string& about) {
        import->add_option(title, target, about)->check(CLI::PositiveNumber)->capture_default_str();
    };
    limit("--max-entries", w.import.limits.entries, "refuse more files than this");
    limit("--max-file-mb", w.import.file_mb, "refuse a larger file");
    limit("--max-total-mb", w.import.total_mb, "refuse what unpacks to more");
    limit("--max-ratio", w.import.limits.ratio, "refuse what unpacks to so many times its size");
    command(image, "list", "the box's runtime images, and who uses them",
            [this] { return image_list(tool_); });
    auto* drop = command(image, "remove", "take a runtime image that no agent uses off the box",
                         [this] { return image_remove(tool_, words_.name); });
    word(drop, "NAME", w.name, "of the image");
}

void CommandLine::add_exec(CLI::App* agent) {
    auto& e = words_.exec;
    auto* exec = command(agent, "exec", "run a command in a running agent", [this] {
        words_.exec.name = words_.name;
        return agent_exec(tool_, words_.exec);
    });
    word(exec, "NAME", words_.name, "of the agent");
    exec->add_option("COMMAND", e.command, "after \"--\": the command and its arguments")->required();
    exec->add_flag("-i,--interactive", e.interactive, "standard input goes to the command");
    exec->add_flag("-t,--tty", e.terminal, "the command gets a terminal, of the size of this one");
    exec->add_option("-u,--user", e.user, "NAME, UID or UID:GID in the guest; the manifest's user otherwise");
    exec->add_option("-w,--workdir", e.working_directory, "where it runs");
    exec->add_option("-e,--env", e.environment, "NAME=VALUE, beside the agent's own environment")
        ->take_all()
        ->allow_extra_args(false);
    exec->footer(
        "Status: the command's; 128 and its number for a signal; 126 or 127 if it cannot be run or is\n"
        "not there; 125 if nullctl or the box failed.");
    auto& c = words_.copy;
    auto* copy = command(agent, "cp", "copy files out of an agent or into it",
                         [this] { return agent_copy(tool_, words_.copy); });
    word(copy, "FROM", c.from, "NAME:PATH in the agent, or a path here, or \"-\"");
    word(copy, "TO", c.to, "the other of both");
    copy->add_option("-u,--user", c.user, "whose rights count in the guest; the manifest's user otherwise");
    copy->add_option("--most-mb", c.most_mb, "take no more than that out of an agent")
        ->check(CLI::Range(1, 1 << 30))
        ->capture_default_str();
}

void CommandLine::add_vault() {
    auto& w = words_;
    auto* vault = group("vault", "secrets that agents use and never see");
    auto* init = command(vault, "init", "make the vault", [this] { return vault_init(tool_, words_.kdf); });
    init->add_option("--kdf", w.kdf, "argon2id (default) or pbkdf2")
        ->check(CLI::IsMember({"argon2id", "pbkdf2"}));
    command(vault, "unlock",
            "open the vault; the passphrase is asked for, or the first line of standard input",
            [this] { return vault_unlock(tool_); });
    command(vault, "lock", "lock the vault", [this] { return vault_lock(tool_); });
    command(vault, "status", "whether the vault is open", [this] { return vault_status(tool_); });
    command(vault, "passphrase", "change the passphrase; from standard input: the old one, then the new one",
            [this] { return vault_passphrase(tool_); });
    follow(command(vault, "uses", "which agent used which secret, and where",
                   [this] { return vault_uses(tool_, words_.lines, words_.follow); }));
    command(vault, "list", "names of the secrets", [this] { return vault_list(tool_); });
    auto* set = command(vault, "set", "put a secret in; its value is asked for, or all of standard input",
                        [this] { return vault_set(tool_, words_.name); });
    word(set, "NAME", w.name, "of the secret");
    auto* remove = command(vault, "delete", "delete a secret",
                           [this] { return vault_delete(tool_, words_.name, words_.yes); });
    word(remove, "NAME", w.name, "of the secret");
    yes(remove);
    auto* grant = command(vault, "grant", "let an agent use a secret",
                          [this] { return vault_grant(tool_, words_.grant); });
    word(grant, "NAME", w.grant.secret, "of the secret");
    word(grant, "AGENT", w.grant.agent, "who may use it");
    grant->add_option("--host", w.grant.host, "where it goes");
    grant->add_option("--header", w.grant.header, "in which header (Authorization)");
    grant->add_option("--format", w.grant.format, "how: \"Bearer {secret}\"");
    grant->add_flag("--exposed", w.grant.exposed, "the agent is told the value itself");
    auto* revoke = command(vault, "revoke", "take a secret from an agent",
                           [this] { return vault_revoke(tool_, words_.name, words_.agent); });
    word(revoke, "NAME", w.name, "of the secret");
    word(revoke, "AGENT", w.agent, "who had it");
}

void CommandLine::add_egress() {
    auto& w = words_;
    auto* egress = group("egress", "what agents reach, and what they were refused");
    auto records = [&](const std::string& name, const std::string& about, bool all) {
        auto* added = command(egress, name, about, [this, all] {
            return egress_records(
                tool_, {.all = all, .agent = words_.agent, .lines = words_.lines, .follow = words_.follow});
        });
        follow(added);
        added->add_option("--agent", w.agent, "of this agent only");
    };
    records("denials", "what was refused, and the manifest line that would allow it", false);
    records("records", "every decision", true);
    auto* explain = command(egress, "explain", "whether an agent may reach a destination, and why", [this] {
        return egress_explain(tool_, words_.agent, words_.name, words_.method);
    });
    word(explain, "AGENT", w.agent, "who");
    word(explain, "DESTINATION", w.name, "HOST, HOST:PORT, or a URL");
    explain->add_option("-X,--method", w.method, "of the request that the URL is for")->capture_default_str();
    command(egress, "status", "links, addresses, rules, counters", [this] { return egress_status(tool_); });
}

void CommandLine::add_memory() {
    auto& w = words_;
    auto* memory = group("memory", "memory that agents share");
    auto* put = command(memory, "put", "write an entry", [this] { return memory_put(tool_, words_.put); });
    word(put, "NAMESPACE", w.put.space, "where");
    word(put, "KEY", w.put.key, "under which key");
    auto* value = put->add_option("VALUE", w.put.value, "JSON, or a text");
    auto* from_stdin = put->add_flag("--stdin", w.put.from_stdin, "the value is standard input");
    value->excludes(from_stdin);
    put->add_flag("--text", w.put.text, "a text even if it is JSON");
    put->add_option("--if-head", w.put.if_head, "only if this is the newest entry of the key");
    auto* get = command(memory, "get", "the newest value of a key",
                        [this] { return memory_get(tool_, words_.name, words_.second); });
    word(get, "NAMESPACE", w.name, "where");
    word(get, "KEY", w.second, "which");
    auto* remove = command(memory, "delete", "end a key; its history stays",
                           [this] { return memory_delete(tool_, words_.name, words_.second); });
    word(remove, "NAMESPACE", w.name, "where");
    word(remove, "KEY", w.second, "which");
    auto paged = [&](CLI::App* to) {
        to->add_option("--limit", w.page.limit, "at most so many")
            ->check(CLI::Range(1, 100))
            ->capture_default_str();
        to->add_option("--cursor", w.page.cursor, "the next page, from --json's \"next\"");
    };
    auto* list = command(memory, "list", "the keys of a namespace, and their values",
                         [this] { return memory_list(tool_, words_.name, words_.second, words_.page); });
    word(list, "NAMESPACE", w.name, "where");
    list->add_option("--prefix", w.second, "keys that begin so");
    paged(list);
    auto* search = command(memory, "search", "entries with these words",
                           [this] { return memory_search(tool_, words_.name, words_.second, words_.page); });
    word(search, "WORDS", w.name, "words, \"phrases\", begin*");
    search->add_option("--namespace", w.second, "only there");
    paged(search);
    auto* history = command(memory, "history", "all values of a key, the newest first", [this] {
        return memory_history(tool_, words_.name, words_.second, words_.page);
    });
    word(history, "NAMESPACE", w.name, "where");
    word(history, "KEY", w.second, "which");
    paged(history);
    auto* watch = command(memory, "watch", "new entries as they come",
                          [this] { return memory_watch(tool_, words_.name, words_.second); });
    word(watch, "NAMESPACE", w.name, "where");
    watch->add_option("--prefix", w.second, "keys that begin so");
    command(memory, "namespaces", "what there is", [this] { return memory_namespaces(tool_); });
}

void CommandLine::add_machine() {
    auto& w = words_;
    command(&app_, "status", "how the box is", [this] { return status(tool_); });
    auto* log = command(&app_, "logs", "what the box's services say",
                        [this] { return logs(tool_, words_.fourth, words_.lines, words_.follow); });
    log->add_option("SERVICE", w.fourth, "one only; also \"nulld\" and \"kernel\"");
    follow(log);
    auto end = [&](const std::string& name, const std::string& about, bool off) {
        auto* added = command(&app_, name, about,
                              [this, off] { return reboot(tool_, off, words_.reason, words_.yes); });
        added->add_option("--reason", w.reason, "shown on the console");
        yes(added);
    };
    end("reboot", "reboot the box", false);
    end("shutdown", "turn the box off", true);
    auto* shell = command(&app_, "completions", "a script that completes nullctl's words in a shell", [this] {
        tool_.terminal.raw(completions(words_.third, app_));
        return Result<>();
    });
    shell->add_option("SHELL", w.third, "bash, zsh or fish")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh", "fish"}));
}

Exit CommandLine::parse(std::vector<std::string> arguments) {
    std::ranges::reverse(arguments); // as CLI11 takes them
    try {
        app_.parse(std::move(arguments));
        return Exit::Good;
    } catch (const CLI::Success& asked) { // help, version
        std::ostringstream out, unused;
        app_.exit(asked, out, unused);
        tool_.terminal.raw(out.str());
        return Exit::Good;
    } catch (const CLI::ParseError& wrong) {
        tool_.terminal.note(cat("nullctl: ", wrong.what(), "; nullctl --help says what there is"),
                            Tone::Danger);
        return Exit::Usage;
    }
}

} // namespace

Exit run(const std::vector<std::string>& arguments, Tool& tool) {
    CommandLine line(tool);
    auto parsed = line.parse(arguments);
    if (parsed != Exit::Good || !line.chosen()) return parsed;
    auto done = line.chosen()();
    if (tool.exit_code && done.has_value()) return static_cast<Exit>(*tool.exit_code);
    if (done.has_value()) return Exit::Good;
    for (auto part : split(done.error().message, '\n'))
        tool.terminal.note(cat(part.data() == done.error().message.data() ? "nullctl: " : "", part),
                           Tone::Danger);
    return tool.exit_code ? static_cast<Exit>(*tool.exit_code) : exit_of(done.error());
}

} // namespace nullbox::nullctl

#include "cage/interface.h"

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <chrono>
#include <span>

#include "base/text.h"
#include "cage/agent_status.h"
#include "cage/images.h"
#include "cage/interface_methods.h"
#include "cage/io.nullbox.cage.varlink.h"
#include "cage/manifest_words.h"
#include "manifest/forms.h"
#include "varlink/lines.h"
#include "varlink/parameters.h"

namespace nullbox::cage {

namespace json = boost::json;
using varlink::Call;
using varlink::Parameters;

constexpr int64_t kDefaultLogLines = 100;
constexpr int64_t kMaxGraceMs = 60'000;
// Lines go out in answers of this many bytes of text, well below what a connection may have unread.
constexpr size_t kLogBatchBytes = size_t{128} << 10;

static json::object line_object(const LogLine& line) {
    return {{"sequence", line.sequence},
            {"time_ms", line.time_ms},
            {"stream", log_stream_name(line.stream)},
            {"partial", line.partial},
            {"text", line.text}};
}

Agent* agent_of(Cage& cage, Call& call, Parameters& parameters, const std::string& name) {
    if (auto wrong = parameters.finish()) {
        call.invalid_parameter(wrong->parameter, wrong->message);
        return nullptr;
    }
    if (auto* agent = cage.find(name)) return agent;
    std::vector<std::string_view> names;
    for (const auto& agent : cage.agents()) names.emplace_back(agent->entry().name);
    auto near = closest(name, names);
    call.error("io.nullbox.cage.NoSuchAgent", cat("no agent \"", printable(name, 64), "\"",
                                                  near.empty() ? "" : cat("; did you mean \"", near, "\"?")));
    return nullptr;
}

static void list(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    json::array agents;
    for (const auto& agent : cage.agents()) agents.push_back(agent_summary(*agent));
    call.reply({{"agents", std::move(agents)}});
}

static void show(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    auto name = parameters.text("name", {.most_bytes = 64});
    if (auto* agent = agent_of(cage, call, parameters, name)) call.reply({{"agent", agent_status(*agent)}});
}

// What Start and Restart answer.
static std::function<void(const Result<>&)> answer_start(const Agent& agent, Call call) {
    return [&agent, kept = std::make_shared<Call>(std::move(call))](const Result<>& done) {
        if (done)
            kept->reply({{"state", state_name(agent.life().state())},
                         {"describe", printable(agent.life().describe())}});
        else
            kept->error("io.nullbox.cage.CannotStart", printable(done.error().message));
    };
}

static void start(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    auto name = parameters.text("name", {.most_bytes = 64});
    if (auto* agent = agent_of(cage, call, parameters, name))
        agent->start(answer_start(*agent, std::move(call)));
}

static void restart(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    auto name = parameters.text("name", {.most_bytes = 64});
    if (auto* agent = agent_of(cage, call, parameters, name))
        agent->restart(answer_start(*agent, std::move(call)));
}

static void stop(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    auto name = parameters.text("name", {.most_bytes = 64});
    auto grace_ms = parameters.number_or("grace_ms", -1, {.least = 0, .most = kMaxGraceMs});
    auto* agent = agent_of(cage, call, parameters, name);
    if (!agent) return;
    auto grace = grace_ms < 0 ? std::nullopt : std::optional(std::chrono::milliseconds(grace_ms));
    agent->stop([kept = std::make_shared<Call>(std::move(call)),
                 agent] { kept->reply({{"describe", printable(agent->life().describe())}}); },
                grace);
}

// Answers when all of its vCPUs stand still.
static void pause(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    auto name = parameters.text("name", {.most_bytes = 64});
    auto* agent = agent_of(cage, call, parameters, name);
    if (!agent) return;
    agent->pause([kept = std::make_shared<Call>(std::move(call)), agent](const Result<>& done) {
        if (done)
            kept->reply({{"describe", printable(agent->life().describe())}});
        else
            kept->error("io.nullbox.cage.CannotPause", printable(done.error().message));
    });
}

static void resume(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    auto name = parameters.text("name", {.most_bytes = 64});
    auto* agent = agent_of(cage, call, parameters, name);
    if (!agent) return;
    if (auto resumed = agent->resume(); !resumed)
        return call.error("io.nullbox.cage.CannotResume", printable(resumed.error().message));
    call.reply({{"describe", printable(agent->life().describe())}});
}

namespace {
// One client's view of a log: what there is, in batches, then what comes.
struct LogStreamer {
    explicit LogStreamer(Call its_call) : call(std::move(its_call)) {}
    Call call;
    json::array batch = {};
    size_t batch_bytes = 0;
    uint64_t follower = 0;

    void add(const LogLine& line) {
        batch.push_back(line_object(line));
        batch_bytes += line.text.size();
    }
    json::object take() {
        batch_bytes = 0;
        return {{"lines", std::exchange(batch, {})}};
    }
    ~LogStreamer() { // the agent is gone, and its log with it: the end of the stream
        if (follower != 0) call.reply(take());
    }
};
} // namespace

static int64_t now_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

static void logs(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    auto name = parameters.text("name", {.most_bytes = 64});
    auto count = parameters.number_or("lines", kDefaultLogLines, {.least = 0, .most = varlink::kMostLines});
    bool follow = parameters.boolean_or("follow", false);
    auto only = parameters.text_or("stream", "", {.most_bytes = 16});
    if (only != "" && only != "stdout" && only != "stderr" && only != "vm" && only != "cage")
        parameters.wrong("stream", "must be stdout, stderr, vm or cage");
    auto since_ms = parameters.number_or("since_ms", 0);
    auto within_ms = parameters.number_or("within_ms", -1);
    if (within_ms >= 0) since_ms = std::max(since_ms, now_ms() - within_ms);
    if (follow && !call.wants_more()) parameters.wrong("follow", "needs a call with \"more\"");
    auto* agent = agent_of(cage, call, parameters, name);
    if (!agent) return;
    bool more = call.wants_more();
    auto wanted = [only, since_ms](const LogLine& line) {
        return line.time_ms >= since_ms && (only.empty() || log_stream_name(line.stream) == only);
    };
    auto stream = std::make_shared<LogStreamer>(std::move(call));
    for (const auto& line : agent->log().last(static_cast<size_t>(count), wanted)) {
        stream->add(line);
        if (more && stream->batch_bytes >= kLogBatchBytes) stream->call.reply_continues(stream->take());
    }
    if (!follow) return stream->call.reply(stream->take());
    stream->call.reply_continues(stream->take());
    stream->follower = agent->follow([stream, agent, wanted](const LogLine& line) {
        if (!stream->call.connected()) return agent->unfollow(stream->follower);
        if (!wanted(line)) return;
        stream->add(line);
        stream->call.reply_continues(stream->take());
    });
}

static void inspect(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    auto name = parameters.text("name", {.most_bytes = 64});
    auto* agent = agent_of(cage, call, parameters, name);
    if (!agent) return;
    const auto* next = agent->next_entry();
    const auto& entry = next ? *next : agent->entry();
    json::array may;
    if (entry.manifest)
        for (const auto& line : may_do(*entry.manifest)) may.emplace_back(printable(line));
    call.reply(
        {{"manifest", entry.manifest ? json::value(manifest_as_json(*entry.manifest)) : json::value(nullptr)},
         {"may", std::move(may)},
         {"path", entry.manifest_path},
         {"diagnostics", entry.diagnostics},
         {"in_effect", next == nullptr}});
}

static void reload(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    cage.reload([kept = std::make_shared<Call>(std::move(call))](const Cage::Reloaded& found) {
        auto texts = [](const std::vector<std::string>& list) {
            return json::array(list.begin(), list.end());
        };
        kept->reply({{"added", texts(found.added)},
                     {"changed", texts(found.changed)},
                     {"removed", texts(found.removed)},
                     {"invalid", texts(found.invalid)},
                     {"updated", texts(found.updated)}});
    });
}

static void remove(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    auto name = parameters.text("name", {.most_bytes = 64});
    auto* agent = agent_of(cage, call, parameters, name);
    if (!agent) return;
    cage.remove(*agent, [kept = std::make_shared<Call>(std::move(call))](const Result<>& done) {
        if (done)
            kept->reply({});
        else
            kept->error("io.nullbox.cage.CannotRemove", printable(done.error().message));
    });
}

static void list_all_images(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    json::array images;
    for (const auto& image : list_images(cage.image_folders(), cage.agents()))
        images.push_back(json::object{{"name", image.name},
                                      {"bytes", image.bytes},
                                      {"fixed", image.fixed},
                                      {"used_by", json::array(image.used_by.begin(), image.used_by.end())}});
    call.reply({{"images", std::move(images)}});
}

static void remove_one_image(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    auto name = parameters.text("name", {.most_bytes = 64});
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    auto images = list_images(cage.image_folders(), cage.agents());
    auto found = std::ranges::find(images, name, &ImageSummary::name);
    if (found == images.end())
        return call.error("io.nullbox.cage.NoSuchImage", cat("no image \"", printable(name, 64), "\""));
    if (auto done = remove_image(*found); !done)
        return call.error("io.nullbox.cage.CannotRemove", printable(done.error().message));
    call.reply({});
}

static void begin_upload(Cage& cage, Call call) {
    static constexpr std::string_view kKinds[] = {"image", "app", "manifest"};
    Parameters parameters(call.parameters());
    UploadRequest request{.kind = static_cast<UploadKind>(parameters.choice("kind", kKinds)),
                          .name = parameters.text("name", {.most_bytes = 64})};
    size_t most_bytes = request.kind == UploadKind::Image ? 64 : 32; // as in a manifest
    if (auto wrong = manifest::wrong_name(request.name); !wrong.empty()) parameters.wrong("name", wrong);
    if (request.name.size() > most_bytes)
        parameters.wrong("name", cat("must have at most ", most_bytes, " bytes"));
    request.size_bytes = static_cast<uint64_t>(parameters.number("size_bytes", {.least = 1}));
    request.sha256 = parameters.text("sha256", {.least_bytes = 64, .most_bytes = 64});
    if (request.sha256.find_first_not_of("0123456789abcdef") != std::string::npos)
        parameters.wrong("sha256", "must be 64 hexadecimal digits in lower case");
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    auto begun = cage.uploads().begin(request);
    if (!begun) return call.error("io.nullbox.cage.CannotUpload", printable(begun.error().message));
    std::vector<Fd> fds;
    fds.push_back(std::move(begun->write_end));
    call.reply({{"upload", begun->number}}, std::move(fds));
}

static void answer_upload(Call& call, const Result<>& done) {
    if (done)
        call.reply({});
    else
        call.error("io.nullbox.cage.CannotUpload", printable(done.error().message));
}

static void commit_upload(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    auto number = static_cast<uint64_t>(parameters.number("upload"));
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    cage.uploads().commit(number, [kept = std::make_shared<Call>(std::move(call))](const Result<>& done) {
        answer_upload(*kept, done);
    });
}

static void abort_upload(Cage& cage, Call call) {
    Parameters parameters(call.parameters());
    auto number = static_cast<uint64_t>(parameters.number("upload"));
    if (auto wrong = parameters.finish()) return call.invalid_parameter(wrong->parameter, wrong->message);
    answer_upload(call, cage.uploads().abort(number));
}

// Who may call what. Operators' calls come through gate, which knows the operator's role.
constexpr uid_t kRoot = 0, kGate = 105;
static constexpr uid_t kAsOperator[] = {kRoot, kGate}; // root is nulld, and tests inside the box
static constexpr uid_t kGateOnly[] = {kGate};

namespace {
struct Row {
    const char* name;
    std::span<const uid_t> uids;
    void (*handle)(Cage&, Call);
};
} // namespace

static constexpr Row kTable[] = {
    {"List", kAsOperator, list},
    {"Status", kAsOperator, show},
    {"Inspect", kAsOperator, inspect},
    {"ListImages", kAsOperator, list_all_images},
    {"Logs", kAsOperator, logs},
    {"Start", kAsOperator, start},
    {"Stop", kAsOperator, stop},
    {"Pause", kAsOperator, pause},
    {"Resume", kAsOperator, resume},
    {"Restart", kGateOnly, restart},
    {"Reload", kGateOnly, reload},
    {"Remove", kGateOnly, remove},
    {"RemoveImage", kGateOnly, remove_one_image},
    {"BeginUpload", kGateOnly, begin_upload},
    {"CommitUpload", kGateOnly, commit_upload},
    {"AbortUpload", kGateOnly, abort_upload},
    {"Exec", kGateOnly, exec},
    {"Copy", kGateOnly, copy},
};

varlink::InterfaceTable interface_table(Cage& cage, const std::vector<uid_t>& allowed) {
    varlink::InterfaceTable table{.name = "io.nullbox.cage",
                                  .description = std::string(kInterfaceDescription)};
    for (const auto& row : kTable) {
        std::vector<uid_t> uids(row.uids.begin(), row.uids.end());
        uids.insert(uids.end(), allowed.begin(), allowed.end());
        table.methods.push_back(
            {.name = row.name,
             .allowed_uids = std::move(uids),
             .handle = [&cage, handle = row.handle](Call call) { handle(cage, std::move(call)); }});
    }
    return table;
}

Result<std::unique_ptr<varlink::Server>>
serve_interface(Loop& loop, Cage& cage, const std::string& socket_path, const std::vector<uid_t>& allowed) {
    return varlink::Server::listen(loop, socket_path, {.product = "NullBox cage", .version = "0.1.0"},
                                   interface_table(cage, allowed));
}

} // namespace nullbox::cage

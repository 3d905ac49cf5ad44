#include <boost/json/object.hpp>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/text.h"
#include "guest_link/copy_tree.h"
#include "nullctl/box_stream.h"
#include "nullctl/commands.h"
#include "nullctl/exit_status.h"
#include "nullctl/fields.h"

namespace nullbox::nullctl {

using namespace guest_link;

constexpr size_t kMostSaid = 20; // of what was left out

bool is_agent_name(std::string_view text) {
    return !text.empty() && text.size() <= 64 &&
           text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string_view::npos;
}

namespace {

struct Place {
    std::string agent, path; // agent: empty if it is here
};

// "NAME:PATH"; a path here that looks so is written "./NAME:PATH".
Place place_of(const std::string& text) {
    auto colon = text.find(':');
    if (colon == std::string::npos || !is_agent_name(std::string_view(text).substr(0, colon)))
        return {.agent = "", .path = text};
    return {.agent = text.substr(0, colon), .path = text.substr(colon + 1)};
}

// What a copy of the path is called in a folder; "." for the content of one.
std::string name_of(std::string path) {
    if (path.ends_with("/.") || path == "." || path == "..") return ".";
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    if (path == "/") return ".";
    auto slash = path.rfind('/');
    return slash == std::string::npos ? path : path.substr(slash + 1);
}

class Copying {
public:
    Copying(Tool& tool, const CopyOptions& options) : tool_(tool), options_(options) {}
    Result<> out_of(const Place& from);
    Result<> into(const Place& to);

private:
    Result<std::unique_ptr<BoxStream>> open(const Place& there, std::string_view direction,
                                            const std::string& source_name);
    CopyWatch watch() {
        return {.moved =
                    [this](const CopyReport& report) {
                        tool_.terminal.moved(title(), report.entries, report.bytes, false);
                    },
                .skipped =
                    [this](std::string_view path, std::string_view why) {
                        if (left_out_.size() < kMostSaid)
                            left_out_.push_back(cat(path.empty() ? "it" : path, ": ", why));
                    }};
    }
    std::string title() const { return cat(options_.from, " to ", options_.to); }
    Result<> conclude(Result<> done);
    Result<> upload(BoxStream& stream);

    Tool& tool_;
    const CopyOptions& options_;
    CopyReport report_;
    std::vector<std::string> left_out_;
};

Result<std::unique_ptr<BoxStream>> Copying::open(const Place& there, std::string_view direction,
                                                 const std::string& source_name) {
    if (there.path.empty())
        return ends_with(Exit::Usage, cat(there.agent, ": say which path in it, as ", there.agent, ":/path"));
    json::object parameters{{"direction", direction}, {"path", there.path}};
    if (!source_name.empty()) parameters["source_name"] = source_name;
    if (!options_.user.empty()) parameters["user"] = options_.user;
    auto* box = TRY(tool_.box());
    return box->stream(cat("/v1/copy/", there.agent), parameters);
}

// A copy is complete, or says what is there of it.
Result<> Copying::conclude(Result<> done) {
    for (const auto& line : left_out_) tool_.terminal.note(cat("left out: ", line), Tone::Caution);
    auto amount = cat(report_.entries, report_.entries == 1 ? " file" : " files", ", ",
                      size_text(static_cast<int64_t>(report_.bytes)));
    if (!done) return error(cat(done.error().message, ". Copied so far: ", amount));
    tool_.terminal.moved(title(), report_.entries, report_.bytes, true);
    if (report_.skipped > 0) return error(cat("copied ", amount, "; left out: ", report_.skipped));
    return {};
}

Result<> Copying::out_of(const Place& from) {
    bool to_output = options_.to == "-";
    auto stream = TRY(open(from, "out", ""));
    CopyStream frames(stream->socket());
    Destination to{.path = options_.to, .name = name_of(from.path), .file = to_output ? STDOUT_FILENO : -1};
    ReceiveBounds bounds{.most_bytes = static_cast<uint64_t>(options_.most_mb) << 20};
    auto done = receive_tree(frames, to, bounds, report_, watch());
    if (auto problem = stream->close(); !done && !problem.empty()) done = with_context(done.error(), problem);
    return conclude(std::move(done));
}

// The first frame, and no byte more: the rest is the copy's.
Result<> wait_until_ready(int socket) {
    std::byte head[kHeaderBytes];
    if (!read_exact(socket, head)) return error("the connection ended before the copy began");
    auto length = ByteReader(head).number<uint32_t>();
    if (length > kMaxMessageText + 64) return error("nonsense from the agent's machine");
    std::vector<std::byte> payload(length);
    TRY(read_exact(socket, payload));
    ExecGuestFrameReader reader;
    reader.feed(head);
    reader.feed(payload);
    auto frame = TRY(reader.next());
    if (frame && std::holds_alternative<Running>(*frame)) return {};
    if (const auto* failed = frame ? std::get_if<Failed>(&*frame) : nullptr) return error(failed->message);
    return error("nonsense from the agent's machine");
}

Result<> Copying::upload(BoxStream& stream) {
    TRY(wait_until_ready(stream.socket()));
    CopyStream frames(stream.socket());
    auto sent = options_.from == "-" ? send_file(frames, STDIN_FILENO, 0644, report_, watch())
                                     : send_tree(frames, options_.from, report_, watch());
    if (!sent && sent.error().code != ECANCELED) {
        (void)frames.send(Failed{.message = "given up by its sender"});
        return sent;
    }
    auto answer = TRY(frames.receive());
    if (!answer) return error("the connection ended before the copy was complete");
    if (const auto* failed = std::get_if<Failed>(&*answer)) return error(failed->message);
    const auto* done = std::get_if<Done>(&*answer);
    if (!done || !sent) return error("nonsense from the agent's machine");
    return {};
}

Result<> Copying::into(const Place& to) {
    bool from_input = options_.from == "-";
    struct stat info{};
    if (!from_input && ::stat(options_.from.c_str(), &info) < 0) return errno_error(options_.from);
    auto stream = TRY(open(to, "in", from_input ? "" : name_of(options_.from)));
    auto done = upload(*stream);
    if (auto problem = stream->close(); !done && !problem.empty()) done = with_context(done.error(), problem);
    return conclude(std::move(done));
}

} // namespace

Result<> agent_copy(Tool& tool, const CopyOptions& options) {
    auto from = place_of(options.from), to = place_of(options.to);
    if (from.agent.empty() == to.agent.empty())
        return ends_with(Exit::Usage, "one of both is an agent's: NAME:PATH (a path here with a colon in it: "
                                      "./a:b); from one agent to another goes through here");
    Copying copying(tool, options);
    return from.agent.empty() ? copying.into(to) : copying.out_of(from);
}

} // namespace nullbox::nullctl

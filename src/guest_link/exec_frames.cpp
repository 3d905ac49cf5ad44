#include "guest_link/exec_frames.h"

#include "guest_link/frame_codec.h"

namespace nullbox::guest_link {

namespace {
enum class ExecType : uint8_t {
    ExecRequest = 4,
    CopyRequest = 5,
    Input = 6,
    InputEnd = 7,
    Resize = 8,
    Signal = 9,
    // Of a copy, with the same number in both directions.
    Entry = 16,
    Data = 17,
    Skipped = 18,
    Done = 19,
    Failed = 20,
    Running = 70,
    Output = 71,
    InputTaken = 72,
    Ended = 73,
};
} // namespace

template <>
constexpr size_t kMaxPayload<CallerFrame> = kMaxExecRequest + 1024;
template <>
constexpr size_t kMaxPayload<ExecGuestFrame> = kMaxPiece + 64;

template <>
constexpr size_t kMaxPayload<CopyFrame> = kMaxPayload<ExecGuestFrame>;

static_assert(kMaxPayload<ExecGuestFrame> >= 2 * kMaxPath + kMaxMessageText + 64);

static Result<> check_piece(const std::string& bytes) {
    if (bytes.empty()) return error("a piece without bytes");
    return check_length(bytes, kMaxPiece, "a piece");
}

// --- one encoder and, where it is more than numbers, one decoder a frame

static ExecType write(ByteWriter& out, const ExecRequest& request) {
    out.number(request.number);
    put(out, request.command);
    put(out, request.environment);
    put(out, request.user);
    put(out, request.working_directory);
    out.number(static_cast<uint8_t>(request.terminal)).number(static_cast<uint8_t>(request.interactive));
    out.number(request.rows).number(request.columns);
    return ExecType::ExecRequest;
}

static Result<ExecRequest> read_exec_request(ByteReader& in) {
    ExecRequest request{.number = in.number<uint32_t>()};
    request.command = TRY(take_list(in, "command"));
    request.environment = TRY(take_list(in, "environment"));
    request.user = take_text(in);
    request.working_directory = take_text(in);
    request.terminal = TRY(take_bool(in, "terminal"));
    request.interactive = TRY(take_bool(in, "interactive"));
    request.rows = in.number<uint16_t>();
    request.columns = in.number<uint16_t>();
    if (request.command.empty() && !in.failed()) return error("command is empty");
    TRY(check_length(request.user, kMaxUserText, "user"));
    TRY(check_length(request.working_directory, kMaxPath, "working_directory"));
    return request;
}

static ExecType write(ByteWriter& out, const CopyRequest& request) {
    out.number(request.number).number(static_cast<uint8_t>(request.direction));
    put(out, request.path);
    put(out, request.name);
    put(out, request.user);
    return ExecType::CopyRequest;
}

static Result<CopyRequest> read_copy_request(ByteReader& in) {
    CopyRequest request{.number = in.number<uint32_t>()};
    auto direction = in.number<uint8_t>();
    if (direction != 1 && direction != 2 && !in.failed())
        return error(cat("direction is ", direction, ", must be 1 or 2"));
    request.direction = direction == 2 ? Direction::IntoGuest : Direction::OutOfGuest;
    request.path = take_text(in);
    request.name = take_text(in);
    request.user = take_text(in);
    TRY(check_length(request.path, kMaxPath, "path"));
    TRY(check_length(request.name, 255, "name"));
    TRY(check_length(request.user, kMaxUserText, "user"));
    return request;
}

static ExecType write(ByteWriter& out, const Input& input) {
    put(out, input.bytes);
    return ExecType::Input;
}

static ExecType write(ByteWriter&, const InputEnd&) { return ExecType::InputEnd; }

static ExecType write(ByteWriter& out, const Resize& resize) {
    out.number(resize.rows).number(resize.columns);
    return ExecType::Resize;
}

static ExecType write(ByteWriter& out, const Signal& signal) {
    out.number(signal.number);
    return ExecType::Signal;
}

static ExecType write(ByteWriter&, const Running&) { return ExecType::Running; }

static ExecType write(ByteWriter& out, const ExecOutput& output) {
    out.number(static_cast<uint8_t>(output.stream));
    put(out, output.bytes);
    return ExecType::Output;
}

static Result<ExecOutput> read_exec_output(ByteReader& in) {
    auto stream = in.number<uint8_t>();
    if (stream != 1 && stream != 2 && !in.failed())
        return error(cat("stream is ", stream, ", must be 1 or 2"));
    ExecOutput output{.stream = stream == 2 ? Stream::Stderr : Stream::Stdout, .bytes = take_text(in)};
    if (!in.failed()) TRY(check_piece(output.bytes));
    return output;
}

static ExecType write(ByteWriter& out, const InputTaken& taken) {
    out.number(taken.bytes);
    return ExecType::InputTaken;
}

static ExecType write(ByteWriter& out, const Ended& ended) {
    out.number(static_cast<uint8_t>(ended.by_signal)).number(ended.value);
    return ExecType::Ended;
}

static Result<Ended> read_ended(ByteReader& in) {
    Ended ended;
    ended.by_signal = TRY(take_bool(in, "by_signal"));
    ended.value = in.number<uint32_t>();
    if (ended.value > 255) return error(cat("value is ", ended.value, ", at most 255"));
    return ended;
}

static ExecType write(ByteWriter& out, const Entry& entry) {
    out.number(static_cast<uint8_t>(entry.kind));
    put(out, entry.path);
    out.number(entry.mode).number(entry.modified_s).number(entry.size_bytes);
    put(out, entry.target);
    return ExecType::Entry;
}

static Result<Entry> read_entry(ByteReader& in) {
    auto kind = in.number<uint8_t>();
    if ((kind < 1 || kind > 3) && !in.failed()) return error(cat("kind is ", kind, ", must be 1 to 3"));
    Entry entry{.kind = static_cast<EntryKind>(std::max<uint8_t>(kind, 1)), .path = take_text(in)};
    entry.mode = in.number<uint16_t>();
    entry.modified_s = in.number<uint64_t>();
    entry.size_bytes = in.number<uint64_t>();
    entry.target = take_text(in);
    TRY(check_length(entry.path, kMaxPath, "path"));
    TRY(check_length(entry.target, kMaxPath, "target"));
    if (entry.mode > 0777) return error(cat("mode has more than permission bits: ", entry.mode));
    if ((entry.kind == EntryKind::Link) == entry.target.empty() && !in.failed())
        return error("a link has a target, and nothing else has");
    return entry;
}

static ExecType write(ByteWriter& out, const Data& data) {
    put(out, data.bytes);
    return ExecType::Data;
}

static ExecType write(ByteWriter& out, const Skipped& skipped) {
    put(out, skipped.path);
    put(out, skipped.why);
    return ExecType::Skipped;
}

static Result<Skipped> read_skipped(ByteReader& in) {
    Skipped skipped{.path = take_text(in), .why = take_text(in)};
    TRY(check_length(skipped.path, kMaxPath, "path"));
    TRY(check_length(skipped.why, kMaxMessageText, "why"));
    return skipped;
}

static ExecType write(ByteWriter& out, const Done& done) {
    out.number(done.entries).number(done.bytes);
    return ExecType::Done;
}

static Done read_done(ByteReader& in) {
    Done done{.entries = in.number<uint64_t>()};
    done.bytes = in.number<uint64_t>();
    return done;
}

static ExecType write(ByteWriter& out, const Failed& failed) {
    out.number(failed.exit_code);
    put(out, failed.message);
    return ExecType::Failed;
}

static Result<Failed> read_failed(ByteReader& in) {
    Failed failed{.exit_code = in.number<uint32_t>()};
    failed.message = take_text(in);
    if (failed.exit_code > 255) return error(cat("exit_code is ", failed.exit_code, ", at most 255"));
    TRY(check_length(failed.message, kMaxMessageText, "message"));
    return failed;
}

template <typename T>
static Result<T> read_piece(ByteReader& in) {
    T piece{.bytes = take_text(in)};
    if (!in.failed()) TRY(check_piece(piece.bytes));
    return piece;
}

// --- frames

Result<std::vector<std::byte>> encode(const CallerFrame& frame) { return encode_frame(frame); }
Result<std::vector<std::byte>> encode(const ExecGuestFrame& frame) { return encode_frame(frame); }
Result<std::vector<std::byte>> encode(const CopyFrame& frame) { return encode_frame(frame); }

// Frames of a copy, which both sides send; nothing if it is none of them.
template <typename Frame>
static Result<std::optional<Frame>> decode_copy(ExecType type, ByteReader& in) {
    if (type == ExecType::Entry) return std::optional<Frame>(TRY(read_entry(in)));
    if (type == ExecType::Data) return std::optional<Frame>(TRY(read_piece<Data>(in)));
    if (type == ExecType::Skipped) return std::optional<Frame>(TRY(read_skipped(in)));
    if (type == ExecType::Done) return std::optional<Frame>(read_done(in));
    if (type == ExecType::Failed) return std::optional<Frame>(TRY(read_failed(in)));
    return std::optional<Frame>();
}

static Result<CallerFrame> decode(uint8_t number, ByteReader& in, const CallerFrame*) {
    auto type = static_cast<ExecType>(number);
    if (auto copy = TRY(decode_copy<CallerFrame>(type, in))) return *std::move(copy);
    if (type == ExecType::ExecRequest) return CallerFrame(TRY(read_exec_request(in)));
    if (type == ExecType::CopyRequest) return CallerFrame(TRY(read_copy_request(in)));
    if (type == ExecType::Input) return CallerFrame(TRY(read_piece<Input>(in)));
    if (type == ExecType::InputEnd) return CallerFrame(InputEnd{});
    if (type == ExecType::Signal) return CallerFrame(Signal{.number = in.number<uint8_t>()});
    if (type == ExecType::Resize) {
        Resize resize{.rows = in.number<uint16_t>()};
        resize.columns = in.number<uint16_t>();
        return CallerFrame(resize);
    }
    return error("unknown to a guest");
}

static Result<ExecGuestFrame> decode(uint8_t number, ByteReader& in, const ExecGuestFrame*) {
    auto type = static_cast<ExecType>(number);
    if (auto copy = TRY(decode_copy<ExecGuestFrame>(type, in))) return *std::move(copy);
    if (type == ExecType::Running) return ExecGuestFrame(Running{});
    if (type == ExecType::Output) return ExecGuestFrame(TRY(read_exec_output(in)));
    if (type == ExecType::InputTaken) return ExecGuestFrame(InputTaken{.bytes = in.number<uint32_t>()});
    if (type == ExecType::Ended) return ExecGuestFrame(TRY(read_ended(in)));
    return error("unknown to a caller");
}

static Result<CopyFrame> decode(uint8_t number, ByteReader& in, const CopyFrame*) {
    if (auto copy = TRY(decode_copy<CopyFrame>(static_cast<ExecType>(number), in))) return *std::move(copy);
    return error("no part of a copy");
}

template class FrameReader<CallerFrame>;
template class FrameReader<ExecGuestFrame>;
template class FrameReader<CopyFrame>;

} // namespace nullbox::guest_link

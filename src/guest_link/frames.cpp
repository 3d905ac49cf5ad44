#include "guest_link/frames.h"

#include "base/bytes.h"
#include "base/text.h"

namespace nullbox::guest_link {

enum class Type : uint8_t {
    Start = 1,
    Stop = 2,
    SetClock = 3,
    Hello = 64,
    Started = 65,
    Output = 66,
    Exited = 67,
    Failure = 68
};

template <typename Frame>
constexpr size_t kMaxPayload = 0;
template <>
constexpr size_t kMaxPayload<HostFrame> = kMaxHostPayload;
template <>
constexpr size_t kMaxPayload<GuestFrame> = kMaxGuestPayload;

constexpr uint32_t kMaxListEntries = 4096;

// --- payload fields

static void put(ByteWriter& out, std::string_view text) {
    out.number(static_cast<uint32_t>(text.size())).bytes(std::as_bytes(std::span(text)));
}

static void put(ByteWriter& out, const std::vector<std::string>& list) {
    out.number(static_cast<uint32_t>(list.size()));
    for (const auto& text : list) put(out, text);
}

static std::string take_text(ByteReader& in) {
    auto length = in.number<uint32_t>();
    return std::string(as_text(in.take(length)));
}

static Result<std::vector<std::string>> take_list(ByteReader& in, std::string_view what) {
    auto count = in.number<uint32_t>();
    if (count > kMaxListEntries)
        return error(cat(what, " has ", count, " entries, at most ", kMaxListEntries));
    std::vector<std::string> list;
    for (uint32_t i = 0; i < count && !in.failed(); i++) list.push_back(take_text(in));
    return list;
}

static Result<bool> take_bool(ByteReader& in, std::string_view what) {
    auto value = in.number<uint8_t>();
    if (value > 1) return error(cat(what, " is ", value, ", must be 0 or 1"));
    return value == 1;
}

static Result<> check_length(const std::string& text, size_t most, std::string_view what) {
    if (text.size() > most) return error(cat(what, " has ", text.size(), " bytes, at most ", most));
    return {};
}

// --- one encoder and one decoder a frame

static void put(ByteWriter& out, const std::optional<Network>& network) {
    out.number(static_cast<uint8_t>(network.has_value()));
    if (!network) return;
    put(out, network->address);
    out.number(network->prefix_length);
    put(out, network->gateway);
    put(out, network->dns);
    out.number(network->mtu);
}

static Result<std::optional<Network>> take_network(ByteReader& in) {
    if (!TRY(take_bool(in, "network"))) return std::optional<Network>();
    Network network{.address = take_text(in)};
    network.prefix_length = in.number<uint8_t>();
    network.gateway = take_text(in);
    network.dns = take_text(in);
    network.mtu = in.number<uint16_t>();
    if (network.prefix_length > 32) return error(cat("prefix of ", network.prefix_length, " bits"));
    return std::optional(std::move(network));
}

static void put(ByteWriter& out, const std::vector<StartShare>& shares) {
    out.number(static_cast<uint32_t>(shares.size()));
    for (const auto& share : shares) {
        put(out, share.tag);
        put(out, share.path);
        out.number(static_cast<uint8_t>(share.read_only));
    }
}

static Result<std::vector<StartShare>> take_shares(ByteReader& in) {
    auto count = in.number<uint32_t>();
    if (count > kMaxStartShares)
        return error(cat("shares has ", count, " entries, at most ", kMaxStartShares));
    std::vector<StartShare> shares;
    for (uint32_t i = 0; i < count && !in.failed(); i++) {
        StartShare share{.tag = take_text(in)};
        share.path = take_text(in);
        share.read_only = TRY(take_bool(in, "read_only"));
        shares.push_back(std::move(share));
    }
    return shares;
}

static Type write(ByteWriter& out, const Start& start) {
    put(out, start.command);
    put(out, start.environment);
    out.number(start.uid).number(start.gid);
    put(out, start.working_directory);
    put(out, start.hostname);
    out.number(start.clock_ns).number(static_cast<uint8_t>(start.has_app_image));
    out.number(static_cast<uint8_t>(start.has_memory));
    put(out, start.network);
    put(out, start.authority_pem);
    put(out, start.shares);
    return Type::Start;
}

static Result<Start> read_start(ByteReader& in) {
    Start start;
    start.command = TRY(take_list(in, "command"));
    start.environment = TRY(take_list(in, "environment"));
    start.uid = in.number<uint32_t>();
    start.gid = in.number<uint32_t>();
    start.working_directory = take_text(in);
    start.hostname = take_text(in);
    start.clock_ns = in.number<uint64_t>();
    start.has_app_image = TRY(take_bool(in, "has_app_image"));
    start.has_memory = TRY(take_bool(in, "has_memory"));
    start.network = TRY(take_network(in));
    start.authority_pem = take_text(in);
    TRY(check_length(start.authority_pem, kMaxAuthorityText, "authority_pem"));
    start.shares = TRY(take_shares(in));
    return start;
}

static Type write(ByteWriter& out, const Stop& stop) {
    out.number(stop.grace_ms);
    return Type::Stop;
}

static Type write(ByteWriter& out, const SetClock& set) {
    out.number(set.clock_ns);
    return Type::SetClock;
}

static Type write(ByteWriter& out, const Hello& hello) {
    out.number(hello.version).number(hello.uptime_ns);
    return Type::Hello;
}

static Type write(ByteWriter& out, const Started& started) {
    out.number(started.uptime_ns);
    return Type::Started;
}

static Type write(ByteWriter& out, const Output& output) {
    out.number(static_cast<uint8_t>(output.stream)).number(static_cast<uint8_t>(output.partial));
    out.number(output.uptime_ns);
    put(out, output.text);
    return Type::Output;
}

static Result<Output> read_output(ByteReader& in) {
    Output output;
    auto stream = in.number<uint8_t>();
    if (stream != 1 && stream != 2 && !in.failed())
        return error(cat("stream is ", stream, ", must be 1 or 2"));
    output.stream = stream == 2 ? Stream::Stderr : Stream::Stdout;
    output.partial = TRY(take_bool(in, "partial"));
    output.uptime_ns = in.number<uint64_t>();
    output.text = take_text(in);
    TRY(check_length(output.text, kMaxOutputText, "text"));
    return output;
}

static Type write(ByteWriter& out, const Exited& exited) {
    out.number(static_cast<uint8_t>(exited.by_signal)).number(exited.value);
    put(out, exited.reason);
    return Type::Exited;
}

static Result<Exited> read_exited(ByteReader& in) {
    Exited exited;
    exited.by_signal = TRY(take_bool(in, "by_signal"));
    exited.value = in.number<uint32_t>();
    exited.reason = take_text(in);
    if (exited.value > 255) return error(cat("exit value is ", exited.value, ", at most 255"));
    TRY(check_length(exited.reason, kMaxMessageText, "reason"));
    return exited;
}

static Type write(ByteWriter& out, const Failure& failure) {
    put(out, failure.stage);
    put(out, failure.message);
    return Type::Failure;
}

static Result<Failure> read_failure(ByteReader& in) {
    Failure failure;
    failure.stage = take_text(in);
    failure.message = take_text(in);
    TRY(check_length(failure.stage, kMaxStageText, "stage"));
    TRY(check_length(failure.message, kMaxMessageText, "message"));
    return failure;
}

// --- frames

template <typename Frame>
static Result<std::vector<std::byte>> encode_frame(const Frame& frame) {
    ByteWriter payload;
    Type type = std::visit([&](const auto& of) { return write(payload, of); }, frame);
    size_t size = payload.view().size();
    if (size > kMaxPayload<Frame>)
        return error(cat("frame of type ", static_cast<uint8_t>(type), " has ", size, " bytes, at most ",
                         kMaxPayload<Frame>));
    ByteWriter out;
    out.number(static_cast<uint32_t>(size)).number(static_cast<uint8_t>(type)).bytes(payload.view());
    return std::move(out).take();
}

Result<std::vector<std::byte>> encode(const HostFrame& frame) {
    return encode_frame(frame).context("command and environment are too large for one start");
}

Result<std::vector<std::byte>> encode(const GuestFrame& frame) { return encode_frame(frame); }

static constexpr uint8_t number_of(Type type) { return static_cast<uint8_t>(type); }

static Result<HostFrame> decode(uint8_t type, ByteReader& in, const HostFrame*) {
    if (type == number_of(Type::Start)) return HostFrame(TRY(read_start(in)));
    if (type == number_of(Type::Stop)) return HostFrame(Stop{.grace_ms = in.number<uint32_t>()});
    if (type == number_of(Type::SetClock)) return HostFrame(SetClock{.clock_ns = in.number<uint64_t>()});
    return error("unknown to a guest");
}

static Result<GuestFrame> decode(uint8_t type, ByteReader& in, const GuestFrame*) {
    if (type == number_of(Type::Hello)) {
        Hello hello{.version = in.number<uint16_t>(), .uptime_ns = 0};
        hello.uptime_ns = in.number<uint64_t>();
        return GuestFrame(hello);
    }
    if (type == number_of(Type::Started)) return GuestFrame(Started{.uptime_ns = in.number<uint64_t>()});
    if (type == number_of(Type::Output)) return GuestFrame(TRY(read_output(in)));
    if (type == number_of(Type::Exited)) return GuestFrame(TRY(read_exited(in)));
    if (type == number_of(Type::Failure)) return GuestFrame(TRY(read_failure(in)));
    return error("unknown to the host");
}

template <typename Frame>
void FrameReader<Frame>::feed(std::span<const std::byte> bytes) {
    if (broken_) return;
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<ptrdiff_t>(taken_));
    taken_ = 0;
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
}

template <typename Frame>
Result<std::optional<Frame>> FrameReader<Frame>::next() {
    if (broken_) return *broken_;
    ByteReader in(std::span(buffer_).subspan(taken_));
    auto length = in.number<uint32_t>();
    auto type = in.number<uint8_t>();
    if (in.failed()) return std::optional<Frame>();
    if (length > kMaxPayload<Frame>) {
        broken_ = error(cat("frame of ", length, " bytes, at most ", kMaxPayload<Frame>));
        return *broken_;
    }
    auto payload = in.take(length);
    if (in.failed()) return std::optional<Frame>();
    ByteReader fields(payload);
    auto frame = decode(type, fields, static_cast<const Frame*>(nullptr));
    if (frame && fields.failed()) frame = error("ends in the middle of a field");
    if (frame && !fields.rest().empty()) frame = error(cat(fields.rest().size(), " bytes too many"));
    if (!frame) {
        broken_ = with_context(std::move(frame.error()), cat("frame of type ", type));
        return *broken_;
    }
    taken_ += kHeaderBytes + length;
    return std::optional<Frame>(*std::move(frame));
}

template class FrameReader<HostFrame>;
template class FrameReader<GuestFrame>;

} // namespace nullbox::guest_link

#include "guest_link/frames.h"

#include "guest_link/frame_codec.h"

namespace nullbox::guest_link {

enum class Type : uint8_t {
    Start = 1,
    Stop = 2,
    SetClock = 3,
    CheckHealth = 32,
    Hello = 64,
    Started = 65,
    Output = 66,
    Exited = 67,
    Failure = 68,
    ExecEnded = 69,
    Health = 96
};

template <>
constexpr size_t kMaxPayload<HostFrame> = kMaxHostPayload;
template <>
constexpr size_t kMaxPayload<GuestFrame> = kMaxGuestPayload;

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

static Type write(ByteWriter& out, const CheckHealth& check) {
    out.number(check.number).number(static_cast<uint8_t>(check.http)).number(check.port);
    put(out, check.path);
    out.number(check.timeout_ms);
    return Type::CheckHealth;
}

static Result<CheckHealth> read_check_health(ByteReader& in) {
    CheckHealth check{.number = in.number<uint32_t>()};
    check.http = TRY(take_bool(in, "http"));
    check.port = in.number<uint16_t>();
    check.path = take_text(in);
    check.timeout_ms = in.number<uint32_t>();
    TRY(check_length(check.path, kMaxHealthPath, "path"));
    return check;
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
    out.number(static_cast<uint8_t>(exited.out_of_memory));
    return Type::Exited;
}

static Result<Exited> read_exited(ByteReader& in) {
    Exited exited;
    exited.by_signal = TRY(take_bool(in, "by_signal"));
    exited.value = in.number<uint32_t>();
    exited.out_of_memory = TRY(take_bool(in, "out_of_memory"));
    if (exited.value > 255) return error(cat("exit value is ", exited.value, ", at most 255"));
    return exited;
}

static Type write(ByteWriter& out, const Health& health) {
    out.number(health.number).number(static_cast<uint8_t>(health.good));
    put(out, health.says);
    return Type::Health;
}

static Result<Health> read_health(ByteReader& in) {
    Health health{.number = in.number<uint32_t>()};
    health.good = TRY(take_bool(in, "good"));
    health.says = take_text(in);
    TRY(check_length(health.says, kMaxHealthText, "says"));
    return health;
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

static Type write(ByteWriter& out, const ExecEnded& ended) {
    out.number(ended.number).number(static_cast<uint8_t>(ended.by_signal)).number(ended.value);
    return Type::ExecEnded;
}

static Result<ExecEnded> read_exec_ended(ByteReader& in) {
    ExecEnded ended{.number = in.number<uint32_t>()};
    ended.by_signal = TRY(take_bool(in, "by_signal"));
    ended.value = in.number<uint32_t>();
    if (ended.value > 255) return error(cat("value is ", ended.value, ", at most 255"));
    return ended;
}

// --- frames

Result<std::vector<std::byte>> encode(const HostFrame& frame) {
    return encode_frame(frame).context("command and environment are too large for one start");
}

Result<std::vector<std::byte>> encode(const GuestFrame& frame) { return encode_frame(frame); }

static constexpr uint8_t number_of(Type type) { return static_cast<uint8_t>(type); }

static Result<HostFrame> decode(uint8_t type, ByteReader& in, const HostFrame*) {
    if (type == number_of(Type::Start)) return HostFrame(TRY(read_start(in)));
    if (type == number_of(Type::Stop)) return HostFrame(Stop{.grace_ms = in.number<uint32_t>()});
    if (type == number_of(Type::SetClock)) return HostFrame(SetClock{.clock_ns = in.number<uint64_t>()});
    if (type == number_of(Type::CheckHealth)) return HostFrame(TRY(read_check_health(in)));
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
    if (type == number_of(Type::Health)) return GuestFrame(TRY(read_health(in)));
    if (type == number_of(Type::ExecEnded)) return GuestFrame(TRY(read_exec_ended(in)));
    return error("unknown to the host");
}

template class FrameReader<HostFrame>;
template class FrameReader<GuestFrame>;

} // namespace nullbox::guest_link

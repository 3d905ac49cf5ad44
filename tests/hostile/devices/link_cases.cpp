// The stream from the guest to cage: whoever is root in the guest can put its own program in agent-init's
// place.
#include <chrono>
#include <cstring>

#include "cage/guest_session.h"
#include "guest.h"

namespace nullbox::hostile {

namespace {
using namespace guest_link; // NOLINT

struct LinkCase {
    std::unique_ptr<Loop> loop = *Loop::make();
    Fd socket;
    int hellos = 0, starts = 0, outputs = 0;
    std::string last; // the last word, when there was one
    std::unique_ptr<GuestSession> session;

    LinkCase() {
        auto pair = *make_socket_pair(SOCK_STREAM | SOCK_NONBLOCK);
        socket = std::move(pair.first);
        auto over = [this](std::string what) {
            expect(last.empty(), cat("a second last word: ", what, " after ", last));
            last = std::move(what);
        };
        session = *GuestSession::make(*loop, std::move(pair.second),
                                      {.hello = [this](const Hello&) { ++hellos; },
                                       .started = [this](const Started&) { ++starts; },
                                       .output = [this](const Output&) { ++outputs; },
                                       .exited = [over](const Exited&) { over("exited"); },
                                       .failed = [over](const Failure&) { over("failed"); },
                                       .nonsense = over,
                                       .closed = [over] { over("closed"); }});
    }
    void turn(int times = 4) {
        for (int i = 0; i < times; ++i)
            expect(static_cast<bool>(loop->run_once(std::chrono::milliseconds(0))), "the loop");
    }
    // Whether the link took it.
    bool say(std::string_view bytes) {
        ssize_t sent = ::send(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        turn();
        return sent == static_cast<ssize_t>(bytes.size());
    }
    bool say(const GuestFrame& frame) {
        auto bytes = *encode(frame);
        return say(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    }
    void is_nonsense(std::string_view what) {
        expect(last.starts_with("nonsense on the guest's link: "), cat(what, ": ", last));
    }
};

std::string frame_of(uint32_t length, uint8_t type, std::string_view payload) {
    return raw(length).append(1, static_cast<char>(type)).append(payload);
}

void unknown_types() {
    for (unsigned type = 0; type < 256; ++type) {
        LinkCase link;
        link.say(frame_of(4, static_cast<uint8_t>(type), std::string("\1\0\0\0", 4)));
        link.is_nonsense(cat("type ", type));
        equal(static_cast<uint64_t>(link.hellos), 0, "hellos");
    }
}
void lengths() {
    for (uint32_t length : {uint32_t{kMaxGuestPayload} + 1, 0x10'0000u, 0x7fff'ffffu, UINT32_MAX}) {
        LinkCase link;
        link.say(frame_of(length, 65, "x")); // refused by its header: nothing of that size is waited for
        link.is_nonsense(cat("a length of ", length));
    }
    auto hello = *encode(GuestFrame(Hello{}));
    std::string bytes(reinterpret_cast<const char*>(hello.data()), hello.size());
    for (int more : {-1, 1}) { // a payload cut short, or longer than its fields
        LinkCase link;
        auto length = static_cast<uint32_t>(static_cast<int>(bytes.size() - kHeaderBytes) + more);
        std::memcpy(bytes.data(), &length, sizeof length);
        link.say(bytes + std::string(16, '\0'));
        link.is_nonsense("a length that is not its fields'");
    }
}
void texts_that_lie() {
    for (uint32_t length : {5u, 100u, uint32_t{kMaxOutputText} + 1, UINT32_MAX}) {
        LinkCase link;
        link.say(Hello{}), link.say(Started{});
        std::string payload = std::string("\1\0", 2) + raw(uint64_t{1}) + raw(length) + "abcd";
        auto good = *encode(GuestFrame(Output{.text = "abcd"}));
        link.say(frame_of(static_cast<uint32_t>(payload.size()), static_cast<uint8_t>(good[4]), payload));
        link.is_nonsense(cat("a text of ", length, " bytes in 4"));
        equal(static_cast<uint64_t>(link.outputs), 0, "outputs");
    }
}
void out_of_order() {
    const GuestFrame frames[] = {Hello{}, Started{}, Output{.text = "x"}, Exited{}};
    for (const auto& first : frames)
        for (const auto& second : frames)
            for (const auto& third : frames) {
                LinkCase link;
                link.say(first), link.say(second), link.say(third);
                bool right = first.index() == 0 && second.index() == 1 && third.index() >= 2;
                expect(right == !link.last.starts_with("nonsense"),
                       cat("frames ", first.index(), second.index(), third.index(), ": ", link.last));
                expect(link.hellos <= 1 && link.starts <= 1, "a second beginning");
            }
}
void other_versions() {
    for (unsigned version : {0u, 1u, kVersion + 1u, 0xffffu}) {
        LinkCase link;
        link.say(Hello{.version = static_cast<uint16_t>(version)});
        link.is_nonsense(cat("version ", version));
    }
}
void after_the_end() {
    LinkCase link;
    link.say(Hello{}), link.say(Started{}), link.say(Exited{.value = 3});
    for (int i = 0; i < 100; ++i) link.say(Output{.text = "late"}), link.say(Exited{.value = 0});
    expect(link.last == "exited" && link.outputs == 0, "it is heard after its last word");
}
void byte_by_byte() {
    LinkCase link;
    std::string all;
    for (const GuestFrame& frame :
         {GuestFrame(Hello{}), GuestFrame(Started{}), GuestFrame(Output{.text = std::string(1000, 'o')})}) {
        auto bytes = *encode(frame);
        all.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    for (char byte : all) link.say(std::string_view(&byte, 1));
    equal(static_cast<uint64_t>(link.outputs), 1, "outputs");
    link.socket.reset(); // in the middle of nothing
    link.turn();
    expect(link.last == "closed", link.last);
}
void output_flood() {
    LinkCase link;
    link.say(Hello{}), link.say(Started{});
    auto start = Clock::now();
    auto frame = *encode(GuestFrame(Output{.text = std::string(kMaxOutputText, 'f')}));
    uint64_t taken = 0;
    // As much as it takes in a third of a second of asking again and again, in whichever pieces.
    while (Clock::now() - start < std::chrono::milliseconds(300)) {
        size_t at = taken % frame.size();
        ssize_t sent =
            ::send(link.socket.get(), frame.data() + at, frame.size() - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        taken += sent > 0 ? static_cast<uint64_t>(sent) : 0;
        link.turn(1);
    }
    // 8 MiB a second, what is on its way in the socket, and one window more at each end.
    auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - start).count();
    uint64_t most = (2u << 20) + (static_cast<uint64_t>(took) << 23) / 1000;
    expect(taken < most, cat(taken, " bytes of output in ", took, " ms: nothing slows it"));
    expect(link.outputs > 0 && link.last.empty(), "the output is not heard");
}
void reads_nothing() { // cage's own frames pile up on no one's account but the guest's
    LinkCase link;
    link.say(Hello{});
    std::vector<std::string> environment(8, std::string(60'000, 'e'));
    auto sent = link.session->send(Start{.command = {"/x"}, .environment = environment});
    expect(static_cast<bool>(sent), "send Start");
    for (int i = 0; i < 1000; ++i) (void)link.session->send(SetClock{.clock_ns = 1});
    link.turn();
    link.say(Started{});
    equal(static_cast<uint64_t>(link.starts), 1, "starts");
}

constexpr Case kCases[] = {
    {"link: frames of every type that there is not", unknown_types},
    {"link: lengths beyond the limit, or not their fields'", lengths},
    {"link: texts whose length lies", texts_that_lie},
    {"link: frames in every order", out_of_order},
    {"link: other versions", other_versions},
    {"link: frames after the last word", after_the_end},
    {"link: byte by byte, and cut off", byte_by_byte},
    {"link: output in a flood is slowed down", output_flood},
    {"link: the guest reads nothing", reads_nothing},
};
} // namespace

std::span<const Case> link_cases() { return kCases; }

} // namespace nullbox::hostile

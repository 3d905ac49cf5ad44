// Commands and copies that an operator runs in a running agent, each on a vsock stream of its own: the host
// connects to kExecPort of the guest, where agent-init listens. The form of a frame is that of frames.h. The
// first one is cage's and says what is to be done; all others are exchanged by nullctl and agent-init, and
// cage and gate only carry them.
//
//     ExecRequest  ->            CopyRequest (out)  ->           CopyRequest (in)  ->
//                  <- Running                       <- Entry                       <- Running
//     Input, ...   <-> Output    (Done or Failed)   <- Data ...  Entry, Data ...   ->
//                  <- Ended                         <- Done      Done              ->
//                                                                (Done or Failed)  <- Done
//
// Flow control: bytes that a command has printed wait in the stream, so a caller who does not read makes the
// command wait. Input has a window of its own, so that a command that does not read its input still hears
// Resize and Signal: a caller sends at most kInputWindow bytes beyond what InputTaken has told it.
//
// Every frame is bounded, and hostile at the side that reads it: the agent may be root in its VM. The end of
// the stream before Ended or Done is the end of the connection: the guest hangs up on what it runs.
#pragma once

#include "guest_link/frames.h"

namespace nullbox::guest_link {

constexpr uint32_t kExecPort = 1025;                  // vsock port of the guest
constexpr size_t kMaxExecAtOnce = 8;                  // commands and copies of one agent
constexpr size_t kMaxExecRequest = size_t{128} << 10; // argv and environment together
constexpr size_t kMaxPiece = size_t{32} << 10;        // bytes of one Input, Output or Data
constexpr size_t kInputWindow = size_t{128} << 10;
constexpr size_t kMaxPath = 4096;
constexpr size_t kMaxUserText = 64;

// --- caller to guest

struct ExecRequest {
    uint32_t number = 0;                        // of this exec, for ExecEnded on the agent's link
    std::vector<std::string> command;           // argv; at least one
    std::vector<std::string> environment;       // "NAME=value", beside and before the agent's own
    std::string user;                           // "", "1000", "1000:1000" or a name; empty: the manifest's
    std::string working_directory;              // empty: the agent's
    bool terminal = false, interactive = false; // interactive: Input will come; else it is at its end
    uint16_t rows = 0, columns = 0;             // of the terminal
    bool operator==(const ExecRequest&) const = default;
};

enum class Direction : uint8_t { OutOfGuest = 1, IntoGuest = 2 };

struct CopyRequest {
    uint32_t number = 0;
    Direction direction = Direction::OutOfGuest;
    std::string path; // in the guest; relative to the agent's working directory if it does not begin with "/"
    std::string name; // IntoGuest: what it is called if path is a folder
    std::string user; // as ExecRequest has it: whose rights count
    bool operator==(const CopyRequest&) const = default;
};

struct Input { // of the command
    std::string bytes;
    bool operator==(const Input&) const = default;
};
struct InputEnd {
    bool operator==(const InputEnd&) const = default;
};
struct Resize {
    uint16_t rows = 0, columns = 0;
    bool operator==(const Resize&) const = default;
};
struct Signal { // to the command's process group
    uint8_t number = 0;
    bool operator==(const Signal&) const = default;
};

// --- guest to caller; every field is guest-controlled

struct Running { // the command executes; the copy's files may come
    bool operator==(const Running&) const = default;
};
struct ExecOutput {
    Stream stream = Stream::Stdout; // a terminal has this one only
    std::string bytes;
    bool operator==(const ExecOutput&) const = default;
};
struct InputTaken { // so many more bytes of Input are the command's now
    uint32_t bytes = 0;
    bool operator==(const InputTaken&) const = default;
};
struct Ended { // the last of an exec
    bool by_signal = false;
    uint32_t value = 0; // exit code or signal, 0..255
    bool operator==(const Ended&) const = default;
};

// --- both ways: a tree of files, parents before children

enum class EntryKind : uint8_t { File = 1, Folder = 2, Link = 3 };

struct Entry {
    EntryKind kind = EntryKind::File;
    std::string path;        // below what is copied, "a/b"; empty: the thing itself
    uint16_t mode = 0644;    // permission bits only
    uint64_t modified_s = 0; // of a file, since 1970
    uint64_t size_bytes = 0; // of a file, as it seemed: it may turn out longer or shorter
    std::string target;      // of a link
    bool operator==(const Entry&) const = default;
};
struct Data { // of the last Entry, a file; goes on until another Entry, Skipped or Done
    std::string bytes;
    bool operator==(const Data&) const = default;
};
struct Skipped { // left out, and the copy goes on
    std::string path, why;
    bool operator==(const Skipped&) const = default;
};
struct Done { // everything was sent, or everything is in its place
    uint64_t entries = 0, bytes = 0;
    bool operator==(const Done&) const = default;
};
struct Failed {               // the last: what was asked for cannot be done
    uint32_t exit_code = 126; // of an exec: 127 for a command that is not there
    std::string message;
    bool operator==(const Failed&) const = default;
};

using CallerFrame = std::variant<ExecRequest, CopyRequest, Input, InputEnd, Resize, Signal, Entry, Data,
                                 Skipped, Done, Failed>;
using ExecGuestFrame =
    std::variant<Running, ExecOutput, InputTaken, Ended, Entry, Data, Skipped, Done, Failed>;

// What both sides of a copy understand; the bytes are the same as in the two above.
using CopyFrame = std::variant<Entry, Data, Skipped, Done, Failed>;

Result<std::vector<std::byte>> encode(const CallerFrame& frame);
Result<std::vector<std::byte>> encode(const ExecGuestFrame& frame);
Result<std::vector<std::byte>> encode(const CopyFrame& frame);

using CallerFrameReader = FrameReader<CallerFrame>;
using ExecGuestFrameReader = FrameReader<ExecGuestFrame>;
using CopyFrameReader = FrameReader<CopyFrame>;

} // namespace nullbox::guest_link

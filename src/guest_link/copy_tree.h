// A tree of files over a stream, as frames of exec_frames.h: the sender walks, the receiver builds. nullctl
// and agent-init have both ends, one for each direction. Blocking, one frame after the other.
//
// The receiver trusts nothing: a path stays below the place it was given (no "..", nothing absolute, no
// symbolic link on the way: openat2 with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS), there are files, folders
// and links and nothing else, modes are permission bits, and what may come is bounded. A file appears under
// its name when it is whole; a copy that is cut off leaves what had been finished.
#pragma once

#include <functional>

#include "base/fd.h"
#include "guest_link/exec_frames.h"

namespace nullbox::guest_link {

constexpr uint32_t kMaxDepth = 64; // folders in folders

struct CopyReport { // also of a copy that failed: what was sent, or is in its place
    uint64_t entries = 0, bytes = 0, skipped = 0;
};

// Frames over a blocking or nonblocking socket, which it borrows.
class CopyStream {
public:
    explicit CopyStream(int socket) : socket_(socket) {}
    // Waits for room. Fails with ECANCELED when the other side has said something or is gone: a sender then
    // has to hear why.
    Result<> send(const CopyFrame& frame);
    // Nothing: the stream has ended.
    Result<std::optional<CopyFrame>> receive();

private:
    int socket_;
    CopyFrameReader reader_;
};

struct CopyWatch { // either may be empty
    std::function<void(const CopyReport&)> moved;
    std::function<void(std::string_view path, std::string_view why)> skipped;
};

// What path names (a link is followed here, and nowhere below), then Done.
Result<> send_tree(CopyStream& stream, const std::string& path, CopyReport& report, const CopyWatch& watch);
// The bytes of an open file until they end, as a file with that mode, then Done.
Result<> send_file(CopyStream& stream, int file, uint16_t mode, CopyReport& report, const CopyWatch& watch);

struct Destination {
    std::string path; // becomes the copy; or, if it is a folder already, holds it under name
    std::string name; // "." or empty: what is copied is a folder, and its content goes into path
    int file = -1;    // an open file instead: takes the bytes of a single file
};

struct ReceiveBounds {
    uint64_t most_entries = 1'000'000;
    uint64_t most_bytes = UINT64_MAX;
    // Links that lead out of the tree are left out: on an operator's machine they are a guest's way to make
    // somebody else read or write elsewhere, later.
    bool confine_links = true;
};

// Until Done. A Failed of the sender is an error here.
Result<> receive_tree(CopyStream& stream, const Destination& destination, const ReceiveBounds& bounds,
                      CopyReport& report, const CopyWatch& watch);

// Whether a link at path (below the tree, "a/b") may have this target: it leads up no further than to the
// tree, and goes up at its beginning only, where the folders are real ones.
bool stays_inside(std::string_view path, std::string_view target);
// What is wrong with a path below a tree; empty if nothing is.
std::string wrong_path(std::string_view path);

} // namespace nullbox::guest_link

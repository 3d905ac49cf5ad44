#include "agent_init/line_splitter.h"

#include <algorithm>

#include "guest_link/frames.h"

namespace nullbox::agent_init {

using guest_link::kMaxOutputText;

void LineSplitter::feed(std::string_view bytes, const Emit& emit) {
    while (!bytes.empty()) {
        size_t end = bytes.find('\n');
        size_t wanted =
            std::min(end == std::string_view::npos ? bytes.size() : end, kMaxOutputText - pending_.size());
        pending_ += bytes.substr(0, wanted);
        bytes.remove_prefix(wanted);
        if (wanted == end) {
            bytes.remove_prefix(1);
            emit(std::exchange(pending_, {}), false);
            open_ = false;
        } else if (pending_.size() == kMaxOutputText) {
            // Full, and the next byte (if it is here) is not the line's end.
            flush(emit);
        }
    }
}

void LineSplitter::flush(const Emit& emit) {
    if (pending_.empty()) return;
    emit(std::exchange(pending_, {}), true);
    open_ = true;
}

void LineSplitter::finish(const Emit& emit) {
    if (!pending_.empty() || open_) emit(std::exchange(pending_, {}), false);
    open_ = false;
}

} // namespace nullbox::agent_init

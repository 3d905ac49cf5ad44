#include "cage/memory_door.h"

#include <boost/json/array.hpp>

#include "base/text.h"
#include "varlink/pending.h"

namespace nullbox::cage {

namespace json = boost::json;
using varlink::Answer;

// Guest-controlled how many come; agent-init opens no more than this at a time.
constexpr size_t kMostWaiting = 32;

struct MemoryDoor::Stream {
    varlink::PendingCall call;
};

MemoryDoor::MemoryDoor(Loop& loop, std::string ctxgraph_socket,
                       std::function<void(std::string_view)> complain)
    : loop_(loop), socket_(std::move(ctxgraph_socket)), complain_(std::move(complain)) {}
MemoryDoor::~MemoryDoor() = default;

static json::object serve_parameters(const manifest::AgentManifest& manifest) {
    auto texts = [](const std::vector<std::string>& list) { return json::array(list.begin(), list.end()); };
    return {{"agent", manifest.name},
            {"read", texts(manifest.memory_read)},
            {"write", texts(manifest.memory_write)},
            {"max_entries", manifest.memory_max_entries},
            {"max_bytes", manifest.memory_max_bytes}};
}

void MemoryDoor::hand_over(const manifest::AgentManifest& manifest, Fd stream) {
    if (waiting_.size() == kMostWaiting) return; // closed: the guest may try again
    varlink::BackgroundCall call{.socket_path = socket_,
                                 .method = "io.nullbox.ctxgraph.Serve",
                                 .parameters = serve_parameters(manifest)};
    call.fds.push_back(std::move(stream));
    auto one = std::make_shared<Stream>();
    one->call = varlink::call_in_background(
        loop_, std::move(call), [this, which = std::weak_ptr(one)](const Result<Answer>& answer) {
            auto done = which.lock(); // kept until we return: its call is what calls us
            std::erase(waiting_, done);
            if (answer)
                last_complaint_.clear();
            else
                on_failure(printable(answer.error().message, 512));
        });
    waiting_.push_back(std::move(one));
}

void MemoryDoor::close_all() { waiting_.clear(); }

void MemoryDoor::on_failure(const std::string& why) {
    if (why == last_complaint_) return;
    last_complaint_ = why;
    complain_(cat("memory: ", why));
}

} // namespace nullbox::cage

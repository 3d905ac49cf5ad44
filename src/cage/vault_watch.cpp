#include "cage/vault_watch.h"

#include "base/text.h"
#include "varlink/parameters.h"
#include "varlink/pending.h"

namespace nullbox::cage {

constexpr auto kRetry = std::chrono::milliseconds(500);

VaultWatch::VaultWatch(Loop& loop, std::string warden_socket, std::function<void()> changed)
    : loop_(loop), socket_(std::move(warden_socket)), changed_(std::move(changed)) {}
VaultWatch::~VaultWatch() = default;

void VaultWatch::follow() {
    if (stream_ || retry_) return;
    stream_ = std::make_unique<varlink::PendingCall>(varlink::follow_in_background(
        loop_, {.socket_path = socket_, .method = "io.nullbox.warden.Watch", .parameters = {}},
        [this](Result<varlink::Answer> answer, bool last) { on_answer(std::move(answer), last); }));
}

void VaultWatch::on_answer(Result<varlink::Answer> answer, bool last) {
    if (answer) {
        auto state = varlink::Parameters(answer->parameters).text("state", {.most_bytes = 32});
        if (state == "unlocked")
            know(true, "");
        else if (state == "absent")
            know(false, "the vault: nullctl vault init");
        else if (state == "locked")
            know(false, "the vault: nullctl vault unlock");
        else
            know(false, cat("the vault, which is ", printable(state, 32), ": nullctl vault status"));
    } else {
        know(false, cat("the vault: ", printable(answer.error().message, 256)));
    }
    if (!last) return;
    if (answer) know(false, "the vault: warden ended its answer");
    stream_.reset();
    retry_ = loop_.after(kRetry, [this] {
        retry_.drop();
        follow();
    });
}

void VaultWatch::know(bool unlocked, std::string wanted) {
    if (unlocked == unlocked_ && wanted == wanted_) return;
    unlocked_ = unlocked;
    wanted_ = std::move(wanted);
    changed_();
}

} // namespace nullbox::cage

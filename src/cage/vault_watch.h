// Whether the vault is open, as warden tells (its Watch stream), and what an operator does when it is not.
// Asks nothing before somebody needs to know, and from then on comes back by itself when warden does.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/loop.h"

namespace nullbox::varlink {
class PendingCall;
struct Answer;
} // namespace nullbox::varlink

namespace nullbox::cage {

class VaultWatch {
public:
    // changed: unlocked() or wanted() may be another now; called from the loop.
    VaultWatch(Loop& loop, std::string warden_socket, std::function<void()> changed);
    ~VaultWatch();

    void follow(); // from the first call on
    bool unlocked() const { return unlocked_; }
    // "the vault: nullctl vault unlock"; empty until the first answer, and while it is open.
    const std::string& wanted() const { return wanted_; }

private:
    void on_answer(Result<varlink::Answer> answer, bool last);
    void know(bool unlocked, std::string wanted);

    Loop& loop_;
    std::string socket_;
    std::function<void()> changed_;
    std::unique_ptr<varlink::PendingCall> stream_;
    Watch retry_;
    bool unlocked_ = false;
    std::string wanted_;
};

} // namespace nullbox::cage

// Stage 2: nulld as PID 1 in the real root. Sets the machine up, top to bottom, then runs it. A step that
// fails is a problem on the status screen, not the end: an operator must be able to reach the machine and fix
// it.
#pragma once

namespace nullbox::nulld {

[[noreturn]] void run_stage2();

} // namespace nullbox::nulld

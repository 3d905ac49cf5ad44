// The VM process: `cage vmm`, with the channel of cage/vmm_channel.h as descriptor 3.
#pragma once

namespace nullbox::cage {

// Runs one VM from Start to Ended. The process is over when it returns: the value is its exit status.
int vmm_main();

} // namespace nullbox::cage

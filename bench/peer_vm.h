// A peer's virtual machine monitor, run as a program of this machine until its guest says something.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"

namespace nullbox::bench {

struct FirstLine {
    double after_ms = 0;    // from the request to the line
    int64_t process_kb = 0; // VmRSS of the monitor's process at that time: with what its guest has touched
    double cpu_ms = 0;      // processor time of that process so far, its guest's among it
    std::string line;
};

// Runs argv with `root` as its root, waits for a line of its output that holds `until`, and kills it. A run
// that ends before, or takes longer than two, is an error that holds the last of its output.
Result<FirstLine> run_until_line(const std::string& root, const std::vector<std::string>& argv,
                                 const std::string& until);

// VmRSS of a process, from /proc.
Result<int64_t> resident_kb(int64_t pid);
// Processor time of all its threads, to 10 ms.
Result<double> cpu_ms(int64_t pid);

struct Activity {
    double wakeups = 0; // how often a thread had waited for something and went on
    double cpu_ms = 0;  // to 10 ms
};
// Of all threads of a process so far.
Result<Activity> activity(int64_t pid);

} // namespace nullbox::bench

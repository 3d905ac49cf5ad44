// A DNS server for tests, by UDP and if wanted by TCP, on a port of loopback and in a thread of its own.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"

namespace nullbox::egress {

class TestDns {
public:
    TestDns();
    ~TestDns();
    uint16_t port() const { return port_; }
    void set(std::string name, std::vector<std::string> addresses);
    int queries() const { return queries_; } // both ways
    int streams() const { return streams_; } // by TCP
    std::atomic<bool> by_tcp = false, lower_case = false, forge_first = false, fail_first = false;

private:
    bool bind_both();
    void serve();
    void serve_stream();
    std::string answer(std::string query);
    Fd socket_, listener_;
    uint16_t port_ = 0;
    std::mutex mutex_;
    std::map<std::string, std::vector<std::string>> addresses_;
    std::atomic<int> queries_ = 0, streams_ = 0;
    std::atomic<bool> over_ = false;
    std::thread thread_;
};

} // namespace nullbox::egress

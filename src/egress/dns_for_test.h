// A DNS server for tests, UDP only, on a port of loopback and in a thread of its own.
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
    int queries() const { return queries_; }
    std::atomic<bool> lower_case_by_udp = false, forge_first = false, fail_first = false;

private:
    void serve();
    std::string answer(std::string query);
    Fd socket_;
    uint16_t port_ = 0;
    std::mutex mutex_;
    std::map<std::string, std::vector<std::string>> addresses_;
    std::atomic<int> queries_ = 0;
    std::atomic<bool> over_ = false;
    std::thread thread_;
};

} // namespace nullbox::egress

// A folder of a test's own, gone with it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

namespace nullbox::ctxgraph {

class TestFolder {
public:
    TestFolder() {
        char name[] = "/tmp/nullbox-ctxgraph-XXXXXX";
        path_ = ::mkdtemp(name);
    }
    ~TestFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TestFolder(const TestFolder&) = delete;
    TestFolder& operator=(const TestFolder&) = delete;
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

} // namespace nullbox::ctxgraph
